"""Images in TFRecord files, as TensorFlow's Model Garden and TensorFlow Datasets write them."""

import dataclasses
import functools
import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from reszoo.data.images import decode_image
from reszoo.json_files import read_json, to_json

# Features of an example: the encoded image and its label, of Model Garden and of TFDS.
KEYS = (("image/encoded", "image/class/label"), ("image", "label"))
NAME_FILES = ("labels.txt", "label.labels.txt")
FILES_AT_ONCE = 16
_SPLIT = re.compile(r"(?:^|[^a-z])(train|test|validation|valid|val)(?:[^a-z]|$)")
_NO_LABEL = np.iinfo(np.int64).min


_KEPT = {
    "files": [str],
    "counts": [int],
    "corrupt": [[int, int]],
    "labels": {str: int},
    "damaged": [str],
    "size_bytes": int,
    "keys": [str, str],
}


@dataclasses.dataclass(frozen=True)
class Records:
    """The examples in some files, as they were found when all were read once.

    Args:
        files: The files.
        counts: Number of records in each, up to the first that is damaged.
        corrupt: Records that hold no readable image and label: index of the file, and of the
            record in it.
        labels: How often each label occurs in the others.
        damaged: Those of the files that cannot be read to their end.
        size_bytes: Size of all files.
        keys: Names of the features of an image and its label.
    """

    files: tuple[str, ...]
    counts: tuple[int, ...]
    corrupt: tuple[tuple[int, int], ...]
    labels: dict[int, int]
    damaged: tuple[str, ...]
    size_bytes: int
    keys: tuple[str, str]

    @property
    def examples(self) -> int:
        """Number of examples that can be used."""
        return sum(self.labels.values())

    def dataset(self, first_label: int = 0, seed: int | None = None) -> tf.data.Dataset:
        """Returns the examples: encoded images and their labels, from several files in turn.

        Args:
            first_label: The label that becomes 0.
            seed: Of the order of the files; `None`: as they are.
        """
        order = np.arange(len(self.files))
        if seed is not None:
            order = np.random.default_rng(seed).permutation(order)
        files = (np.array(self.files)[order], np.array(self.counts)[order], order)
        records = tf.data.Dataset.from_tensor_slices(files).interleave(
            _numbered, FILES_AT_ONCE, 1, tf.data.AUTOTUNE, deterministic=True
        )
        if self.corrupt:
            corrupt = tf.constant(self.corrupt, tf.int64)
            records = records.filter(
                lambda place, _: not tf.reduce_any(tf.reduce_all(place == corrupt, axis=1))
            )

        def example(_, record):
            image, label = _parsed(record, self.keys)
            return image, label - first_label

        return records.map(example, tf.data.AUTOTUNE, deterministic=True)


def split_files(pattern: str) -> dict[str, list[str]]:
    """Returns the files of training and of testing.

    Args:
        pattern: One pattern, or a folder, whose files' names say which is which: `train`, and
            `test` or else `validation`, `valid` or `val`. Or two patterns with a comma between:
            those of training and those of testing. `gs://` works as far as TensorFlow reads it.

    Raises:
        ValueError: If there are no files of one of them.
    """
    patterns = pattern.split(",")
    if len(patterns) > 2:
        raise ValueError(f"Give one pattern, or two with a comma between, but got {pattern!r}.")
    found = [_glob(part) for part in patterns]
    if len(patterns) == 2:
        splits = dict(zip(("train", "test"), found, strict=True))
    else:
        splits = _by_name(found[0])
    for name, files in splits.items():
        if not files:
            raise ValueError(
                f"There is no file of {name} examples in {pattern!r}. Give a pattern whose files "
                "have train, and test or validation, in their names; or two patterns with a comma "
                "between, for training and testing."
            )
    return splits


