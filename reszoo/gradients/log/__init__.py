"""The log: one packed tensor per recorded step, in a TensorBoard event file.

A log directory holds one event file per training that wrote to it. Each recorded step is one event
under the tag `gradient_flow`: a tensor of shape `(blocks, statistics)`, float32, or float64 where
float32 cannot hold one of its values, such as a norm above 3.4e38. The first such event of a file
has, in its summary metadata, a JSON text that names and describes the blocks and the statistics.
A few scalars about the whole model are written with it.

TensorBoard keeps only the header of a tag's first event in a directory. So a file whose header
differs from that one has its own tag, `gradient_flow@` and a digest of its header. The tables of a
file, such as `gradient_flow_histograms`, then have that digest too.

A file opens with the step at which its training began. Records of older files from that step on
were undone by a restart, and are left out when reading, as TensorBoard does.

- `format`, `packed_layers`: tags, version, headers and layers in them; import no framework
- `writer`, `reader`: the events of records, written and read
- `event_files`: the files of a directory, and the events in one
- `tables`: a log as a table with one number per row
"""

from reszoo.gradients.log.event_files import LeftOutWarning as LeftOutWarning
from reszoo.gradients.log.event_files import event_files as event_files
from reszoo.gradients.log.format import ALARMS_TAG as ALARMS_TAG
from reszoo.gradients.log.format import FINDINGS_TAG as FINDINGS_TAG
from reszoo.gradients.log.format import GRADIENTS_DIRECTORY as GRADIENTS_DIRECTORY
from reszoo.gradients.log.format import HISTOGRAMS_TAG as HISTOGRAMS_TAG
from reszoo.gradients.log.format import PLUGIN_NAME as PLUGIN_NAME
from reszoo.gradients.log.format import TAG as TAG
from reszoo.gradients.log.format import VARIABLES_TAG as VARIABLES_TAG
from reszoo.gradients.log.format import log_directories as log_directories
from reszoo.gradients.log.reader import records as records
from reszoo.gradients.log.tables import load as load
from reszoo.gradients.log.tables import load_histograms as load_histograms
from reszoo.gradients.log.tables import load_layers as load_layers
from reszoo.gradients.log.tables import load_loss as load_loss
from reszoo.gradients.log.tables import load_variables as load_variables
from reszoo.gradients.log.writer import LogWriter as LogWriter
