"""Random changes of training images, by Keras's preprocessing layers with stateless seeds."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

from reszoo.keras_internals import draw_seeds_from
from reszoo.ranges import Number, Switch, Whole, check_fields

DTYPE = "float32"  # of images, whatever the dtype policy of the model

RANGES = {
    "flip": Switch(),
    "label_smoothing": Number(0, 1, below=True),
    "mixup": Number(0, 1e9),
    "cutmix": Number(0, 1),
    "rand_augment": Whole(0, 100),
    "rand_augment_strength": Number(0, 1),
    "random_erasing": Number(0, 1),
}


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of single training images, and mixing of the images of a batch.

    Keras's preprocessing layers do the work. Their random numbers depend on the seed of a call
    alone, so that a resumed run draws the same ones.

    Args:
        flip: Whether half of the images are mirrored left to right.
        label_smoothing: Share of each label that is spread over all classes.
        mixup: `alpha` of mixup; 0: none. With CutMix too, each batch gets one of them.
        cutmix: `factor` of CutMix; 0: none.
        rand_augment: Number of operations of RandAugment on each image; 0: none.
        rand_augment_strength: Between 0 and 1, on Keras's scale: images are rotated by up to this
            share of a full turn, sheared and shifted by up to this share of their size, changed in
            brightness, contrast, colour and sharpness by up to this share, and posterized by this
            share of four bits.
        random_erasing: Share of the images in which a rectangle is erased.

    Raises:
        ValueError: If a number is out of range.

    Reference:
        Zhang et al. 2018, "mixup", section 2; Yun et al. 2019, "CutMix", section 3; Cubuk et al.
        2020, "RandAugment", section 3; Zhong et al. 2020, "Random erasing", section 3.

    Example:

    >>> Augmentation(mixup=0.2).softens_labels
    True
    """

    flip: bool = False
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    rand_augment: int = 0
    rand_augment_strength: float = 0.5
    random_erasing: float = 0.0
    _image_layers: tuple[keras.Layer, ...] = dataclasses.field(
        init=False, repr=False, compare=False
    )
    _batch_layers: tuple[keras.Layer, ...] = dataclasses.field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        check_fields(self, RANGES)
        # Made here, since layers make variables, which a function of `Dataset.map` must not.
        object.__setattr__(self, "_image_layers", tuple(_image_layers(self)))
        object.__setattr__(self, "_batch_layers", tuple(_batch_layers(self)))

    @property
    def softens_labels(self) -> bool:
        """Whether labels become distributions over the classes."""
        return bool(self.label_smoothing or self.mixup or self.cutmix)

    def change_image(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Returns an image changed at random.

        Args:
            image: `(height, width, channels)`, in `[0, 1]`.
            seed: Shape `(2,)`, integers.
        """
        if self.flip:
            image = tf.image.stateless_random_flip_left_right(image, seed + 1)
        seeds = _Seeds(seed)
        for layer in self._image_layers:
            drawn = _drawn(layer, image[None], seeds)
            image = layer.transform_images(image[None], drawn)[0]
        return image

    def mix_batch(
        self, images: tf.Tensor, labels: tf.Tensor, num_classes: int, seed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns a batch with its images mixed, and with labels that are distributions.

        Args:
            images: `(batch, height, width, channels)`.
            labels: `(batch,)`, integers.
            num_classes: Length of a distribution.
            seed: Shape `(2,)`, integers.
        """
        off = self.label_smoothing / num_classes
        labels = tf.one_hot(labels, num_classes, 1 - self.label_smoothing + off, off)
        if not self._batch_layers:
            return images, labels
        seeds = _Seeds(seed)
        mixed = [_mixed(layer, images, labels, seeds) for layer in self._batch_layers]
        if len(mixed) == 1:
            return mixed[0]
        first = tf.random.stateless_uniform([], seeds.next()) < 0.5
        return tf.cond(first, lambda: mixed[0], lambda: mixed[1])


def _image_layers(augmentation: Augmentation) -> Iterator[keras.Layer]:
    if augmentation.rand_augment:
        yield _rand_augment(augmentation.rand_augment, augmentation.rand_augment_strength)
    if augmentation.random_erasing:
        share = augmentation.random_erasing
        factor: Any = (share, share)  # Keras takes a range too, but its hint says a number
        yield keras.layers.RandomErasing(factor=factor, value_range=(0, 1), dtype=DTYPE)


def _rand_augment(operations: int, strength: float) -> keras.Layer:
    options = {"value_range": (0, 1), "dtype": DTYPE}
    layer = keras.layers.RandAugment(num_ops=operations, factor=strength, **options)
    # Keras's own layer keeps more bits the greater the strength is, and as few as one.
    bits = 8 - round(4 * strength)
    layer.random_posterization = keras.layers.RandomPosterization((bits, bits), **options)
    return layer


def _batch_layers(augmentation: Augmentation) -> Iterator[keras.Layer]:
    if augmentation.mixup:
        yield keras.layers.MixUp(alpha=augmentation.mixup, dtype=DTYPE)
    if augmentation.cutmix:
        yield keras.layers.CutMix(factor=augmentation.cutmix, dtype=DTYPE)


def _mixed(
    layer: Any, images: tf.Tensor, labels: tf.Tensor, seeds: "_Seeds"
) -> tuple[tf.Tensor, tf.Tensor]:
    drawn = _drawn(layer, images, seeds)
    mixed = layer.transform_images(images, drawn), layer.transform_labels(labels, drawn)
    return tf.ensure_shape(mixed[0], images.shape), tf.ensure_shape(mixed[1], labels.shape)


def _drawn(layer: Any, images: tf.Tensor, seeds: "_Seeds") -> Any:
    draw_seeds_from(layer, seeds)
    return layer.get_random_transformation(images, seed=seeds)


class _Seeds(keras.random.SeedGenerator):
    """Stateless generator: seeds for Keras's layers, derived from one tensor."""

    def __init__(self, seed: tf.Tensor):
        # The parent's constructor is not called: its variable would count on from call to call.
        self._seed = tf.cast(seed, tf.int32)
        self._drawn = 0

    def next(self, ordered: bool = True) -> tf.Tensor:
        self._drawn += 1
        experimental: Any = tf.random.experimental  # pyright: ignore[reportAttributeAccessIssue]
        return experimental.stateless_fold_in(self._seed, self._drawn)
