import dataclasses

import keras
import numpy as np
import pytest

from reszoo.data import Augmentation, Pipeline, load_source

PLAIN = Pipeline(load_source("synthetic"), batch_size=64)


def batch(epoch=0, first_batch=0, **options):
    pipeline = dataclasses.replace(PLAIN, augmentation=Augmentation(**options))
    images, labels = next(iter(pipeline.train_batches(epoch, first_batch)))
    return images.numpy(), labels.numpy()


def test_smoothed_labels():
    plain_images, plain_labels = batch()
    images, labels = batch(label_smoothing=0.1)
    np.testing.assert_array_equal(images, plain_images)
    np.testing.assert_allclose(labels, 0.9 * np.eye(10)[plain_labels] + 0.01, rtol=1e-5)


def test_mixup_mixes_images_and_labels_alike():
    images, labels = batch()
    mixed_images, mixed_labels = batch(mixup=0.4)
    np.testing.assert_allclose(mixed_labels.sum(axis=1), 1, rtol=1e-5)
    for image, label, own in zip(mixed_images, mixed_labels, range(64), strict=True):
        share = label[labels[own]]
        candidates = share * images[own] + (1 - share) * images
        # Someone of the batch is the other part; with itself where the label did not change.
        assert min(abs(candidates - image).max(axis=(1, 2, 3))) < 1e-4 or share == 1


def test_cutmix_pastes_a_rectangle_and_labels_by_its_area():
    images, labels = batch()
    mixed_images, mixed_labels = batch(cutmix=1.0)
    pasted = (mixed_images != images).any(axis=3)
    assert pasted.any()
    for own in range(64):
        own_share = mixed_labels[own][labels[own]]
        if own_share < 1:
            # Keras labels by the rectangle before its sides become whole pixels, here of 16.
            assert pasted[own].mean() == pytest.approx(1 - own_share, abs=2 / 16)


@pytest.mark.parametrize(
    "options", [{"rand_augment": 2}, {"random_erasing": 1.0}, {"mixup": 0.2, "cutmix": 1.0}]
)
def test_what_is_drawn_depends_on_seed_epoch_and_place_alone(options):
    images, labels = batch(epoch=1, first_batch=2, **options)
    again, labels_again = batch(epoch=1, first_batch=2, **options)
    np.testing.assert_array_equal(images, again)
    np.testing.assert_array_equal(labels, labels_again)
    assert (images != batch(epoch=1, first_batch=2)[0]).any()
    # A run that went through the first two batches gets the same third.
    pipeline = dataclasses.replace(PLAIN, augmentation=Augmentation(**options))
    *_, (third, _) = pipeline.train_batches(1).take(3)
    np.testing.assert_array_equal(third, images)
    assert images.min() >= 0
    assert images.max() <= 1 + 1e-5


def test_each_image_is_changed_in_its_own_way():
    plain, _ = batch()
    images, _ = batch(random_erasing=1.0)
    erased = (images != plain).any(axis=3)
    assert len({mask.tobytes() for mask in erased}) > 32


def test_a_stronger_rand_augment_changes_more():
    plain, _ = batch()
    changes = [
        np.abs(batch(rand_augment=2, rand_augment_strength=strength)[0] - plain).mean()
        for strength in (0.0, 0.1, 0.4, 1.0)
    ]
    # Even without any, colours are spread out to the full range.
    assert 0 < changes[0] < changes[1] < changes[2] < changes[3]


@pytest.mark.parametrize(("strength", "colours"), [(0.0, 256), (0.5, 64), (1.0, 16)])
def test_a_stronger_rand_augment_leaves_fewer_colours(strength, colours):
    (layer,) = Augmentation(rand_augment=1, rand_augment_strength=strength)._image_layers
    image = np.linspace(0, 1, 256, dtype=np.float32).reshape(1, 16, 16, 1)
    assert len(np.unique(layer.random_posterization(image, training=True))) == colours


@pytest.mark.parametrize(
    "options", [{"rand_augment": 2}, {"random_erasing": 1.0}, {"mixup": 0.2}, {"cutmix": 1.0}]
)
def test_the_models_precision_changes_nothing(options):
    images, labels = batch(**options)
    keras.config.set_dtype_policy("mixed_bfloat16")
    again, labels_again = batch(**options)
    np.testing.assert_array_equal(again, images)
    np.testing.assert_array_equal(labels_again, labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing must be a number of at least 0 and below 1"),
        ({"mixup": -0.1}, "mixup must be a number of at least 0"),
        ({"mixup": float("nan")}, "but got nan"),
        ({"cutmix": 1.5}, "cutmix must be a number of at least 0 and at most 1"),
        ({"rand_augment": 1.5}, "rand_augment must be a whole number"),
        ({"flip": "no"}, "flip must be True or False, but got 'no'"),
        ({"random_erasing": 1.5}, "random_erasing must be a number of at least 0 and at most 1"),
        ({"rand_augment_strength": -0.5}, "rand_augment_strength must be a number of at least 0"),
    ],
)
def test_bad_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**options)
