"""TFRecord files, read once: what is in each record, and what cannot be used."""

import dataclasses
import functools
import hashlib
import itertools
import os
import zlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from absl import logging
from google.protobuf.message import DecodeError
from tqdm import tqdm

from reszoo.data.contents import mark_of
from reszoo.data.images import check_image, reason_of
from reszoo.json_files import read_json, to_json

# Features of an example: the encoded image and its label, of Model Garden and of TFDS.
KEYS = (("image/encoded", "image/class/label"), ("image", "label"))
FILES_AT_ONCE = 16
RECORDS_AT_ONCE = 256  # that are decoded in parallel
FIRST_RECORDS = 20  # which are asked for the names of features
HEAD_BYTES = 2**16  # in which a compressed file has to make sense
_CACHE_VERSION = 2  # of what is kept of the files that were read
_KEPT = {
    "files": [
        {
            "name": str,
            "size": int,
            "compression": str,
            "labels": [int],
            "fingerprints": [int],
            "unreadable": {str: str},
            "damage": str,
        }
    ],
    "keys": [str, str],
}


@dataclasses.dataclass(frozen=True)
class RecordFile:
    """The records of a file.

    Args:
        name: The file.
        size: In bytes, as it is stored.
        compression: `"GZIP"`, `"ZLIB"`, or `""`.
        labels: That of each record.
        fingerprints: That of the image in each record, a whole number.
        unreadable: Why a record has no image and label that can be read, by its number.
        damage: Why nothing is read behind these records; empty if nothing is there.
    """

    name: str
    size: int
    compression: str
    labels: tuple[int, ...]
    fingerprints: tuple[int, ...]
    unreadable: dict[int, str]
    damage: str

    @property
    def mark(self) -> str:
        """Differs where an image or a label differs."""
        return mark_of(self.size, [*self.fingerprints, *self.labels])

    def used_labels(self) -> list[int]:
        """Returns the labels of the records that can be read."""
        return [n for place, n in enumerate(self.labels) if place not in self.unreadable]

    def used_fingerprints(self) -> list[int]:
        """Returns the fingerprints of the images that can be read."""
        return [n for place, n in enumerate(self.fingerprints) if place not in self.unreadable]


