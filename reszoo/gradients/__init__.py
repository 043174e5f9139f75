"""Recording the gradient of each path of a residual block while a model trains."""

from reszoo.gradients.alarm_log import read_findings as read_findings
from reszoo.gradients.alarms import Alarm as Alarm
from reszoo.gradients.alarms import DeadBranch as DeadBranch
from reszoo.gradients.alarms import Exploding as Exploding
from reszoo.gradients.alarms import NonFinite as NonFinite
from reszoo.gradients.alarms import SaturatedScale as SaturatedScale
from reszoo.gradients.alarms import Vanishing as Vanishing
from reszoo.gradients.check import check as check
from reszoo.gradients.instrument import instrument as instrument
from reszoo.gradients.log import load as load
from reszoo.gradients.log import load_histograms as load_histograms
from reszoo.gradients.log import load_variables as load_variables
from reszoo.gradients.log import records as records
from reszoo.gradients.path_lengths import gradient_by_path_length as gradient_by_path_length
from reszoo.gradients.recorder import GradientRecorder as GradientRecorder
