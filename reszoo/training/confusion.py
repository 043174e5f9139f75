"""Which classes a model takes for which: counted over the test examples."""

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from reszoo.data import Pipeline
from reszoo.training.metrics import write_atomically

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


def confusion_matrix(model: keras.Model, pipeline: Pipeline) -> np.ndarray:
    """Returns how many test examples of each class the model takes for each class.

    Args:
        model: A model of logits.
        pipeline: The batches.

    Returns:
        Whole numbers of shape `(classes, classes)`: rows are what is true, columns what the model
        says. All of them together are the test examples, those on the diagonal the right answers.

    Example:

    >>> from reszoo.data import Pipeline, load_source
    >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(),
    ...                           keras.layers.Dense(10)])
    >>> int(confusion_matrix(model, Pipeline(load_source("digits"), batch_size=100)).sum())
    360
    """

    @tf.function(autograph=False)
    def answer(images):
        return tf.argmax(model(images, training=False), axis=-1)

    classes = pipeline.source.num_classes
    counts = np.zeros((classes, classes), np.int64)
    for images, labels, weights in pipeline.test_batches():
        real = weights.numpy() > 0
        np.add.at(counts, (labels.numpy()[real], answer(images).numpy()[real]), 1)
    return counts


def worst_classes(
    counts: np.ndarray, class_names: Sequence[str], number: int = 5
) -> list[ClassFigures]:
    """Returns the classes that a model does worst on, the worst first, without any mistake none.

    Args:
        counts: What `confusion_matrix` returns.
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
        counts: What `confusion_matrix` returns.
        class_names: Names of the classes.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["true class", *class_names])
    for name, row in zip(class_names, counts.tolist(), strict=True):
        rows.writerow([name, *row])
    write_atomically(Path(path), text.getvalue())
