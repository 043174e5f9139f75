"""Base class of the callbacks of the training loop, with all that the loop asks of one."""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

# Figures by their names, or `None`: a caller of Keras's methods need not give them.
Logs = Any


class LoopCallback(keras.callbacks.Callback):
    """A Keras callback that knows what `reszoo.training.fit` asks for beside Keras's own methods.

    It calls `begin_at` before `on_train_begin`. Where `records` is true it gives `recorded` the
    step of one replica, and runs what comes back for the batches that are `due`, the plain step for
    all others. It runs no more batches than `batches_ahead` before callbacks are called again. In
    each step of a test it calls `count_answers`, on each replica. Where `told_to_stop` is true in
    any process, it calls `stop` in all of them, after the same batch. At the end, also when
    training raises, it calls `close`.

    The defaults ask for nothing. Any other Keras callback may have some of these members too
    (`GradientRecorder` does); the loop takes the defaults for those that it has not.

    Attributes:
        records: Whether it has steps recorded.
        due: Whether the batch that comes next is to be recorded.
        batches_ahead: How many batches may run before it has to be called again. All processes
            have to agree.
        told_to_stop: Whether this process was told to end the training.
    """

    # Keras has them set before it calls anything, but says that they may be missing.
    model: Any
    params: Any

    records: bool = False
    due: bool = False
    batches_ahead: float = math.inf
    told_to_stop: bool = False

    def begin_at(self, batch: int) -> None:
        """Says which batch training begins with.

        Args:
            batch: How many batches were trained on before, in all runs.
        """

    def recorded(self, step: Callable, asks: bool = True) -> Callable:
        """Returns a training step that is recorded.

        Args:
            step: The step of one replica, not traced yet.
            asks: Whether it also runs batches that are not due, which other recorders want.
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
        """Ends the training, by an error, now or at a later call."""

    def close(self) -> None:
        """Lets go of files and the like."""
