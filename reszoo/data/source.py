"""Labelled images, split into training and test examples."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from reszoo.data.contents import Contents


@dataclasses.dataclass(frozen=True)
class Source:
    """Training and test examples of a data set, in a fixed order.

    Args:
        train: Training examples `(image, label)`, one at a time; images are `uint8`, or floats in
            `[0, 1]`, or strings that `read` takes; labels are integers.
        test: Test examples, likewise.
        train_examples: Number of training examples.
        test_examples: Number of test examples.
        image_shape: `(height, width, channels)`, in pixels; height and width are `None` where
            they differ between images.
        class_names: The name of each label.
        read: A function from the string in an example to the bytes of an encoded image; `None`
            where examples have decoded images.
        example_bytes: Approximate size of an encoded example in memory; `None` where examples have
            decoded images.
        reordered: A function from a seed to the training examples with their files in a random
            order; `None` where the examples can be shuffled as they are.
        class_counts: Number of training examples of each class; `None` if they are not counted.
        contents: Names and fingerprints of the examples, to detect changes; `None` if unknown.
    """

    train: tf.data.Dataset
    test: tf.data.Dataset
    train_examples: int
    test_examples: int
    image_shape: tuple[int | None, int | None, int]
    class_names: tuple[str, ...]
    read: Callable[[tf.Tensor], tf.Tensor] | None = None
    example_bytes: int | None = None
    reordered: Callable[[int], tf.data.Dataset] | None = None
    class_counts: tuple[int, ...] | None = None
    contents: Contents | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of the contents; empty if they are unknown."""
        return self.contents.digest if self.contents else ""

    @property
    def num_classes(self) -> int:
        """Number of classes; labels are below it."""
        return len(self.class_names)

    def counts_of_classes(self) -> tuple[int, ...]:
        """Returns the number of training examples of each class, and counts if needed.

        Raises:
            ValueError: If a label is out of range.
        """
        if self.class_counts is not None:
            return self.class_counts
        labels = list(self.train.map(lambda _, label: label).as_numpy_iterator())
        wrong = next((label for label in labels if not 0 <= label < self.num_classes), None)
        if wrong is not None:
            raise ValueError(
                f"A training example has the label {wrong}, but labels must be 0 to "
                f"{self.num_classes - 1}."
            )
        return tuple(np.bincount(labels, minlength=self.num_classes).tolist())
