"""Index of TFRecord files: label, fingerprint and readability of each record, kept in a cache."""

import dataclasses
import functools
import hashlib
import itertools
import os
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging
from google.protobuf.message import DecodeError
from tqdm import tqdm

from reszoo.data.contents import fingerprint_of
from reszoo.data.images import check_image, reason_of
from reszoo.json_files import read_json, to_json

# Features of the encoded image and its label, in the records of Model Garden and of TFDS.
KEYS = (("image/encoded", "image/class/label"), ("image", "label"))
FILES_AT_ONCE = 16  # that are interleaved
RECORDS_AT_ONCE = 256  # that are decoded in parallel
FIRST_RECORDS = 20  # that are searched for the names of the features
_OTHERS = {  # what files begin with that are often beside or instead of TFRecords
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"\x04\x22\x4d\x18": "an LZ4 file",
    b"\xff\x06\0\0sNaPpY": "a Snappy file",
    b"7z\xbc\xaf\x27\x1c": "a 7-Zip archive",
    b"PK\3\4": "a ZIP archive",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x89HDF": "an HDF5 file",
    b"\x93NUMPY": "an array of NumPy",
}
HEAD_BYTES = 2**16  # that are decompressed to detect a compression
_CACHE_VERSION = 2
_CACHE_SHAPE = {
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
    """Records of one file.

    Args:
        name: Path of the file.
        size: Size of the stored file in bytes.
        compression: `"GZIP"`, `"ZLIB"`, or `""`.
        labels: The label of each record; 0 where it is unreadable.
        fingerprints: The fingerprint of each record's image; 0 where it is unreadable.
        unreadable: Reasons why records have no usable image and label, by index.
        damage: Reason why the file cannot be read behind these records; empty if it is whole.
    """

    name: str
    size: int
    compression: str
    labels: tuple[int, ...]
    fingerprints: tuple[int, ...]
    unreadable: dict[int, str]
    damage: str

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the file, from its images and labels."""
        return fingerprint_of(self.size, [*self.fingerprints, *self.labels])

    def used_labels(self) -> list[int]:
        """Returns the labels of the records that can be read."""
        return [n for index, n in enumerate(self.labels) if index not in self.unreadable]

    def used_fingerprints(self) -> list[int]:
        """Returns the fingerprints of the images that can be read."""
        return [n for index, n in enumerate(self.fingerprints) if index not in self.unreadable]


@dataclasses.dataclass(frozen=True)
class Records:
    """Records of all files of a split.

    Args:
        files: The records of each file.
        keys: Names of the features of an image and its label.
    """

    files: tuple[RecordFile, ...]
    keys: tuple[str, str]

    @functools.cached_property
    def labels(self) -> dict[int, int]:
        """Number of usable examples, by label."""
        counts: Counter[int] = Counter()
        for file in self.files:
            counts.update(file.used_labels())
        return dict(counts)

    @property
    def examples(self) -> int:
        """Number of usable examples."""
        return sum(self.labels.values())

    @property
    def example_bytes(self) -> int:
        """Approximate size of an example in bytes."""
        return max(1, sum(file.size for file in self.files) // max(1, self.examples))

    def dataset(self, first_label: int = 0, seed: int | None = None) -> tf.data.Dataset:
        """Returns the usable examples, encoded images and labels, of several files in turn.

        Args:
            first_label: The label of the first class, which becomes 0.
            seed: Seed of a random order of the files; `None` keeps their order.
        """
        order = np.arange(len(self.files))
        if seed is not None:
            order = np.random.default_rng(seed).permutation(order)
        columns = zip(*((f.name, f.compression, len(f.labels)) for f in self.files), strict=True)
        files = (*(np.array(column)[order] for column in columns), order)
        numbered: Any = _numbered  # the hints of tf.data know functions of one argument only
        records = tf.data.Dataset.from_tensor_slices(files).interleave(
            numbered, FILES_AT_ONCE, 1, tf.data.AUTOTUNE, deterministic=True
        )
        unreadable = [(i, index) for i, file in enumerate(self.files) for index in file.unreadable]
        if unreadable:
            refused = tf.constant(unreadable, tf.int64)

            def is_usable(key: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
                return tf.logical_not(tf.reduce_any(tf.reduce_all(key == refused, axis=1)))

            predicate: Any = is_usable
            records = records.filter(predicate)

        def example(_: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image, label = _parsed(record, self.keys)
            return image, label - first_label

        parse: Any = example
        return records.map(parse, tf.data.AUTOTUNE, deterministic=True)


def read_once(files: Sequence[str]) -> Records:
    """Returns the records of some files, from the cache or by decoding every image once.

    The cache is `~/.cache/reszoo`, or `reszoo` in the directory of `XDG_CACHE_HOME`. The name of an
    entry depends on the names, sizes and modification times of the files.

    Args:
        files: Paths of TFRecord files.

    Raises:
        ValueError: If no record has an image and a label.
    """
    sizes, times = zip(*map(_size_and_time, files), strict=True)
    identity = [list(of_file) for of_file in zip(files, sizes, times, strict=True)]
    digest = hashlib.sha256(to_json([_CACHE_VERSION, identity]).encode()).hexdigest()[:32]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "reszoo"
    path = folder / f"tfrecord-{digest}.json"
    if path.exists():
        try:
            return _cached(path, files)
        except ValueError as error:
            logging.warning("%s", error)
    records = _read(files, sizes)
    _write_cache(path, records)
    return records


def _size_and_time(file: str) -> tuple[int, int]:
    """Returns the bytes of a file, and its time of modification in nanoseconds."""
    if "://" in file:
        stat = tf.io.gfile.stat(file)
        return stat.length, stat.mtime_nsec
    # TensorFlow knows the time of a local file in whole seconds only.
    stat = os.stat(file)
    return stat.st_size, stat.st_mtime_ns


def _cached(path: Path, names: Sequence[str]) -> Records:
    fields = read_json(path, _CACHE_SHAPE, "It is made again.")
    files = tuple(map(_file_from, fields["files"]))
    if [file.name for file in files] != list(names):
        raise ValueError(f"{path} describes other files. It is made again.")
    return Records(files, tuple(fields["keys"]))


def _file_from(fields: dict[str, Any]) -> RecordFile:
    unreadable = {int(index): reason for index, reason in fields.pop("unreadable").items()}
    labels, fingerprints = tuple(fields.pop("labels")), tuple(fields.pop("fingerprints"))
    return RecordFile(labels=labels, fingerprints=fingerprints, unreadable=unreadable, **fields)


def _write_cache(path: Path, records: Records) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(to_json(dataclasses.asdict(records)), encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        logging.warning(
            "%s cannot be written (%s); the next run reads all images again.", path, error
        )


def _read(files: Sequence[str], sizes: Sequence[int]) -> Records:
    compressions = [_compression(file) for file in files]
    keys = _keys(files, compressions)
    sets = zip(files, sizes, compressions, strict=True)
    progress = tqdm(sets, desc="reading all images once", total=len(files), disable=None)
    return Records(tuple(_read_file(*file, keys) for file in progress), keys)


def _read_file(name: str, size: int, compression: str, keys: tuple[str, str]) -> RecordFile:
    records = _records(name, compression).as_numpy_iterator()
    examine, found, damage = functools.partial(_examined, keys=keys), [], None
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        while damage is None:
            some, error = _collected(itertools.islice(records, RECORDS_AT_ONCE))
            found += pool.map(examine, some)
            damage = None if len(some) == RECORDS_AT_ONCE else error
    labels, fingerprints, reasons = zip(*found, strict=True) if found else ((), (), ())
    unreadable: dict[int, str] = {index: each for index, each in enumerate(reasons) if each}
    return RecordFile(name, size, compression, labels, fingerprints, unreadable, damage)


def _records(file: str | tf.Tensor, compression: Any) -> tf.data.Dataset:
    return tf.data.TFRecordDataset(file, compression)


def _compression(file: str) -> str:
    """Returns the compression of a file by its content, since names are often wrong."""
    with tf.io.gfile.GFile(file, "rb") as stream:
        head = stream.read(HEAD_BYTES)
    for name, window in (("GZIP", 31), ("ZLIB", 15)):
        decompressor = zlib.decompressobj(window)
        try:
            begin = decompressor.decompress(head)
        except zlib.error:
            continue
        # The length of an uncompressed first record may equal the two bytes with which compressed
        # files begin; what follows it does not decompress.
        if begin or decompressor.eof:
            return name
    return ""


def _described(file: str, compression: str) -> str:
    """Returns what a file is that has no record."""
    with tf.io.gfile.GFile(file, "rb") as stream:
        head = stream.read(HEAD_BYTES)
    if not head:
        return "it is empty"
    if compression:
        return f"it is compressed ({compression.lower()}), but what is in it are no TFRecords"
    found = [name for begin, name in _OTHERS.items() if head.startswith(begin)]
    if found:
        return f"it is {found[0]}, which is not read; unpack it, or write TFRecords of it"
    return "it is damaged in its first record, or no TFRecord file"


def _keys(files: Sequence[str], compressions: list[str]) -> tuple[str, str]:
    """Returns the names of the features, from the first record with known ones."""
    first = None
    for file, compression in zip(files, compressions, strict=True):
        records = _records(file, compression).take(FIRST_RECORDS)
        for features in map(_features, _collected(records.as_numpy_iterator())[0]):
            for keys in KEYS:
                if set(keys) <= features.keys():
                    return keys
            first = first or (file, features)
        if first:
            break
    if not first:
        others = " or the other files" * (len(files) > 1)
        raise ValueError(
            f"There is no record in {files[0]}{others}: {_described(files[0], compressions[0])}."
        )
    features = ", ".join(sorted(first[1]))
    there = f"have the features {features}" if features else "are no tf.train.Example"
    raise ValueError(
        f"The records in {first[0]} {there}, but must have "
        f"{' or '.join(' and '.join(keys) for keys in KEYS)}."
    )


def _features(record: bytes) -> dict[str, Any]:
    try:
        return dict(tf.train.Example.FromString(record).features.feature)
    except DecodeError:
        return {}


def _collected(records: Iterable[Any]) -> tuple[list[bytes], str]:
    """Returns the records before an error in the file, and its reason; empty if there is none."""
    elements = []
    try:
        for element in records:
            elements.append(element)
    except tf.errors.OpError as error:
        return elements, reason_of(error)
    return elements, ""


def _examined(record: bytes, keys: tuple[str, str]) -> tuple[int, int, str]:
    """Returns the label, the fingerprint and the reason why a record is unreadable, if it is."""
    features = _features(record)
    image, label = (features.get(key) for key in keys)
    try:
        if image is None or label is None:
            raise ValueError(f"there is no {keys[0] if image is None else keys[1]}")
        if len(image.bytes_list.value) != 1:
            raise ValueError(f"{keys[0]} is not the bytes of one image")
        if label.bytes_list.value:
            raise ValueError(f"{keys[1]} is a string, not a whole number")
        if len(label.int64_list.value) != 1:
            raise ValueError(f"{keys[1]} is not one whole number")
        return label.int64_list.value[0], check_image(image.bytes_list.value[0]), ""
    except ValueError as error:
        return 0, 0, str(error)


def _parsed(record: tf.Tensor, keys: tuple[str, str]) -> tuple[tf.Tensor, tf.Tensor]:
    image, label = keys
    features = {
        image: tf.io.FixedLenFeature([], tf.string),
        label: tf.io.FixedLenFeature([], tf.int64),
    }
    parsed = tf.io.parse_single_example(record, features)
    return parsed[image], parsed[label]


def _numbered(
    file: tf.Tensor, compression: tf.Tensor, count: tf.Tensor, file_index: tf.Tensor
) -> tf.data.Dataset:
    """Returns the records of a file, each with the index of its file and its own in the file."""
    records = _records(file, compression).take(count).enumerate()

    def with_indices(index: tf.Tensor, record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.stack([file_index, index]), record

    number: Any = with_indices
    return records.map(number)
