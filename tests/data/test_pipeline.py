import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo.data import Augmentation, Pipeline, Source, load_source
from reszoo.data.pipeline import prepared


def numbered(train_examples=10, test_examples=10, size=4):
    """A source whose images are filled with their own number, over 255."""

    def examples(count):
        numbers = np.arange(count, dtype="uint8")
        images = np.broadcast_to(numbers[:, None, None, None], (count, size, size, 1))
        return tf.data.Dataset.from_tensor_slices((images, numbers.astype("int64")))

    return Source(
        train=examples(train_examples),
        test=examples(test_examples),
        train_examples=train_examples,
        test_examples=test_examples,
        image_shape=(size, size, 1),
        class_names=tuple(map(str, range(train_examples))),
    )


def labels(batches):
    return [int(label) for _, batch, *_ in batches for label in batch]


def test_the_order_is_a_function_of_seed_and_epoch():
    first = Pipeline(numbered(), batch_size=2, seed=3)
    second = Pipeline(numbered(), batch_size=2, seed=3)
    # The second asks for the epochs in another order, as a resumed run does.
    later, earlier = labels(second.train_batches(1)), labels(second.train_batches(0))
    assert labels(first.train_batches(0)) == earlier
    assert labels(first.train_batches(1)) == later
    assert earlier != later
    assert labels(Pipeline(numbered(), batch_size=2, seed=4).train_batches(0)) != earlier


def test_the_order_does_not_depend_on_the_global_seed():
    pipeline = Pipeline(numbered(), batch_size=2, seed=3)
    orders = []
    for seed in (1, 2):
        keras.utils.set_random_seed(seed)
        orders.append(labels(pipeline.train_batches(0)))
    assert orders[0] == orders[1]


def test_an_epoch_has_every_training_example_once():
    assert sorted(labels(Pipeline(numbered(), batch_size=2).train_batches(0))) == list(range(10))


def test_what_does_not_fill_a_training_batch_is_left_out():
    pipeline = Pipeline(numbered(), batch_size=4)
    seen = labels(pipeline.train_batches(0))
    assert pipeline.steps_per_epoch == 2
    assert len(set(seen)) == len(seen) == 8


@pytest.mark.parametrize("batch_size", [3, 5, 10])
def test_every_test_example_is_seen_once_in_batches_of_one_shape(batch_size):
    pipeline = Pipeline(numbered(), batch_size=batch_size)
    batches = list(pipeline.test_batches())
    assert len(batches) == pipeline.test_steps
    assert {images.shape for images, _, _ in batches} == {(batch_size, 4, 4, 1)}
    weights = np.concatenate([weight for _, _, weight in batches])
    assert np.array(labels(batches))[weights == 1].tolist() == list(range(10))
    assert set(weights) <= {0.0, 1.0}


def test_images_are_scaled_to_one():
    images, numbers = next(iter(Pipeline(numbered(), batch_size=10).train_batches(0)))
    np.testing.assert_allclose(images[:, 0, 0, 0], numbers / 255, rtol=1e-6)
    assert (images.dtype, numbers.dtype) == (tf.float32, tf.int32)


def test_resizing_is_bilinear():
    source = load_source("digits")
    pipeline = Pipeline(source, batch_size=1, image_size=16)
    small = next(iter(source.test))[0][..., 0].numpy()
    large = next(iter(pipeline.test_batches()))[0][0, ..., 0].numpy()
    # Pixel centres: output i lies at (i + 0.5) / 2 - 0.5 of the input, held at the border.
    position = np.clip((np.arange(16) + 0.5) / 2 - 0.5, 0, 7)
    weight = np.maximum(0, 1 - abs(position[:, None] - np.arange(8)))
    np.testing.assert_allclose(large, weight @ small @ weight.T, atol=1e-6)


