"""Which classes a model takes for which: counted over the test examples."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from reszoo.files import as_path, write_whole
from reszoo.gradients.taps import Accumulator

CONFUSION_FILE = "confusion.csv"


@dataclasses.dataclass(frozen=True)
class ClassFigures:
    """How a model does on the test examples of one class.

    Args:
        name: The class.
        examples: Number of its test examples.
        right: Number of those that the model gets right.
        taken_for: The class that it takes most of the others for; `None` if there are none.
    """

    name: str
    examples: int
    right: int
    taken_for: str | None = None

    @property
    def accuracy(self) -> float:
        """The share of its examples that the model gets right."""
        return self.right / self.examples


class ConfusionCounts(keras.callbacks.Callback):
    """Counts in every test how many examples of each class the model takes for each class.

    The devices count while they test, so that it costs nothing beside: `fit` and `evaluate` call
    `count_answers` in the step of each replica. Made in the scope of the strategy of `fit`, in
    every process; for `evaluate`, outside of any.

    Args:
        num_classes: Number of classes.

    Attributes:
        counts: Those of the last test, `None` before the first: whole numbers of shape
            `(classes, classes)`. Rows are what is true, columns what the model says; all of them
            together are the test examples, those on the diagonal the right answers.

    Example:

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
        self.counts = None
        self._on_devices = Accumulator((num_classes, num_classes))

    def count_answers(self, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor) -> None:
        """Counts the examples of one replica's batch.

        Args:
            labels: `(batch,)`, integers.
            logits: `(batch, classes)`.
            weights: `(batch,)`, 1 for an example and 0 for padding.
        """
        answers = tf.argmax(logits, axis=-1, output_type=labels.dtype)
        places = tf.stack([labels, answers], axis=1)
        shape = tf.constant(self._on_devices.variable.shape.as_list(), labels.dtype)
        weights = tf.cast(weights, self._on_devices.variable.dtype)
        self._on_devices.add(tf.scatter_nd(places, weights, shape))

    def on_test_begin(self, logs=None):
        variable = self._on_devices.variable
        variable.assign(tf.zeros(variable.shape, variable.dtype))

    def on_test_end(self, logs=None):
        self.counts = self._on_devices.variable.numpy().astype(np.int64)


def worst_classes(
    counts: np.ndarray, class_names: Sequence[str], number: int = 5
) -> list[ClassFigures]:
    """Returns the classes that a model does worst on, the worst first, without any mistake none.

    Args:
        counts: Those of `ConfusionCounts`.
        class_names: Names of the classes.
        number: How many at most.

    Example:

    >>> worst_classes(np.array([[3, 1], [0, 5]]), ["cat", "dog"])
    [ClassFigures(name='cat', examples=4, right=3, taken_for='dog')]
    """
    wrong = counts - np.diag(np.diag(counts))
    figures = [
        ClassFigures(name, int(row.sum()), int(row[label]), class_names[wrong[label].argmax()])
        for label, (name, row) in enumerate(zip(class_names, counts, strict=True))
        if wrong[label].any()
    ]
    return sorted(figures, key=lambda of_class: of_class.accuracy)[:number]


def write_confusion(path: str | Path, counts: np.ndarray, class_names: Sequence[str]) -> None:
    """Writes a confusion matrix as CSV: a row for each true class, a column for each answer.

    Args:
        path: The file.
        counts: Those of `ConfusionCounts`.
        class_names: Names of the classes.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["true class", *class_names])
    for name, row in zip(class_names, counts.tolist(), strict=True):
        rows.writerow([name, *row])
    write_whole(as_path(path), text.getvalue())
