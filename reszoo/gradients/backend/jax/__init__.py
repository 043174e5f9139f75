"""Recording with JAX.

A step is a function without side effects, so a tap is an argument whose gradient is the sums. Of
two functions of a step, the plain one and the recorded one, the host chooses one for each batch.

- `reductions`: sums over tensors, in float64
- `taps`: a block's fork, merge and activation
- `passes`: the backward passes of a step
- `update_tap`: an optimizer's update
- `model_taps`: the taps of a whole model, installed for a step and read in one transfer
- `recorded_fit`: the train function of `fit` while recorders observe a model
- `path_gradients`: the gradient by one path at a time
- `functions`: functions of arrays, compiled and differentiated
"""

import keras

from reszoo import updates
from reszoo.gradients.backend.jax import reductions as reductions
from reszoo.gradients.backend.jax.functions import call_with_value as call_with_value
from reszoo.gradients.backend.jax.functions import compiled as compiled
from reszoo.gradients.backend.jax.functions import float64 as float64
from reszoo.gradients.backend.jax.functions import value_and_gradients as value_and_gradients
from reszoo.gradients.backend.jax.model_taps import ModelTaps as ModelTaps
from reszoo.gradients.backend.jax.path_gradients import path_gradients as path_gradients
from reszoo.gradients.backend.jax.recorded_fit import fit_of
from reszoo.gradients.backend.jax.recorded_fit import recorded_fit as recorded_fit


def batches_applied(model: keras.Model) -> int:
    """Returns the number of batches that a model's optimizer applied, without those it skipped.

    Args:
        model: A compiled model.
    """
    fit = fit_of(model)
    applied = fit.batches_applied() if fit else None
    if applied is not None:
        return applied
    model.jax_state_sync()  # between executions `fit` gives the variables their values if asked
    return updates.batches_applied(model.optimizer)
