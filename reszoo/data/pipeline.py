"""What happens to the examples: order, scaling, augmentation and batches."""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from reszoo.data.augmentation import Augmentation
from reszoo.data.crop import Crop
from reszoo.data.images import cut, decode_image, decode_window
from reszoo.data.source import Source
from reszoo.ranges import Maybe, Whole, check_fields

# The shuffle holds this much of a data set in memory; a larger one is shuffled within a window.
SHUFFLE_BUFFER_BYTES = 2**30

RANGES = {
    "batch_size": Whole(1, 2**31 - 1),
    "seed": Whole(0, 2**32 - 1),
    "image_size": Maybe(Whole(1, 16_384)),
    "shift_pixels": Whole(0, 16_384),
    "batches_per_update": Whole(1, 2**31 - 1),
}


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Makes a source's examples into batches for training and testing.

    The batches of an epoch depend on the seed and the epoch alone, not on the epochs before, so
    that a run can be resumed at any batch. Images are in `[0, 1]`.

    Args:
        source: The data set.
        batch_size: Number of images in a batch, over all devices.
        seed: Seed of the order and the augmentation.
        image_size: Height and width in pixels to which images are resized (bilinear); `None`
            leaves them as they are.
        crop: Which part of an image is used, before it is resized; the whole image if `None`.
        shift_pixels: Training images are shifted by up to this many pixels, along each axis and
            in either direction; zeros fill what becomes free.
        augmentation: What else is done to the training images and labels.
        batches_per_update: An epoch has a multiple of this many batches.

    Raises:
        ValueError: If an argument is out of range, or does not fit the images.

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
    crop: Crop | None = None
    shift_pixels: int = 0
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    batches_per_update: int = 1

    def __post_init__(self):
        examples = self.source.train_examples
        check_fields(self, RANGES)
        if self.batch_size > examples:
            raise ValueError(
                f"batch_size must be at most the number of training examples, {examples}, but got "
                f"{self.batch_size}."
            )
        if self.steps_per_epoch < 1:
            raise ValueError(
                f"{examples} training examples do not fill one update of {self.batches_per_update} "
                f"batches of {self.batch_size} images."
            )
        self._check_images()

    def _check_images(self):
        _check_elements(self.source)
        if None in self.image_shape:
            raise ValueError(
                "The images of this data set differ in size; give image_size (in pixels), for "
                "example 224."
            )
        if self.crop and self.image_size is None:
            raise ValueError(
                "The parts that crop cuts out differ in size; give image_size (in pixels), for "
                "example 224."
            )
        if self.shift_pixels >= min(self.image_shape[:2]):
            raise ValueError(
                "shift_pixels must be below the height and width of the images, "
                f"{self.image_shape[:2]} in pixels, but got {self.shift_pixels}."
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of the training images in the batches, in pixels."""
        if self.image_size is None:
            return self.source.image_shape
        return (self.image_size, self.image_size, self.source.image_shape[-1])

    @property
    def test_image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of the test images in the batches, in pixels."""
        size = self.crop.test_image_size if self.crop else 0
        return (size, size, self.image_shape[-1]) if size else self.image_shape

    @property
    def input_shape(self) -> tuple[int | None, int | None, int]:
        """What a model has to take: `None` for sizes that differ between training and testing."""
        if self.image_shape == self.test_image_shape:
            return self.image_shape
        return (None, None, self.image_shape[-1])

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
            image = self._train_image(image, tf.stack([seed, index]))
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
            return self._test_image(image), tf.cast(label, tf.int32), tf.constant(1.0)

        padding = self.test_steps * self.batch_size - self.source.test_examples
        empty = (tf.zeros(self.test_image_shape), tf.constant(0, tf.int32), tf.constant(0.0))
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

    def _test_image(self, image):
        image = self._decoded(image, self.crop.middle if self.crop else None)
        return _resized(image, self.test_image_shape)

    def _train_image(self, image, seed):
        choose = functools.partial(self.crop.random_part, seed=seed + 2) if self.crop else None
        image = _resized(self._decoded(image, choose), self.image_shape)
        if self.shift_pixels:
            pad = [self.shift_pixels, self.shift_pixels]
            padded = tf.pad(image, [pad, pad, [0, 0]])
            image = tf.image.stateless_random_crop(padded, self.image_shape, seed)
        return self.augmentation.change_image(image, seed)

    def _decoded(self, image, choose):
        """Returns the part of an image that `choose` gives, all of it if that is `None`."""
        if image.dtype != tf.string:
            return cut(image, choose) if choose else image
        contents, channels = self.source.read(image), self.image_shape[-1]
        if choose:
            return decode_window(contents, choose, channels)
        return decode_image(contents, channels)

    def _shuffled(self, seed):
        # Files in another order, where a window of the examples is too little.
        train = self.source.reordered(seed) if self.source.reordered else self.source.train

        def shuffle(_):
            # The global seed would change the order too; in this graph it is zero.
            tf.compat.v1.set_random_seed(0)
            return train.shuffle(self._shuffle_buffer(), seed=seed, reshuffle_each_iteration=False)

        return tf.data.Dataset.from_tensors(0).flat_map(shuffle)

    def _shuffle_buffer(self):
        element, _ = self.source.train.element_spec
        size = self.source.example_bytes
        if size is None:
            pixels = np.prod([size or self.image_size for size in self.source.image_shape])
            size = int(pixels * element.dtype.size)
        return max(1, min(self.source.train_examples, SHUFFLE_BUFFER_BYTES // size))


def prepared(image: tf.Tensor, shape: tuple[int, int, int], crop: Crop | None = None) -> tf.Tensor:
    """Returns one image as a model gets it when it is tested, or asked.

    Args:
        image: An image of any size; whole numbers are scaled to `[0, 1]`.
        shape: The shape that it gets: `(height, width, channels)`.
        crop: Whose middle part is used; the whole image if `None`.

    Returns:
        `float32`.
    """
    return _resized(cut(image, crop.middle) if crop else image, shape)


def _resized(image, shape):
    image = tf.image.convert_image_dtype(image, tf.float32)
    if image.shape != shape:
        image = tf.image.resize(image, shape[:2])
    return tf.ensure_shape(image, shape)


def _check_elements(source):
    """Raises if the examples are not what the source says, as far as that is known ahead."""
    for split, examples in (("train", source.train), ("test", source.test)):
        image, _ = examples.element_spec
        if image.dtype == tf.string and source.read is None:
            raise ValueError(f"The {split} images of this data set are strings; it needs `read`.")
        if image.dtype != tf.string and not image.shape.is_compatible_with(source.image_shape):
            raise ValueError(
                f"The {split} images of this data set have the shape {tuple(image.shape)}, but its "
                f"image_shape is {source.image_shape} (height, width, channels)."
            )
        if source.image_shape[-1] not in (1, 3) and image.dtype == tf.string:
            raise ValueError(
                "Encoded images are gray (1 channel) or RGB (3), but image_shape is "
                f"{source.image_shape}."
            )


def _epoch_seed(seed, epoch):
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