def test_shifts_are_whole_pixels_filled_with_zeros_and_each_image_gets_its_own():
    source = load_source("digits")
    plain = Pipeline(source, batch_size=64)
    shifted = dataclasses.replace(plain, shift_pixels=1)
    found = set()
    images, moved = (next(iter(p.train_batches(0)))[0] for p in (plain, shifted))
    for image, other in zip(images.numpy(), moved.numpy(), strict=True):
        padded = np.pad(image, [(1, 1), (1, 1), (0, 0)])
        offsets = [
            (y, x)
            for y in range(3)
            for x in range(3)
            if (padded[y : y + 8, x : x + 8] == other).all()
        ]
        assert offsets
        found.update(offsets)
    assert len(found) == 9


def test_about_half_of_the_images_are_mirrored():
    plain = Pipeline(load_source("digits"), batch_size=1000)
    flipped = dataclasses.replace(plain, augmentation=Augmentation(flip=True))
    images, others = (next(iter(p.train_batches(0)))[0] for p in (plain, flipped))
    images, others = images.numpy(), others.numpy()
    same = (images == others).all(axis=(1, 2, 3))
    mirrored = (images[:, :, ::-1] == others).all(axis=(1, 2, 3))
    assert (same | mirrored).all()
    assert 0.4 < mirrored.mean() < 0.6


def test_augmentation_differs_between_epochs_and_spares_the_test_images():
    mirror = Augmentation(flip=True)
    pipeline = Pipeline(numbered(), batch_size=10, shift_pixels=2, augmentation=mirror)
    first = next(iter(pipeline.train_batches(0)))[0]
    again = next(iter(pipeline.train_batches(0)))[0]
    other = next(iter(pipeline.train_batches(1)))[0]
    np.testing.assert_array_equal(first, again)
    assert (first.numpy() != other.numpy()).any()
    plain = next(iter(Pipeline(numbered(), batch_size=10).test_batches()))[0]
    np.testing.assert_array_equal(next(iter(pipeline.test_batches()))[0], plain)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"batch_size": 2.5}, "batch_size must be a whole number of at least 1"),
        ({"batch_size": 11}, "at most the number of training examples, 10, but got 11"),
        ({"batch_size": 2, "image_size": 0}, "image_size must be a whole number of at least 1"),
        ({"batch_size": 2, "shift_pixels": -1}, "shift_pixels must be a whole number of at least"),
        ({"batch_size": 2, "shift_pixels": 4}, "below the height and width of the images"),
        ({"batch_size": 2, "seed": -1}, "seed must be a whole number of at least 0"),
        ({"batch_size": 2, "batches_per_update": 0}, "batches_per_update must be a whole number"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        Pipeline(numbered(), **options)


def test_images_of_differing_size_need_an_image_size():
    source = dataclasses.replace(numbered(), image_shape=(None, None, 1))
    with pytest.raises(ValueError, match="give image_size"):
        Pipeline(source, batch_size=2)
    assert Pipeline(source, batch_size=2, image_size=4).image_shape == (4, 4, 1)


@pytest.mark.parametrize("shape", [(4, 4, 3), (5, 4, 1)])
def test_images_that_are_not_as_their_source_says(shape):
    with pytest.raises(
        ValueError, match=r"must have its image_shape, .* but have the shape \(4, 4, 1\)"
    ):
        Pipeline(dataclasses.replace(numbered(), image_shape=shape), batch_size=2)


def test_encoded_images_without_a_way_to_read_them():
    names = tf.data.Dataset.from_tensor_slices((["a", "b"], [0, 1]))
    source = dataclasses.replace(numbered(), train=names)
    with pytest.raises(ValueError, match="are strings, so that `read` must be given"):
        Pipeline(source, batch_size=2)


def test_an_image_from_elsewhere_becomes_a_test_image():
    image = tf.fill((9, 7, 1), tf.constant(51, tf.uint8))
    found = prepared(image, (4, 4, 1))
    np.testing.assert_allclose(found, np.full((4, 4, 1), 0.2), rtol=1e-6)
