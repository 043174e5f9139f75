"""The list of callbacks that the training loop drives."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from reszoo.training.callbacks.loop_callback import LoopCallback


class LoopCallbackList(keras.callbacks.CallbackList):
    """Keras's list of callbacks, with the members of `LoopCallback` combined over all of them.

    Of a callback that is not a `LoopCallback`, the members that it has are used.

    Args:
        callbacks: Keras callbacks, called in their order.
        model: The model that is trained or tested.
        **params: Entries of the callbacks' `params`: `epochs`, `steps`.

    Attributes:
        recorders: The callbacks that record steps.
        counters: The functions that count the answers of each test.

    Example:

    >>> LoopCallbackList([keras.callbacks.TerminateOnNaN()], model=None).batches_ahead
    inf
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        model: keras.Model | None,
        **params: Any,
    ):
        super().__init__(list(callbacks), model=model, **params)
        self._asked = [_as_loop_callback(callback) for callback in callbacks]
        self.recorders = [callback for callback in self._asked if callback.records]
        self.counters = [callback.count_answers for callback in self._asked]

    def begin_at(self, batch: int) -> None:
        """Tells all callbacks the batch with which training begins."""
        for callback in self._asked:
            callback.begin_at(batch)

    @property
    def batches_ahead(self) -> float:
        """Batches that may run before callbacks have to be called again."""
        return min(callback.batches_ahead for callback in [LoopCallback, *self._asked])

    @property
    def told_to_stop(self) -> bool:
        """Request to end the training: whether any of the callbacks has received one."""
        return any(callback.told_to_stop for callback in self._asked)

    def stop(self) -> None:
        """Calls `stop` of all callbacks."""
        for callback in self._asked:
            callback.stop()

    def close(self) -> None:
        """Closes all callbacks in their order, also when one of them raises."""
        with contextlib.ExitStack() as stack:
            for callback in reversed(self._asked):
                stack.callback(callback.close)


class _Adapted(LoopCallback):
    """Adapter of another Keras callback, with defaults for the members that it lacks."""

    def __init__(self, callback: keras.callbacks.Callback):
        super().__init__()
        self._callback = callback

    @property
    def records(self) -> bool:
        return hasattr(self._callback, "recorded")

    @property
    def due(self) -> bool:
        return self._member("due")

    @property
    def batches_ahead(self) -> float:
        return self._member("batches_ahead")

    @property
    def told_to_stop(self) -> bool:
        return self._member("told_to_stop")

    def begin_at(self, batch: int) -> None:
        self._member("begin_at")(batch)

    def recorded(self, step: Callable, asks: bool = True) -> Callable:
        return self._member("recorded")(step, asks=asks)

    def count_answers(self, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> None:
        self._member("count_answers")(labels, logits, weights)

    def stop(self) -> None:
        self._member("stop")()

    def close(self) -> None:
        self._member("close")()

    def _member(self, name: str) -> Any:
        return getattr(self._callback, name, getattr(super(), name))


def _as_loop_callback(callback: keras.callbacks.Callback) -> LoopCallback:
    return callback if isinstance(callback, LoopCallback) else _Adapted(callback)
