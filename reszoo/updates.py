"""Updates of an optimizer: its loss scale, the batches of an update, and those applied."""

from typing import Any

import keras

from reszoo.keras_internals import batch_counter


def optimizer_of(model: keras.Model) -> keras.optimizers.Optimizer | None:
    """Returns the optimizer that a model is compiled with, `None` if it is not compiled.

    Args:
        model: Any model. Keras gives it the attribute only when it is compiled.
    """
    return getattr(model, "optimizer", None)


def loss_scale(optimizer: keras.optimizers.Optimizer) -> Any:
    """Returns the factor by which the optimizer multiplied the loss.

    Args:
        optimizer: An optimizer, before its `apply`, which may change the scale.

    Returns:
        A scalar; 1 if the optimizer does not scale the loss.
    """
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.dynamic_scale.value if optimizer.built else optimizer.initial_scale
    return optimizer.loss_scale_factor or 1.0


def accumulation_steps(optimizer: keras.optimizers.Optimizer | None) -> int:
    """Returns the number of batches per update of the weights.

    Args:
        optimizer: Any Keras optimizer, also a `LossScaleOptimizer`; `None` for a model that is not
            compiled.

    Returns:
        An integer of at least 1.
    """
    return (
        1 if optimizer is None else updating_optimizer(optimizer).gradient_accumulation_steps or 1
    )


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


def optimizer_classes() -> list[type]:
    """Returns every class of optimizers that is defined."""
    kinds = [kind for kind in keras.optimizers.Optimizer.__mro__ if kind is not object]
    for kind in kinds:
        kinds += [
            sub
            for sub in kind.__subclasses__()
            if sub not in kinds and issubclass(sub, keras.optimizers.Optimizer)
        ]
    return kinds