@dataclasses.dataclass(frozen=True)
class Records:
    """The examples in some files, as they were found when all were read once.

    Args:
        files: What is in each.
        keys: Names of the features of an image and its label.
    """

    files: tuple[RecordFile, ...]
    keys: tuple[str, str]

    @functools.cached_property
    def labels(self) -> dict[int, int]:
        """How often each label occurs in what can be read."""
        counts = Counter()
        for file in self.files:
            counts.update(file.used_labels())
        return dict(counts)

    @property
    def examples(self) -> int:
        """Number of examples that can be used."""
        return sum(self.labels.values())

    @property
    def example_bytes(self) -> int:
        """About how many bytes an example has."""
        return max(1, sum(file.size for file in self.files) // max(1, self.examples))

    def dataset(self, first_label: int = 0, seed: int | None = None) -> tf.data.Dataset:
        """Returns the examples: encoded images and their labels, from several files in turn.

        Args:
            first_label: The label that becomes 0.
            seed: Of the order of the files; `None`: as they are.
        """
        order = np.arange(len(self.files))
        if seed is not None:
            order = np.random.default_rng(seed).permutation(order)
        columns = zip(*((f.name, f.compression, len(f.labels)) for f in self.files), strict=True)
        files = (*(np.array(column)[order] for column in columns), order)
        records = tf.data.Dataset.from_tensor_slices(files).interleave(
            _numbered, FILES_AT_ONCE, 1, tf.data.AUTOTUNE, deterministic=True
        )
        unreadable = [(i, place) for i, file in enumerate(self.files) for place in file.unreadable]
        if unreadable:
            places = tf.constant(unreadable, tf.int64)
            records = records.filter(
                lambda place, _: not tf.reduce_any(tf.reduce_all(place == places, axis=1))
            )

        def example(_, record):
            image, label = _parsed(record, self.keys)
            return image, label - first_label

        return records.map(example, tf.data.AUTOTUNE, deterministic=True)


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
    digest = hashlib.sha256(to_json([_CACHE_VERSION, identity]).encode()).hexdigest()[:32]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "reszoo"
    path = folder / f"tfrecord-{digest}.json"
    if path.exists():
        try:
            return _kept(path, files)
        except ValueError as error:
            logging.warning("%s", error)
    records = _read(files, [stat.length for stat in stats])
    _keep(path, records)
    return records


def _kept(path, names):
    fields = read_json(path, _KEPT, "It is made again.")
    files = tuple(map(_file_from, fields["files"]))
    if [file.name for file in files] != list(names):
        raise ValueError(f"{path} is of other files. It is made again.")
    return Records(files, tuple(fields["keys"]))


def _file_from(fields):
    unreadable = {int(place): reason for place, reason in fields.pop("unreadable").items()}
    labels, fingerprints = tuple(fields.pop("labels")), tuple(fields.pop("fingerprints"))
    return RecordFile(labels=labels, fingerprints=fingerprints, unreadable=unreadable, **fields)


def _keep(path, records):
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(to_json(dataclasses.asdict(records)), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        logging.warning("%s cannot be written (%s); the next run counts again.", path, error)


def _read(files, sizes):
    compressions = [_compression(file) for file in files]
    keys = _keys(files, compressions)
    sets = zip(files, sizes, compressions, strict=True)
    progress = tqdm(sets, desc="reading all images once", total=len(files), disable=None)
    return Records(tuple(_read_file(*file, keys) for file in progress), keys)


def _read_file(name, size, compression, keys):
    records = tf.data.TFRecordDataset(name, compression).as_numpy_iterator()
    looked_at, found, damage = functools.partial(_looked_at, keys=keys), [], None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while damage is None:
            some, error = _collected(itertools.islice(records, RECORDS_AT_ONCE))
            found += pool.map(looked_at, some)
            damage = None if len(some) == RECORDS_AT_ONCE else error
    labels, fingerprints, reasons = zip(*found, strict=True) if found else ((), (), ())
    unreadable = {place: reason for place, reason in enumerate(reasons) if reason}
    return RecordFile(name, size, compression, labels, fingerprints, unreadable, damage)


def _compression(file):
    """Returns how a file is compressed, by its content: names are often wrong."""
    with tf.io.gfile.GFile(file, "rb") as stream:
        head = stream.read(HEAD_BYTES)
    for name, window in (("GZIP", 31), ("ZLIB", 15)):
        decompressor = zlib.decompressobj(window)
        try:
            begin = decompressor.decompress(head)
        except zlib.error:
            continue
        # The length of a first record could look like the two bytes that a compressed file
        # begins with, but not all that follows.
        if begin or decompressor.eof:
            return name
    return ""


def _keys(files, compressions):
    """Returns the names of the features, from the first record that has some that are known."""
    first = None
    for file, compression in zip(files, compressions, strict=True):
        records = tf.data.TFRecordDataset(file, compression).take(FIRST_RECORDS)
        for features in map(_features, _collected(records.as_numpy_iterator())[0]):
            for keys in KEYS:
                if set(keys) <= features.keys():
                    return keys
            first = first or (file, features)
        if first:
            break
    if not first:
        raise ValueError(f"There is no record in {files[0]}{' and its like' * (len(files) > 1)}.")
    features = ", ".join(sorted(first[1]))
    there = f"have the features {features}" if features else "are no tf.train.Example"
    raise ValueError(
        f"The records in {first[0]} {there}, but "
        f"{' or '.join(' and '.join(keys) for keys in KEYS)} are needed."
    )


def _features(record):
    try:
        return dict(tf.train.Example.FromString(record).features.feature)
    except DecodeError:
        return {}


def _collected(records):
    """Returns records up to an error in the file, and that error in words."""
    elements = []
    try:
        for element in records:
            elements.append(element)
    except tf.errors.OpError as error:
        return elements, reason_of(error)
    return elements, ""


def _looked_at(record, keys):
    """Returns label and fingerprint of a record, and why it cannot be read if that is so."""
    features = _features(record)
    image, label = (features.get(key) for key in keys)
    try:
        if image is None or label is None:
            raise ValueError(f"there is no {keys[0] if image is None else keys[1]}")
        if len(image.bytes_list.value) != 1:
            raise ValueError(f"{keys[0]} is not the bytes of one image")
        if label.bytes_list.value:
            raise ValueError(f"{keys[1]} is a text, not a whole number")
        if len(label.int64_list.value) != 1:
            raise ValueError(f"{keys[1]} is not one whole number")
        return label.int64_list.value[0], check_image(image.bytes_list.value[0]), ""
    except ValueError as error:
        return 0, 0, str(error)


def _parsed(record, keys):
    image, label = keys
    features = {
        image: tf.io.FixedLenFeature([], tf.string),
        label: tf.io.FixedLenFeature([], tf.int64),
    }
    parsed = tf.io.parse_single_example(record, features)
    return parsed[image], parsed[label]


def _numbered(file, compression, count, index):
    records = tf.data.TFRecordDataset(file, compression).take(count).enumerate()
    return records.map(lambda place, record: (tf.stack([index, place]), record))
