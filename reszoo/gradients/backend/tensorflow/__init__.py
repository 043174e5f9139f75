"""Recording with TensorFlow.

A tap is a custom gradient that computes sums. A step that is traced for recorded batches alone
writes those of all taps by one assignment. In others a tap adds to a variable of each replica, when
a switch on the device is on: one traced step serves all batches, and replicas add up without
communication.

- `reductions`: sums over tensors
- `taps`: a block's fork, merge and activation; the switch
- `passes`: the backward pass that is recorded
- `whole_step`: the sums of a step that is traced as a whole
- `update_tap`, `weight_sums`: an optimizer's update; sums of weights
- `model_taps`: the taps of a whole model, installed for a step and read in one transfer
- `recorded_fit`: the train function of `fit` while recorders observe a model
- `path_gradients`: the gradient by one path at a time
- `functions`: functions of arrays, compiled and differentiated
- `trace`, `additions`: the data flow in layers; the functions that add tensors
"""

import keras

from reszoo import updates
from reszoo.gradients.backend.tensorflow import additions as additions
from reszoo.gradients.backend.tensorflow import reductions as reductions
from reszoo.gradients.backend.tensorflow.functions import call_with_value as call_with_value
from reszoo.gradients.backend.tensorflow.functions import compiled as compiled
from reszoo.gradients.backend.tensorflow.functions import float64 as float64
from reszoo.gradients.backend.tensorflow.functions import value_and_gradients as value_and_gradients
from reszoo.gradients.backend.tensorflow.model_taps import ModelTaps as ModelTaps
from reszoo.gradients.backend.tensorflow.path_gradients import path_gradients as path_gradients
from reszoo.gradients.backend.tensorflow.recorded_fit import recorded_fit as recorded_fit
from reszoo.gradients.backend.tensorflow.trace import traced as traced


def batches_applied(model: keras.Model) -> int:
    """Returns the number of batches that a model's optimizer applied, without those it skipped.

    Args:
        model: A compiled model.
    """
    return updates.batches_applied(model.optimizer)
