"""Confusion matrices: the classes that a model does worst on, and the file `confusion.csv`."""

import csv
import dataclasses
import io
import os
from collections.abc import Sequence

import numpy as np

from reszoo.files import as_path, write_whole


@dataclasses.dataclass(frozen=True)
class ClassFigures:
    """Accuracy on the test examples of one class, and the most frequent wrong answer.

    Args:
        name: The class.
        examples: Number of its test examples.
        right: Number of those that the model gets right.
        taken_for: The most frequent wrong answer; `None` without any.
    """

    name: str
    examples: int
    right: int
    taken_for: str | None = None

    @property
    def accuracy(self) -> float:
        """Share of the class's examples that the model gets right."""
        return self.right / self.examples


def worst_classes(
    counts: np.ndarray, class_names: Sequence[str], number: int = 5
) -> list[ClassFigures]:
    """Returns the classes with the lowest accuracy, the worst first; only classes with mistakes.

    Args:
        counts: Counts of `ConfusionCounts`, of shape `(classes, classes)`.
        class_names: Names of the classes.
        number: The largest number of classes to return.

    Example:

    >>> worst_classes(np.array([[3, 1], [0, 5]]), ["cat", "dog"])
    [ClassFigures(name='cat', examples=4, right=3, taken_for='dog')]
    """
    wrong = counts - np.diag(np.diag(counts))
    figures = [
        ClassFigures(name, int(row.sum()), int(row[label]), class_names[int(wrong[label].argmax())])
        for label, (name, row) in enumerate(zip(class_names, counts, strict=True))
        if wrong[label].any()
    ]
    return sorted(figures, key=lambda of_class: of_class.accuracy)[:number]


def write_confusion(
    path: str | os.PathLike, counts: np.ndarray, class_names: Sequence[str]
) -> None:
    """Writes a confusion matrix as CSV: a row for each true class, a column for each answer.

    Args:
        path: The file.
        counts: Counts of `ConfusionCounts`, of shape `(classes, classes)`.
        class_names: Names of the classes.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["true class", *class_names])
    for name, row in zip(class_names, counts.tolist(), strict=True):
        rows.writerow([name, *row])
    write_whole(as_path(path), text.getvalue())
