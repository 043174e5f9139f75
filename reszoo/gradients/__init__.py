"""Recording the gradient of each path of a residual block while a model trains."""

from reszoo.gradients.instrument import instrument as instrument
from reszoo.gradients.log import load as load
from reszoo.gradients.log import records as records
from reszoo.gradients.path_lengths import gradient_by_path_length as gradient_by_path_length
from reszoo.gradients.recorder import GradientRecorder as GradientRecorder
