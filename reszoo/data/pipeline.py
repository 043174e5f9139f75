"""Pipeline from a source to batches: order, decoding, crops, augmentation."""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from reszoo.data.augmentation import Augmentation
from reszoo.data.crop import Crop
from reszoo.data.images import Window, cut, decode_image, decode_window
from reszoo.data.source import Source
from reszoo.ranges import Maybe, Whole, check_fields

# Size of the shuffle buffer; a larger data set is shuffled within a window of this size.
SHUFFLE_BUFFER_BYTES = 2**30

_Choose = Callable[[tf.Tensor], Window]

RANGES = {
    "batch_size": Whole(1, 2**31 - 1),
    "seed": Whole(0, 2**32 - 1),
    "image_size": Maybe(Whole(1, 16_384)),
    "shift_pixels": Whole(0, 16_384),
    "batches_per_update": Whole(1, 2**31 - 1),
}


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """Batches of a source's examples, for training and testing.

    The batches of an epoch depend on the seed and the epoch alone, not on the epochs before, so
    that a run can be resumed at any batch. Images are in `[0, 1]`.

    Args:
        source: Training and test examples.
        batch_size: Images per batch, over all devices.
        seed: Seed of the order and the augmentation.
        image_size: Height and width in pixels to which images are resized (bilinear); `None`
            leaves them as they are.
        crop: The part of an image that is used, before it is resized; `None` uses the whole image.
        shift_pixels: The most pixels by which training images are shifted, along each axis and in
            either direction; the margin is filled with zeros.
        augmentation: Further random changes of the training images and labels.
        batches_per_update: Batches of an update of the weights; an epoch has whole updates.

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

    def __post_init__(self) -> None:
        examples = self.source.train_examples
        check_fields(self, RANGES)
        if self.batch_size > examples:
            raise ValueError(
                f"batch_size must be at most the number of training examples, {examples}, but got "
                f"{self.batch_size}."
            )
        if self.steps_per_epoch < 1:
            raise ValueError(
                f"The training examples must fill one update of {self.batches_per_update} batches "
                f"of {self.batch_size} images, but there are {examples}."
            )
        self._check_images()

    def _check_images(self) -> None:
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
        height, width, channels = self.source.image_shape
        if self.image_size is None:
            return height, width, channels  # pyright: ignore[reportReturnType] # checked before
        return self.image_size, self.image_size, channels

    @property
    def test_image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of the test images in the batches, in pixels."""
        size = self.crop.test_image_size if self.crop else 0
        return (size, size, self.image_shape[-1]) if size else self.image_shape

    @property
    def input_shape(self) -> tuple[int | None, int | None, int]:
        """Input shape of a model; sizes that differ between training and testing are `None`."""
        if self.image_shape == self.test_image_shape:
            return self.image_shape
        return (None, None, self.image_shape[-1])

    @property
    def steps_per_epoch(self) -> int:
        """Number of training batches in an epoch, which has whole updates only."""
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
            first_batch: The first batch, from 0.
            context: The part of each batch that is this process's, and the number of devices that
                share it; `None` gives whole batches.

        Returns:
            Batches of `float32` images and `int32` labels (`float32` distributions over the classes
            where labels are smoothed or mixed). Each has the batch size, divided by the number of
            devices.
        """
        seed = _epoch_seed(self.seed, epoch)

        def prepare(index: tf.Tensor, example: tuple[tf.Tensor, tf.Tensor]) -> Any:
            image, label = example
            image = self._train_image(image, tf.stack([seed, index]))
            return index, tf.ensure_shape(image, self.image_shape), tf.cast(label, tf.int32)

        def finish(indices: tf.Tensor, images: tf.Tensor, labels: tf.Tensor) -> Any:
            if not self.augmentation.softens_labels:
                return images, labels
            # The index of the first example tells batches apart, over all processes.
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

        Every test example occurs once, with weight 1. The last batch is padded with images of zeros
        of weight 0, so that all batches have the same shape.

        Args:
            context: As for `train_batches`.

        Returns:
            Batches of `float32` images, `int32` labels and `float32` weights.
        """

        def prepare(image: tf.Tensor, label: tf.Tensor) -> Any:
            return self._test_image(image), tf.cast(label, tf.int32), tf.constant(1.0)

        padding = self.test_steps * self.batch_size - self.source.test_examples
        empty = (tf.zeros(self.test_image_shape), tf.constant(0, tf.int32), tf.constant(0.0))
        examples = self.source.test.map(prepare, tf.data.AUTOTUNE, deterministic=True)
        examples = examples.concatenate(tf.data.Dataset.from_tensors(empty).repeat(padding))
        examples = self._own(examples.enumerate(), context).map(lambda _, example: example)
        return self._batched(examples, context).prefetch(tf.data.AUTOTUNE)

    def _own(
        self, numbered: tf.data.Dataset, context: tf.distribute.InputContext | None
    ) -> tf.data.Dataset:
        """Returns the numbered examples that are this process's part of each batch."""
        if context is None or context.num_input_pipelines == 1:
            return numbered
        part = self.batch_size // context.num_input_pipelines

        def is_own(index: Any, _: Any) -> tf.Tensor:
            return index % self.batch_size // part == context.input_pipeline_id

        predicate: Any = is_own  # the hints of tf.data know functions of one argument only
        return numbered.filter(predicate)

    def _batched(
        self, examples: tf.data.Dataset, context: tf.distribute.InputContext | None
    ) -> tf.data.Dataset:
        replicas = context.num_replicas_in_sync if context else 1
        size = self.batch_size // replicas
        return examples.batch(size, drop_remainder=True)

    def _test_image(self, image: tf.Tensor) -> tf.Tensor:
        image = self._decoded(image, self.crop.middle if self.crop else None)
        return _resized(image, self.test_image_shape)

    def _train_image(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        choose = functools.partial(self.crop.random_part, seed=seed + 2) if self.crop else None
        image = _resized(self._decoded(image, choose), self.image_shape)
        if self.shift_pixels:
            pad = [self.shift_pixels, self.shift_pixels]
            padded = tf.pad(image, [pad, pad, [0, 0]])
            image = tf.image.stateless_random_crop(padded, self.image_shape, seed)
        return self.augmentation.change_image(image, seed)

    def _decoded(self, image: tf.Tensor, choose: _Choose | None) -> tf.Tensor:
        """Decodes the window that `choose` returns; the whole image if `choose` is `None`."""
        if image.dtype != tf.string:
            return cut(image, choose) if choose else image
        read: Any = self.source.read
        contents, channels = read(image), self.image_shape[-1]
        if choose:
            return decode_window(contents, choose, channels)
        return decode_image(contents, channels)

    def _shuffled(self, seed: int) -> tf.data.Dataset:
        # The files are shuffled too where the examples are more than the buffer holds.
        train = self.source.reordered(seed) if self.source.reordered else self.source.train

        def shuffle(_: tf.Tensor) -> tf.data.Dataset:
            # The order depends on the global seed too, which is set to zero in this graph.
            tf.compat.v1.set_random_seed(0)
            return train.shuffle(self._shuffle_buffer(), seed=seed, reshuffle_each_iteration=False)

        return tf.data.Dataset.from_tensors(0).flat_map(shuffle)

    def _shuffle_buffer(self) -> int:
        size = self.source.example_bytes
        if size is None:
            element, _ = _specs(self.source.train)
            shape = [size or self.image_size or 1 for size in self.source.image_shape]
            size = math.prod(shape) * element.dtype.size
        return max(1, min(self.source.train_examples, SHUFFLE_BUFFER_BYTES // size))


def prepared(image: tf.Tensor, shape: tuple[int, int, int], crop: Crop | None = None) -> tf.Tensor:
    """Returns one image as the model's input, in `float32`, for tests and predictions.

    Args:
        image: An image of any size; integers are scaled to `[0, 1]`.
        shape: The shape of the result: `(height, width, channels)`.
        crop: Gives the central part that is used; `None` uses the whole image.
    """
    return _resized(cut(image, crop.middle) if crop else image, shape)


def _resized(image: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
    image = tf.image.convert_image_dtype(image, tf.float32)
    if image.shape != shape:
        image = tf.image.resize(image, shape[:2])
    return tf.ensure_shape(image, shape)


def _specs(examples: tf.data.Dataset) -> Any:
    """Returns the specifications of the image and the label of an example."""
    return examples.element_spec


def _check_elements(source: Source) -> None:
    """Checks the examples' dtypes and shapes, as far as they are known ahead."""
    for split, examples in (("train", source.train), ("test", source.test)):
        image, _ = _specs(examples)
        if image.dtype == tf.string and source.read is None:
            raise ValueError(
                f"The {split} images of this data set are strings, so that `read` must be given."
            )
        if image.dtype != tf.string and not image.shape.is_compatible_with(source.image_shape):
            raise ValueError(
                f"The {split} images of this data set must have its image_shape, "
                f"{source.image_shape} (height, width, channels), but have the shape "
                f"{tuple(image.shape)}."
            )
        if source.image_shape[-1] not in (1, 3) and image.dtype == tf.string:
            raise ValueError(
                "Encoded images must be gray (1 channel) or RGB (3 channels), but image_shape is "
                f"{source.image_shape}."
            )


def _epoch_seed(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
