"""Classification losses."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from reszoo.data import Source
from reszoo.ranges import Number, Several, check
from reszoo.words import LOSSES

_WEIGHTS = Several(Number(0, 1e9), "(1.0, 2.0)")


@keras.saving.register_keras_serializable(package="reszoo")
class ClassificationLoss(keras.losses.Loss):
    """Loss of each image, from its logits and its label.

    A label is a class, or a distribution over the classes where labels are smoothed or mixed. The
    binary cross entropy treats each class as a separate decision, and is the mean over the
    classes.

    The weight of a class multiplies the loss of its images; where the label is a distribution, the
    weights are averaged by the shares of the classes. As in Keras, the sum over a batch is divided
    by the number of images, not by the sum of the weights.

    Args:
        kind: `"categorical_crossentropy"` or `"binary_crossentropy"`.
        class_weights: A weight for each class; none if empty.
        target_threshold: Share of a class in a label above which the binary cross entropy counts
            the class as 1, and otherwise as 0; 0 uses the shares unchanged.
        **options: Arguments of every Keras loss.

    Raises:
        ValueError: If the loss is unknown, or a number is out of range.

    Reference:
        Wightman et al. 2021, "ResNet strikes back", section 2 (the binary cross entropy).

    Example:

    >>> loss = ClassificationLoss(class_weights=(1.0, 2.0))
    >>> print(loss.call(tf.constant([0, 1]), tf.zeros((2, 2))).numpy())
    [0.6931... 1.3862...]
    """

    def __init__(
        self,
        kind: str = "categorical_crossentropy",
        class_weights: Sequence[float] = (),
        target_threshold: float = 0.0,
        **options: Any,
    ):
        super().__init__(**options)
        if kind not in LOSSES:
            raise ValueError(f"There is no loss {kind!r}. Give one of {', '.join(LOSSES)}.")
        weights = check("class_weights", tuple(class_weights), _WEIGHTS)
        if weights and not any(weights):
            raise ValueError(f"class_weights must not be all 0, but got {weights}.")
        check("target_threshold", target_threshold, Number(0, 1, below=True))
        self.kind = kind
        self.class_weights = weights
        self.target_threshold = target_threshold

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each image.

        Args:
            y_true: Classes `(batch,)`, or distributions `(batch, classes)`.
            y_pred: Logits `(batch, classes)`.
        """
        y_true = _without_column(y_true)
        losses = self.unweighted(y_true, y_pred)
        if not self.class_weights:
            return losses
        weights = tf.constant(self.class_weights, losses.dtype)
        return losses * tf.linalg.matvec(_distributions(y_true, y_pred.shape[-1]), weights)

    def unweighted(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Returns the loss of each image without the weights of the classes, for testing."""
        y_true, logits = _without_column(y_true), tf.cast(y_pred, tf.float32)
        if self.kind == "binary_crossentropy":
            return self._binary(y_true, logits)
        kind = "categorical" if y_true.shape.rank == 2 else "sparse_categorical"
        loss_of: Any = getattr(keras.losses, f"{kind}_crossentropy")
        return loss_of(y_true, logits, from_logits=True)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "kind": self.kind,
            "class_weights": self.class_weights,
            "target_threshold": self.target_threshold,
        }

    def _binary(self, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        labels = _distributions(labels, logits.shape[-1])
        if self.target_threshold:
            labels = tf.cast(labels > self.target_threshold, tf.float32)
        losses: Any = keras.losses.binary_crossentropy(labels, logits, from_logits=True)
        return losses


def create_loss(config: ConfigDict, source: Source) -> ClassificationLoss:
    """Returns the loss of a run.

    Args:
        config: `name`, `class_weights` (numbers, or `"balanced"`) and `target_threshold`.
        source: The data set, whose classes are counted for `"balanced"`.

    Raises:
        ValueError: If the loss is unknown, or the weights do not fit the classes.
    """
    weights = config.class_weights
    if weights in ("balanced", ("balanced",)):
        weights = balanced_weights(source.counts_of_classes())
    if weights and (isinstance(weights, str) or len(weights) != source.num_classes):
        raise ValueError(
            f'loss.class_weights must be "balanced", or {source.num_classes} numbers, one for each '
            f"of the classes ({', '.join(source.class_names[:5])}...), but got {weights!r}."
        )
    return ClassificationLoss(config.name, weights, config.target_threshold)


def loss_of(model: keras.Model) -> ClassificationLoss:
    """Returns the `ClassificationLoss` that a model was compiled with, or else the cross entropy.

    Args:
        model: A model of logits.
    """
    loss = getattr(model, "loss", None)
    return loss if isinstance(loss, ClassificationLoss) else ClassificationLoss()


def balanced_weights(class_counts: Sequence[int]) -> tuple[float, ...]:
    """Returns weights that give all classes equal influence, with a mean of 1 over the images.

    Args:
        class_counts: Number of training images of each class.

    Raises:
        ValueError: If a class has no image.

    Example:

    >>> balanced_weights([30, 10])
    (0.6666666666666666, 2.0)
    """
    if 0 in class_counts:
        raise ValueError(
            f'loss.class_weights="balanced" needs images of every class, but the class '
            f"{list(class_counts).index(0)} has none. Give a weight for each class."
        )
    images, classes = sum(class_counts), len(class_counts)
    return tuple(images / (classes * count) for count in class_counts)


def _without_column(labels: tf.Tensor) -> tf.Tensor:
    """Returns labels in Keras's shape for classes, `(batch, 1)`, as `(batch,)`."""
    return labels[:, 0] if labels.shape.rank == 2 and labels.shape[1] == 1 else labels


def _distributions(labels: tf.Tensor, num_classes: int | None) -> tf.Tensor:
    if labels.shape.rank == 2:
        return tf.cast(labels, tf.float32)
    return tf.one_hot(labels, num_classes)
