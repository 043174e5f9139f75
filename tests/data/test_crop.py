import dataclasses
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from reszoo.data import Crop, Pipeline, Source
from reszoo.data.images import decode_image, decode_window


def ramp(height=60, width=80):
    """An image whose first two channels are each pixel's row and column."""
    rows, columns = np.mgrid[:height, :width].astype("uint8")
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=-1)


def encoded(image, kind="JPEG", **options):
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def parts(crop, count=300, size=(60, 80)):
    return np.array(
        [crop.random_part(tf.constant(size), tf.constant([3, i])) for i in range(count)]
    )


def test_random_parts_have_the_areas_and_ratios_asked_for():
    top, left, height, width = parts(Crop(min_area=0.25, max_ratio=2.0)).T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + height <= 60).all()
    assert (left + width <= 80).all()
    # Sides are rounded to whole pixels.
    area, ratio = height * width / 4800, width / height
    assert area.min() > 0.23
    assert area.max() > 0.8
    assert 0.48 < ratio.min() < 0.7
    assert 1.5 < ratio.max() < 2.1
    assert len(np.unique(top)) > 10


def test_a_random_part_depends_on_its_seed_alone():
    np.testing.assert_array_equal(parts(Crop(), 5), parts(Crop(), 5))
    assert len({tuple(part) for part in parts(Crop(), 20)}) > 15


def test_the_middle_is_what_resizing_the_shorter_side_and_cutting_the_centre_gives():
    image = ramp()
    square = tf.image.central_crop(image[:, 10:70].astype("float32"), 0.5)
    expected = tf.image.resize(square, (10, 10))
    source = Source(
        train=tf.data.Dataset.from_tensors((image, 0)),
        test=tf.data.Dataset.from_tensors((image, 0)),
        train_examples=1,
        test_examples=1,
        image_shape=(None, None, 3),
        class_names=("one",),
    )
    crop = Crop(test_share=0.5, test_image_size=10)
    pipeline = Pipeline(source, batch_size=1, image_size=8, crop=crop)
    images, *_ = next(iter(pipeline.test_batches()))
    np.testing.assert_allclose(images[0] * 255, expected, atol=1e-3)
    assert pipeline.image_shape == (8, 8, 3)
    assert pipeline.test_image_shape == (10, 10, 3)
    assert pipeline.input_shape == (None, None, 3)
    trained, _ = next(iter(pipeline.train_batches(0)))
    assert trained.shape == (1, 8, 8, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_window_is_that_part_of_the_whole_image(kind, channels):
    options = {"lossless": True} if kind == "WEBP" else {}
    contents = encoded(ramp(), kind, **options)
    whole = decode_image(contents, channels).numpy()
    window = tuple(map(tf.constant, (16, 24, 30, 41)))
    part = decode_window(contents, lambda size: window, channels).numpy()
    assert part.shape == (30, 41, channels)
    # JPEG smooths colours over pixels that a window lacks at its edges.
    tolerance = 4 if kind == "JPEG" else 0
    np.testing.assert_allclose(part, whole[16:46, 24:65].astype(int), atol=tolerance)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK"])
def test_other_colours_become_rgb(mode):
    image = Image.fromarray(ramp()).convert(mode)
    file = io.BytesIO()
    image.save(file, "PNG" if mode == "RGBA" else "JPEG")
    contents = file.getvalue()
    part = decode_window(contents, lambda size: (0, 0, size[0], size[1]))
    assert part.shape == (60, 80, 3)


def source_of(*contents):
    examples = tf.data.Dataset.from_tensor_slices((list(contents), list(range(len(contents)))))
    return Source(
        train=examples,
        test=examples,
        train_examples=len(contents),
        test_examples=len(contents),
        image_shape=(None, None, 3),
        class_names=tuple(map(str, range(len(contents)))),
        read=tf.identity,
        example_bytes=1000,
    )


def test_training_images_are_other_parts_in_every_epoch_and_the_same_when_asked_again():
    source = source_of(encoded(ramp()), encoded(ramp(50, 50), "PNG"))
    pipeline = Pipeline(source, batch_size=2, image_size=16, crop=Crop())
    first, again, later = (next(iter(pipeline.train_batches(epoch)))[0] for epoch in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first.numpy() != later.numpy()).any()
    assert pipeline.input_shape == (16, 16, 3)
    other = dataclasses.replace(pipeline, seed=1)
    assert (next(iter(other.train_batches(0)))[0].numpy() != first.numpy()).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_area": 0.0}, "^min_area must be a number above 0 and at most 1, but got 0.0"),
        ({"test_share": 1.5}, "^test_share must be a number above 0 and at most 1"),
        ({"max_ratio": 0.5}, "^max_ratio must be a number of at least 1"),
        ({"max_ratio": float("nan")}, "but got nan"),
        ({"test_image_size": -1}, "^test_image_size must be a whole number of at least 0"),
        ({"test_image_size": 2.5}, "^test_image_size must be a whole number of at least 0"),
    ],
)
def test_bad_crops(options, message):
    with pytest.raises(ValueError, match=message):
        Crop(**options)


def test_a_crop_needs_an_image_size():
    source = dataclasses.replace(source_of(encoded(ramp())), image_shape=(60, 80, 3))
    with pytest.raises(ValueError, match="parts that crop cuts out differ in size"):
        Pipeline(source, batch_size=1, crop=Crop())
