"""Image classification data sets of TensorFlow Datasets."""

import functools
import hashlib
import logging
import re
from collections.abc import Iterable
from typing import Any

import absl.logging
import tensorflow as tf

from reszoo.data.contents import Contents
from reszoo.data.left_out import LeftOut
from reszoo.data.source import Source
from reszoo.data.splits import SPLIT_NAMES

LABELS_CHECKED = 1000  # of each split
PROBE_TIMEOUT_SECONDS = 10


def tensorflow_dataset(name: str) -> Source:
    """Returns a data set of TensorFlow Datasets, downloaded if it is not on disk.

    It is kept in the directory of TensorFlow Datasets: that of the environment variable
    `TFDS_DATA_DIR`, or `~/tensorflow_datasets`.

    Args:
        name: The name of the data set, with a configuration or a version if wanted, as in
            `"cifar10"` or `"mnist:3.0.1"`; then, after a colon, the test split, or the training
            split and the test split with a comma between them.

    Raises:
        ValueError: If there is no such data set, it does not classify images, or it cannot be
            downloaded.
    """
    name, splits = _named_splits(name)
    builder = _builder(name)
    image, label = _classification_keys(builder)
    _prepare(builder)
    train_split, test_split = _checked_splits(builder, splits)
    feature, classes = builder.info.features[image], tuple(builder.info.features[label].names)
    # Images of different sizes are decoded later, and only the part that is used.
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


def _builder(name: str) -> Any:
    # Imported here, since the import takes seconds and most runs do not need it.
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(name)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"TensorFlow Datasets has no data set {name!r} ({reason}) Its names are listed on "
            "https://www.tensorflow.org/datasets/catalog."
        ) from error


def _classification_keys(builder: Any) -> tuple[str, str]:
    import tensorflow_datasets as tfds

    info = builder.info
    keys: Any = info.supervised_keys or ()
    kinds = [type(info.features[key]) for key in keys if key in info.features.keys()]  # noqa: SIM118
    if kinds != [tfds.features.Image, tfds.features.ClassLabel]:
        raise ValueError(
            f"The data set {info.full_name!r} does not classify images: its supervised keys must "
            f"be an image and a class label, but are {info.supervised_keys}."
        )
    return keys


def _prepare(builder: Any) -> None:
    if builder.is_prepared():
        return
    # Without a network the downloader retries each file for minutes, with a warning each time.
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


def _probe_network(builder: Any) -> None:
    """Requests the header of one file, so that a missing network is found at once."""
    import requests

    for url in list(builder.url_infos or ())[:1]:
        requests.head(url, timeout=PROBE_TIMEOUT_SECONDS)


def _named_splits(name: str) -> tuple[str, list[str]]:
    """Returns the name of a data set, with its version, and the splits after the colon."""
    match = re.fullmatch(r"([^:]+(?::\d[\d.*]*)?)(?::(.+))?", name)
    if not match:
        raise ValueError(f'"tfds:" needs the name of a data set, but got {name!r}.')
    splits = [split for split in (match[2] or "").split(",") if split]
    if len(splits) > 2:
        raise ValueError(
            f"There must be at most two splits, but got {', '.join(splits)}. Give the test split, "
            "or the training split and the test split."
        )
    return match[1], splits


def _checked_splits(builder: Any, splits: list[str]) -> list[str]:
    """Returns the training split and the test split."""
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


def _report_shared(builder: Any, train: str, test: str) -> None:
    """Warns of examples that are in both splits, which may be slices of one."""
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


def _end(instruction: Any) -> int:
    """Returns the end of a slice of a file, as the index after its last example."""
    whole = instruction.take < 0
    return instruction.examples_in_shard if whole else instruction.skip + instruction.take


def _split_named(known: Iterable[str], role: str) -> str | None:
    """Returns the split with a role, by the first of its names that the data set has."""
    by_name = {name.lower(): name for name in known}
    return next((by_name[name] for name in SPLIT_NAMES[role] if name in by_name), None)


def _contents_of_splits(
    builder: Any, train_split: str, test_split: str, class_names: tuple[str, ...]
) -> Contents:
    """Returns the contents of two splits from the metadata of the data set, without reading it."""
    splits = builder.info.splits
    sizes = [[name, *info.shard_lengths, int(info.num_bytes)] for name, info in splits.items()]
    digest = hashlib.sha256(repr(sorted(sizes)).encode()).hexdigest()[:16]

    def count(split: str) -> int:
        return int(splits[split].num_examples) if splits else 0

    def of_split(split: str) -> dict[str, str]:
        return {f"{builder.info.full_name}:{split}": f"{count(split)}:{digest}"}

    counts = {"train": (count(train_split),), "test": (count(test_split),)}
    return Contents(class_names, counts, of_split(train_split), of_split(test_split))


def _examples(
    builder: Any, encoded: str | None, split: str, seed: int | None = None
) -> tf.data.Dataset:
    """Returns the examples of a split; the feature `encoded` is not decoded."""
    import tensorflow_datasets as tfds

    return builder.as_dataset(
        split=split,
        as_supervised=True,
        decoders={encoded: tfds.decode.SkipDecoding()} if encoded else None,
        shuffle_files=seed is not None,
        read_config=tfds.ReadConfig(shuffle_seed=seed, interleave_cycle_length=16),
    )


def _example_bytes(builder: Any) -> int:
    splits = builder.info.splits.values()
    return max(1, sum(s.num_bytes for s in splits) // max(1, sum(s.num_examples for s in splits)))


def _check_first_labels(examples: tf.data.Dataset, split: str, classes: int) -> None:
    """Checks the first labels; those of ImageNet's test images, for example, are -1."""
    labels = examples.map(lambda _, label: label).take(LABELS_CHECKED).as_numpy_iterator()
    wrong = next((label for label in labels if not 0 <= label < classes), None)
    if wrong is not None:
        raise ValueError(
            f"The split {split!r} has an example with the label {wrong}, but labels must be 0 to "
            f'{classes - 1}. Name another split after the data set, as in "tfds:imagenet2012:'
            'validation".'
        )
