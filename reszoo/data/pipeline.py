"""What happens to the examples: order, scaling, augmentation and batches."""

import dataclasses

import numpy as np
import tensorflow as tf

from reszoo.data.augmentation import Augmentation
from reszoo.data.sources import Source

# The shuffle holds this much of a data set in memory; a larger one is shuffled within a window.
SHUFFLE_BUFFER_BYTES = 2**30


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Makes a source's examples into batches for training and testing.

    The batches of an epoch depend on the seed and the epoch alone, not on the epochs before, so
    that a run can be resumed at any batch.

    Args:
        source: The data set.
        batch_size: Number of images in a batch, over all devices.
        seed: Seed of the order and the augmentation.
        image_size: Height and width in pixels to which images are resized (bilinear); `None`
            leaves them as they are.
        shift_pixels: Training images are shifted by up to this many pixels, along each axis and
            in either direction; zeros fill what becomes free.
        flip: Whether half of the training images are mirrored left to right.
        augmentation: What else is done to the training images and labels.
        batches_per_update: An epoch has a multiple of this many batches.

    Raises:
        ValueError: If an argument is out of range, or the images differ in size and `image_size`
            is not given.

    Example:

    >>> from reszoo.data import load_source
    >>> pipeline = Pipeline(load_source("digits"), batch_size=64, image_size=16)
    >>> images, labels = next(iter(pipeline.train_batches(epoch=0)))
    >>> images.shape, labels.shape
    (TensorShape([64, 16, 16, 1]), TensorShape([64]))
    """

    source: Source
    batch_size: int
    seed: int = 0
    image_size: int | None = None
    shift_pixels: int = 0
    flip: bool = False
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    batches_per_update: int = 1

    def __post_init__(self):
        examples = self.source.train_examples
        if not 1 <= self.batch_size <= examples:
            raise ValueError(
                f"batch_size is between 1 and the number of training examples, {examples}, but "
                f"got {self.batch_size}."
            )
        if self.steps_per_epoch < 1:
            raise ValueError(
                f"{examples} training examples do not fill one update of {self.batches_per_update} "
                f"batches of {self.batch_size} images."
            )
        if self.image_size is not None and self.image_size < 1:
            raise ValueError(f"image_size is a number of pixels, but got {self.image_size}.")
        if self.shift_pixels < 0:
            raise ValueError(f"shift_pixels cannot be negative, but got {self.shift_pixels}.")
        if None in self.image_shape:
            raise ValueError(
                "The images of this data set differ in size; give image_size (in pixels), for "
                "example 224."
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of the images in the batches, in pixels."""
        if self.image_size is None:
            return self.source.image_shape
        return (self.image_size, self.image_size, self.source.image_shape[-1])

    @property
    def steps_per_epoch(self) -> int:
        """Number of training batches in an epoch; what does not fill an update is left out."""
        batches = self.source.train_examples // self.batch_size
        return batches // self.batches_per_update * self.batches_per_update

    @property
    def test_steps(self) -> int:
        """Number of test batches; the last one may be padded."""
        return -(-self.source.test_examples // self.batch_size)

    def train_batches(
        self,
        epoch: int,
        first_batch: int = 0,
        context: tf.distribute.InputContext | None = None,
    ) -> tf.data.Dataset:
        """Returns the training batches `(images, labels)` of an epoch, shuffled and augmented.

        Args:
            epoch: The epoch, from 0.
            first_batch: The batch to begin with, from 0; those before it are left out.
            context: Which part of each batch this process has, and over how many devices it is
                spread; the whole batch if `None`.

        Returns:
            Batches of `float32` images and `int32` labels (`float32` distributions over the classes
            where they are smoothed or mixed), all of one size: the batch size, over the number of
            devices.
        """
        seed = _epoch_seed(self.seed, epoch)

        def prepare(index, example):
            image, label = example
            image = self._augment(self._prepare(image), tf.stack([seed, index]))
            image = self.augmentation.change_image(image, tf.stack([seed, index]))
            return index, tf.ensure_shape(image, self.image_shape), tf.cast(label, tf.int32)

        def finish(indices, images, labels):
            if not self.augmentation.softens_labels:
                return images, labels
            # Batches differ in their first example, over all processes.
            seed_of_batch = tf.stack([seed + 1, indices[0]])
            return self.augmentation.mix_batch(
                images, labels, self.source.num_classes, seed_of_batch
            )

        examples = self._shuffled(seed).enumerate()
        examples = examples.take(self.steps_per_epoch * self.batch_size)
        examples = self._own(examples.skip(first_batch * self.batch_size), context)
        examples = examples.map(prepare, tf.data.AUTOTUNE, deterministic=True)
        batches = self._batched(examples, context).map(finish, tf.data.AUTOTUNE, deterministic=True)
        return batches.prefetch(tf.data.AUTOTUNE)

    def test_batches(self, context: tf.distribute.InputContext | None = None) -> tf.data.Dataset:
        """Returns the test batches `(images, labels, weights)`, in a fixed order.

        Every test example is in them once, with weight 1. The last batch is filled up with empty
        images of weight 0, so that all batches have one shape.

        Args:
            context: As for `train_batches`.

        Returns:
            Batches of `float32` images, `int32` labels and `float32` weights.
        """

        def prepare(image, label):
            return self._prepare(image), tf.cast(label, tf.int32), tf.constant(1.0)

        padding = self.test_steps * self.batch_size - self.source.test_examples
        empty = (tf.zeros(self.image_shape), tf.constant(0, tf.int32), tf.constant(0.0))
        examples = self.source.test.map(prepare, tf.data.AUTOTUNE, deterministic=True)
        examples = examples.concatenate(tf.data.Dataset.from_tensors(empty).repeat(padding))
        examples = self._own(examples.enumerate(), context).map(lambda _, example: example)
        return self._batched(examples, context).prefetch(tf.data.AUTOTUNE)

    def _own(self, numbered, context):
        """Returns those of numbered examples that are this process's part of each batch."""
        if context is None or context.num_input_pipelines == 1:
            return numbered
        part = self.batch_size // context.num_input_pipelines
        return numbered.filter(
            lambda index, _: index % self.batch_size // part == context.input_pipeline_id
        )

    def _batched(self, examples, context):
        replicas = context.num_replicas_in_sync if context else 1
        size = self.batch_size // replicas
        return examples.batch(size, drop_remainder=True)

    def _prepare(self, image):
        if self.source.decode is not None:
            image = self.source.decode(image)
        image = tf.image.convert_image_dtype(image, tf.float32)
        if self.image_size is not None:
            image = tf.image.resize(image, (self.image_size, self.image_size))
        return tf.ensure_shape(image, self.image_shape)

    def _augment(self, image, seed):
        if self.shift_pixels:
            pad = [self.shift_pixels, self.shift_pixels]
            padded = tf.pad(image, [pad, pad, [0, 0]])
            image = tf.image.stateless_random_crop(padded, self.image_shape, seed)
        if self.flip:
            image = tf.image.stateless_random_flip_left_right(image, seed + 1)
        return image

    def _shuffled(self, seed):
        def shuffle(_):
            # The global seed would change the order too; in this graph it is zero.
            tf.compat.v1.set_random_seed(0)
            return self.source.train.shuffle(
                self._shuffle_buffer(), seed=seed, reshuffle_each_iteration=False
            )

        return tf.data.Dataset.from_tensors(0).flat_map(shuffle)

    def _shuffle_buffer(self):
        element, _ = self.source.train.element_spec
        if element.dtype == tf.string:  # names of files
            return self.source.train_examples
        pixels = np.prod([size or self.image_size for size in self.source.image_shape])
        fits = SHUFFLE_BUFFER_BYTES // int(pixels * element.dtype.size)
        return max(1, min(self.source.train_examples, fits))


def _epoch_seed(seed, epoch):
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
