"""Recording the gradient of each path of a residual block while a model trains.

A block takes `x` to `y = activation(s(x) + f(x))`. Its fork and its merge see all of it:

    forward                              backward

          x                                g_x = g_skip + g_branch
          |                                         ^
        fork ---------+                           fork <--------+
          |           |                             ^           |
          | skip      | branch               g_skip |           | g_branch
          v           v                             |           |
        s(x)        f(x)                      s backward   f backward
          |           |                             ^           ^
          v           |                             |           |
        merge <-------+                           merge --------+
          |                                         ^
          v                                         |
    y = activation(s(x) + f(x))                    g_y

From the callback down to a tensor:

- `recorder`: the callback `GradientRecorder`, glue only
- `recorded_training`: one recorded training, from its first batch to its end
- `cadence`, `positions`, `continuation`: the step that is due, the batches before it, and the
  training whose log is in a directory
- `first_batch`: models that are built by their first batch
- `blocks`, `instrumentation`, `search`: residual blocks, as layers or found in a model
- `block_layers`: the layers along the paths of a block, for the log
- `found_block`, `flow`: what is found, and the search for it in a flow of gradients
- `graph`: additions in the graph of a functional model
- `calls`, `call_stack`, `traced_calls`, `located`, `block_names`: additions inside of layers
- `measures`: the sums at each place of a block: formulas, names, and the sets that need them
- `backend`: taps, sums over tensors and the patches of `fit`, a package for each Keras backend
- `observed_fit`, `kept_fit`: the part of a recorded `fit` that all backends share; what it has
  traced, for the next one
- `patching`: attributes that are replaced temporarily

And on the host, without a backend of Keras:

- `left_out`: sums that a recorded step does not have
- `statistics`: norms, cosines and shares, derived from the sums
- `log`: the event file, written and read; its format imports no framework
- `alarms`, `alarm_log`: conditions on the statistics; the steps at which they went off
- `path_lengths`, `series`: the gradient by the length of its path, outside of training; blocks in
  series whose forks take one path
- `gradient_check`, `perturbed`, `finite_differences`, `double_precision`: gradients compared with
  finite differences, in float64
"""

import importlib
from typing import TYPE_CHECKING, Any

from reszoo.gradients.alarm_log import read_findings as read_findings
from reszoo.gradients.log import load as load
from reszoo.gradients.log import load_histograms as load_histograms
from reszoo.gradients.log import load_layers as load_layers
from reszoo.gradients.log import load_loss as load_loss
from reszoo.gradients.log import load_variables as load_variables
from reszoo.gradients.log import records as records

if TYPE_CHECKING:
    from reszoo.gradients.alarms import Alarm as Alarm
    from reszoo.gradients.alarms import DeadBranch as DeadBranch
    from reszoo.gradients.alarms import Exploding as Exploding
    from reszoo.gradients.alarms import GrowingStream as GrowingStream
    from reszoo.gradients.alarms import NonFinite as NonFinite
    from reszoo.gradients.alarms import SaturatedScale as SaturatedScale
    from reszoo.gradients.alarms import Vanishing as Vanishing
    from reszoo.gradients.gradient_check import check as check
    from reszoo.gradients.instrumentation import instrument as instrument
    from reszoo.gradients.path_lengths import gradient_by_path_length as gradient_by_path_length
    from reszoo.gradients.recorder import GradientRecorder as GradientRecorder

# What needs Keras is imported when it is first used: reading a log needs neither it nor a backend.
_ROOMS = {
    "Alarm": "alarms",
    "DeadBranch": "alarms",
    "Exploding": "alarms",
    "GrowingStream": "alarms",
    "NonFinite": "alarms",
    "SaturatedScale": "alarms",
    "Vanishing": "alarms",
    "check": "gradient_check",
    "instrument": "instrumentation",
    "gradient_by_path_length": "path_lengths",
    "GradientRecorder": "recorder",
}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
