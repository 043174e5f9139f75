"""What is done to training images at random: Keras's layers, with random numbers of our own."""

import dataclasses

import keras
import tensorflow as tf

from reszoo.ranges import Number, Switch, Whole, check_fields

DTYPE = "float32"  # of images, whatever the model computes in

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
    """Changes training images, and mixes those of a batch with each other.

    The work is that of Keras's preprocessing layers. What is drawn depends on the given seed alone,
    so that a resumed run draws the same.

    Args:
        flip: Whether half of the images are mirrored left to right.
        label_smoothing: Share of each label that is spread over all classes.
        mixup: `alpha` of mixup; 0: none. With CutMix too, each batch gets one of them.
        cutmix: `factor` of CutMix; 0: none.
        rand_augment: Number of operations of RandAugment on each image; 0: none.
        rand_augment_strength: Between 0 and 1, on Keras's scale: images turn by up to this share of
            a full turn, shear and shift by up to this share of their size, change brightness,
            contrast, colour and sharpness by up to this share, and lose this share of four bits of
            colour.
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

    def __post_init__(self):
        check_fields(self, RANGES)
        # Here, since they make variables, which what runs within a data set cannot.
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
            seed: Two integers.
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
            num_classes: Number of classes.
            seed: Two integers.
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


def _image_layers(augmentation):
    if augmentation.rand_augment:
        yield _rand_augment(augmentation.rand_augment, augmentation.rand_augment_strength)
    if augmentation.random_erasing:
        share = augmentation.random_erasing
        yield keras.layers.RandomErasing(factor=(share, share), value_range=(0, 1), dtype=DTYPE)


def _rand_augment(operations, strength):
    options = {"value_range": (0, 1), "dtype": DTYPE}
    layer = keras.layers.RandAugment(num_ops=operations, factor=strength, **options)
    # Keras keeps one bit of colour at least, and up to more, the greater the strength is.
    bits = 8 - round(4 * strength)
    layer.random_posterization = keras.layers.RandomPosterization((bits, bits), **options)
    return layer


def _batch_layers(augmentation):
    if augmentation.mixup:
        yield keras.layers.MixUp(alpha=augmentation.mixup, dtype=DTYPE)
    if augmentation.cutmix:
        yield keras.layers.CutMix(factor=augmentation.cutmix, dtype=DTYPE)


def _mixed(layer, images, labels, seeds):
    drawn = _drawn(layer, images, seeds)
    mixed = layer.transform_images(images, drawn), layer.transform_labels(labels, drawn)
    return tf.ensure_shape(mixed[0], images.shape), tf.ensure_shape(mixed[1], labels.shape)


def _drawn(layer, images, seeds):
    # RandAugment does not listen to the argument `seed`, but all ask here.
    layer._get_seed_generator = lambda backend=None: seeds
    return layer.get_random_transformation(images, seed=seeds)


class _Seeds(keras.random.SeedGenerator):
    """Gives Keras's layers seeds that follow from one tensor, without any state of its own."""

    def __init__(self, seed):
        # Without the parent's variable, which would count on from call to call.
        self._seed = tf.cast(seed, tf.int32)
        self._drawn = 0

    def next(self, ordered=True):
        self._drawn += 1
        return tf.random.experimental.stateless_fold_in(self._seed, self._drawn)
