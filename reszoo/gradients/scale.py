"""Scale of the gradients on a tape: loss scaling and accumulation."""

from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from reszoo.keras_internals import batch_counter


def loss_scale(optimizer: keras.optimizers.Optimizer) -> tf.Tensor | float:
    """Returns the factor by which the optimizer multiplied the loss.

    Args:
        optimizer: An optimizer, before its `apply`, which may change the scale.

    Returns:
        A scalar; 1 if the optimizer does not scale the loss.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.dynamic_scale.value if optimizer.built else optimizer.initial_scale
    return optimizer.loss_scale_factor or 1.0


def accumulation_steps(optimizer: keras.optimizers.Optimizer) -> int:
    """Returns the number of batches per update of the weights.

    Args:
        optimizer: Any Keras optimizer, also a `LossScaleOptimizer`.

    Returns:
        An integer of at least 1.
    """
    return updating_optimizer(optimizer).gradient_accumulation_steps or 1


def batches_applied(optimizer: keras.optimizers.Optimizer) -> int:
    """Returns the number of batches that an optimizer applied, without those it skipped.

    Args:
        optimizer: Any Keras optimizer. Its public `iterations` count the updates.
    """
    counted: Any = keras.ops.convert_to_numpy(applied_variable(optimizer))
    return int(counted)


def applied_variable(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """Returns the variable in which an optimizer counts the batches that it applied.

    Args:
        optimizer: Any Keras optimizer, also a `LossScaleOptimizer`.
    """
    return batch_counter(updating_optimizer(optimizer))


def updating_optimizer(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns the optimizer itself, or the one inside a `LossScaleOptimizer`.

    Args:
        optimizer: Any Keras optimizer, also a `LossScaleOptimizer`.

    Returns:
        The optimizer that updates the weights.
    """
    inner: Any = getattr(optimizer, "inner_optimizer", optimizer)
    return inner


def unscaled(sums: tf.Tensor, powers: Iterable[int], scale: tf.Tensor | float) -> tf.Tensor:
    """Returns sums of the gradients of the mean loss, given sums of the gradients on the tape.

    The batches of one update count as one large batch, whose mean loss is the mean of theirs.

    Args:
        sums: Shape `(..., sums)`, float64.
        powers: The power of the gradient's unit in each of the sums.
        scale: The factor of the loss, times the number of batches of an update.

    Returns:
        The same shape.
    """
    if isinstance(scale, int | float) and scale == 1:
        return sums
    return sums * (1 / tf.cast(scale, tf.float64)) ** tf.constant(list(powers), tf.float64)
