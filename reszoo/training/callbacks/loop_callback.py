"""Base class of the callbacks of the training loop, with the members that the loop uses."""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# Figures by name; Keras's methods may be called without any.
Logs = Any


class LoopCallback(keras.callbacks.Callback):
    """A Keras callback with the members that `reszoo.training.fit` uses beside Keras's own methods.

    `fit` calls `begin_at` before `on_train_begin`. Where `records` is true, it passes the step of
    one replica to `recorded`, and runs the returned step for the batches that are `due`, the plain
    step for all others. It runs at most `batches_ahead` batches before callbacks are called again.
    In each step of a test it calls `count_answers`, on each replica. Where `told_to_stop` is true
    in any process, it calls `stop` in all of them, after the same batch. At the end, also when
    training raises, it calls `close`.

    The defaults do nothing. Any other Keras callback may have some of these members too
    (`GradientRecorder` does); the loop takes the defaults for those that it lacks.

    Attributes:
        records: Whether the callback records steps.
        due: Whether the next batch is to be recorded.
        batches_ahead: Number of batches that may run before the callback has to be called again;
            the same in all processes.
        told_to_stop: Whether this process was told to end the training.
    """

    # Keras sets them before any call, though its types allow `None`.
    model: Any
    params: Any

    records: bool = False
    due: bool = False
    batches_ahead: float = math.inf
    told_to_stop: bool = False

    def begin_at(self, batch: int) -> None:
        """Receives the batch with which training begins.

        Args:
            batch: Number of batches trained on before, over all starts.
        """

    def recorded(self, step: Callable, asks: bool = True) -> Callable:
        """Returns a training step that is recorded.

        Args:
            step: The step of one replica, not traced yet.
            asks: Whether the step also runs batches that are due only for other recorders.
        """
        return step

    def count_answers(self, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> None:
        """Counts the examples of one replica's batch of a test.

        Args:
            labels: `(batch,)`, integers.
            logits: `(batch, classes)`.
            weights: `(batch,)`, 1 for an example and 0 for padding.
        """

    def stop(self) -> None:
        """Ends the training by raising an error, now or at a later call."""

    def close(self) -> None:
        """Closes files and releases other resources."""
