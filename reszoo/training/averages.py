"""Averaged weights, which are tested and saved where the optimizer keeps averages."""

import contextlib
from collections.abc import Iterator

import keras

from reszoo.keras_internals import average_of_each_weight
from reszoo.updates import updating_optimizer


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Replaces a model's weights by their averages within a context.

    Without `use_ema` in its optimizer the model stays as it is.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile(keras.optimizers.SGD(use_ema=True))
    >>> model.optimizer.build(model.trainable_variables)
    >>> with averaged_weights(model):
    ...     len(model.get_weights())
    2
    """
    optimizer = updating_optimizer(model.optimizer)
    if not optimizer.use_ema:
        yield
        return
    averages = average_of_each_weight(optimizer)
    trained = [variable.value.numpy() for variable, _ in averages]
    for variable, average in averages:
        if average is not None:
            variable.assign(average.value.numpy())
    try:
        yield
    finally:
        for (variable, _), value in zip(averages, trained, strict=True):
            variable.assign(value)
