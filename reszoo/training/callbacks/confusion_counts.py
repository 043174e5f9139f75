"""Confusion matrix of every test."""

import numpy as np
import tensorflow as tf

from reszoo.accumulator import Accumulator
from reszoo.training.callbacks.loop_callback import Logs, LoopCallback


class ConfusionCounts(LoopCallback):
    """Counts the confusion matrix of every test.

    The devices count as a part of the test step: `fit` and `evaluate` call `count_answers` in the
    step of each replica. For `fit` the callback must be created in the scope of its strategy, in
    every process; for `evaluate`, outside of any scope.

    Args:
        num_classes: Number of classes.

    Attributes:
        counts: Counts of the last test, `None` before the first: whole numbers of shape
            `(classes, classes)`. Rows are true classes, columns the model's answers. Their sum is
            the number of test examples; the diagonal has the right answers.

    Example:

    >>> import keras
    >>> from reszoo.data import Pipeline, load_source
    >>> from reszoo.training.loop import evaluate
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                           keras.layers.Dense(10)])
    >>> confusion = ConfusionCounts(10)
    >>> pipeline = Pipeline(load_source("digits"), batch_size=100)
    >>> _ = evaluate(model, pipeline, callbacks=[confusion])
    >>> int(confusion.counts.sum())
    360
    """

    def __init__(self, num_classes: int):
        super().__init__()
        self.counts: np.ndarray | None = None
        self._shape = (num_classes, num_classes)
        self._on_devices = Accumulator(self._shape)

    def count_answers(self, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> None:
        """Counts the examples of one replica's batch.

        Args:
            labels: `(batch,)`, integers.
            logits: `(batch, classes)`.
            weights: `(batch,)`, 1 for an example and 0 for padding.
        """
        answers = tf.argmax(logits, axis=-1, output_type=labels.dtype)
        places = tf.stack([labels, answers], axis=1)
        shape = tf.constant(self._shape, labels.dtype)
        weights = tf.cast(weights, self._on_devices.variable.dtype)
        self._on_devices.add(tf.scatter_nd(places, weights, shape))

    def on_test_begin(self, logs: Logs = None) -> None:
        variable = self._on_devices.variable
        variable.assign(tf.zeros(variable.shape, variable.dtype))

    def on_test_end(self, logs: Logs = None) -> None:
        self.counts = self._on_devices.variable.numpy().astype(np.int64)
