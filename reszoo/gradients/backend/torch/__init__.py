"""Recording with PyTorch.

PyTorch runs a step operation by operation, so the host knows which batch is recorded: only in that
one are there taps, and all others run unchanged. A tap is an autograd function, or a hook of a
tensor, that computes sums as soon as the gradient is there. They stay on the device until the step
is over.

- `reductions`: sums over tensors, and their transfer to the host
- `many_tensors`: sums over each of many tensors at once
- `passes`: the backward pass that is recorded
- `block_sums`: the sums of one block
- `taps`: a block's fork, merge and activation
- `switch`: the batch that is recorded
- `update_taps`, `weight_sums`: an optimizer's update; sums of weights
- `model_taps`: the taps of a whole model, installed for a step and read in one transfer
- `processes`: the processes of `torch.distributed`
- `recorded_fit`: the train function of `fit` while recorders observe a model
- `path_gradients`: the gradient by one path at a time
- `functions`: functions of arrays, run and differentiated
"""

import keras

from reszoo import updates
from reszoo.gradients.backend.torch import reductions as reductions
from reszoo.gradients.backend.torch.functions import call_with_value as call_with_value
from reszoo.gradients.backend.torch.functions import compiled as compiled
from reszoo.gradients.backend.torch.functions import float64 as float64
from reszoo.gradients.backend.torch.functions import value_and_gradients as value_and_gradients
from reszoo.gradients.backend.torch.model_taps import ModelTaps as ModelTaps
from reszoo.gradients.backend.torch.path_gradients import path_gradients as path_gradients
from reszoo.gradients.backend.torch.recorded_fit import recorded_fit as recorded_fit


def batches_applied(model: keras.Model) -> int:
    """Returns the number of batches that a model's optimizer applied, without those it skipped.

    Args:
        model: A model; if it is not compiled, nothing counts its batches.
    """
    optimizer = updates.optimizer_of(model)
    return 0 if optimizer is None else updates.batches_applied(optimizer)