def read_once(files: Sequence[str]) -> Records:
    """Returns what is in some files, every image decoded once; or what a run before found.

    It is kept in `~/.cache/reszoo` (or that in `XDG_CACHE_HOME`), under a name that depends on the
    names, sizes and times of the files.

    Args:
        files: The files.

    Raises:
        ValueError: If they do not have images and labels.
    """
    stats = [tf.io.gfile.stat(file) for file in files]
    identity = [[f, s.length, s.mtime_nsec] for f, s in zip(files, stats, strict=True)]
    digest = hashlib.sha256(to_json(identity).encode()).hexdigest()[:32]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "reszoo"
    path = folder / f"tfrecord-{digest}.json"
    if path.exists():
        try:
            return _kept(path, files)
        except ValueError as error:
            logging.warning("%s", error)
    records = _read(tuple(files), sum(stat.length for stat in stats))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(to_json(dataclasses.asdict(records)), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        logging.warning("%s cannot be written (%s); the next run counts again.", path, error)
    return records


def check_corrupt(splits: Sequence[Records], allowed: int) -> None:
    """Names what cannot be read, and raises if it is too much.

    Args:
        splits: The records.
        allowed: How many records may be left out.

    Raises:
        ValueError: If more cannot be read.
    """
    places = [f"record {r} of {s.files[f]}" for s in splits for f, r in s.corrupt]
    damaged = [
        f"all from record {s.counts[s.files.index(file)]} on of {file}"
        for s in splits
        for file in s.damaged
    ]
    for place in places + damaged:
        logging.warning("No image can be read from %s; left out.", place)
    if len(places) + len(damaged) > allowed:
        raise ValueError(
            f"{len(places) + len(damaged)} records cannot be read, the first is "
            f"{(places + damaged)[0]}. Mend them, or allow for more by data.corrupt_images."
        )


def class_names(files: Sequence[str]) -> tuple[str, ...]:
    """Returns the lines of `labels.txt` or `label.labels.txt` beside the files, if there is one.

    Args:
        files: The files.
    """
    folder = os.path.dirname(files[0])
    for path in (os.path.join(folder, name) for name in NAME_FILES):
        if tf.io.gfile.exists(path):
            with tf.io.gfile.GFile(path) as file:
                return tuple(line for line in file.read().splitlines() if line)
    return ()


def check_labels(
    splits: dict[str, Records], names: Sequence[str]
) -> tuple[int, tuple[str, ...], tuple[int, ...]]:
    """Returns the first label, the names of the classes, and how many training examples each has.

    Labels may begin with 0 or, as Model Garden's of ImageNet do, with 1.

    Args:
        splits: The records of training and testing.
        names: The names, if they are known.

    Raises:
        ValueError: If a label is out of range, or a class has no training example.
    """
    trained = splits["train"].labels
    lowest = min(min(records.labels, default=0) for records in splits.values())
    first = int(lowest == 1 and (not names or max(trained) == len(names)))
    names = tuple(names) or tuple(str(label) for label in range(first, max(trained) + 1))
    for split, records in splits.items():
        wrong = sorted(label for label in records.labels if not 0 <= label - first < len(names))
        if wrong:
            raise ValueError(
                f"{records.labels[wrong[0]]} {split} examples in {records.files[0]} and its like "
                f"have the label {wrong[0]}, but labels are {first} to {first + len(names) - 1}."
            )
    counts = tuple(trained.get(first + index, 0) for index in range(len(names)))
    if 0 in counts:
        empty = counts.index(0)
        raise ValueError(
            f"No training example has the label {first + empty} ({names[empty]!r}), of "
            f"{len(names)} classes. Give a set that has examples of every class."
        )
    return first, names, counts


def _glob(pattern):
    if tf.io.gfile.isdir(pattern):
        files = tf.io.gfile.glob(os.path.join(pattern, "*"))
        return sorted(f for f in files if not f.endswith((".json", ".txt")) and _split_of(f))
    return sorted(tf.io.gfile.glob(pattern))


def _split_of(file):
    match = _SPLIT.search(os.path.basename(file).lower())
    return match and match[1]


def _by_name(files):
    by_name = {}
    for file in files:
        by_name.setdefault(_split_of(file), []).append(file)
    tests = (by_name.get(name) for name in ("test", "validation", "valid", "val"))
    return {"train": by_name.get("train", []), "test": next(filter(None, tests), [])}


def _read(files, size_bytes):
    keys = _keys(files)
    label_of = functools.partial(_label_if_readable, keys=keys)
    counts, corrupt, labels, damaged = [], [], Counter(), []
    for index, file in enumerate(tqdm(files, desc="reading all images once", disable=None)):
        found, whole = _collected(
            tf.data.TFRecordDataset(file).map(label_of, tf.data.AUTOTUNE, deterministic=True)
        )
        counts.append(len(found))
        corrupt += [(index, place) for place, label in enumerate(found) if label == _NO_LABEL]
        labels.update(int(label) for label in found if label != _NO_LABEL)
        damaged += [] if whole else [file]
    return Records(
        files, tuple(counts), tuple(corrupt), dict(labels), tuple(damaged), size_bytes, keys
    )


def _keys(files):
    """Returns the names of the features, from the first record that there is."""
    for file in files:
        for record in _collected(tf.data.TFRecordDataset(file).take(1))[0]:
            features = set(tf.train.Example.FromString(record).features.feature)
            for keys in KEYS:
                if set(keys) <= features:
                    return keys
            raise ValueError(
                f"The examples in {file} have the features {', '.join(sorted(features))}, but "
                f"{' or '.join(' and '.join(keys) for keys in KEYS)} are needed."
            )
    raise ValueError(f"There is no record in {files[0]}{' and its like' * (len(files) > 1)}.")


def _collected(dataset):
    """Returns a data set's elements up to an error in the file, and whether there was none."""
    elements = []
    try:
        for element in dataset.as_numpy_iterator():
            elements.append(element)
    except tf.errors.DataLossError:
        return elements, False
    return elements, True


def _label_if_readable(record, keys):
    def decoded(record):
        image, label = _parsed(record, keys)
        # The image has a part in the result, or it would not be decoded.
        return label + 0 * tf.cast(tf.size(decode_image(image)), tf.int64)

    # An error within a map ends the whole data set, so that errors are dropped from one each.
    alone = tf.data.Dataset.from_tensors(record).map(decoded).ignore_errors()
    return alone.reduce(tf.constant(_NO_LABEL, tf.int64), lambda _, label: label)


def _parsed(record, keys):
    image, label = keys
    features = {
        image: tf.io.FixedLenFeature([], tf.string),
        label: tf.io.FixedLenFeature([], tf.int64),
    }
    parsed = tf.io.parse_single_example(record, features)
    return parsed[image], parsed[label]


def _numbered(file, count, index):
    records = tf.data.TFRecordDataset(file).take(count).enumerate()
    return records.map(lambda place, record: (tf.stack([index, place]), record))


def _kept(path, files):
    fields = read_json(path, _KEPT, "It is made again.")
    if fields["files"] != list(files) or len(fields["counts"]) != len(files):
        raise ValueError(f"{path} is of other files. It is made again.")
    return Records(
        files=tuple(fields["files"]),
        counts=tuple(fields["counts"]),
        corrupt=tuple(map(tuple, fields["corrupt"])),
        labels={int(label): count for label, count in fields["labels"].items()},
        damaged=tuple(fields["damaged"]),
        size_bytes=fields["size_bytes"],
        keys=tuple(fields["keys"]),
    )
