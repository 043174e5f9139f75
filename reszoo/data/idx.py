"""Images in IDX files, the format of MNIST: search of a folder, checks, reading.

An IDX file is two bytes of zero, a byte for the type of the elements, a byte for the number of
dimensions, each size as four bytes (the highest first), and the elements.
"""

import dataclasses
import gzip
import hashlib
import itertools
import math
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
from absl import logging

from reszoo.data.contents import Contents, counted
from reszoo.data.images import check_regular, reason_of
from reszoo.data.left_out import LeftOut, is_hidden
from reszoo.data.splits import role_named, tested_role
from reszoo.data.tfrecord import class_names
from reszoo.files import StoredPath, as_path

# Dimensions of the elements of each kind of file.
KINDS = {"images": ("number", "height", "width"), "labels": ("number",)}
_NAME = re.compile(
    r"(?:.*[-_. ])?(?P<split>[a-z0-9]+)[-_. ](?P<kind>images|labels)[-_. ]idx\d[-_. ]\w+(?:\.gz)?",
    re.IGNORECASE,
)
_UNSIGNED_BYTES = 0x08
_TYPES = {
    _UNSIGNED_BYTES: "unsigned bytes",
    0x09: "signed bytes",
    0x0B: "16-bit integers",
    0x0C: "32-bit integers",
    0x0D: "32-bit floats",
    0x0E: "64-bit floats",
}
_GZIP = b"\x1f\x8b"
_BYTES_AT_ONCE = 2**20  # a header may claim any size, so that memory grows with what is read

_Files = dict[tuple[str, str], list[Path | StoredPath]]  # by role of the split, and kind


@dataclasses.dataclass(frozen=True)
class IdxFile:
    """An IDX file of unsigned bytes that was read.

    Args:
        path: The file.
        elements: Its elements, `uint8`.
    """

    path: Path | StoredPath
    elements: np.ndarray


@dataclasses.dataclass(frozen=True)
class IdxSplit:
    """Images and labels of a split.

    Args:
        images: `(number, height, width)`.
        labels: `(number,)`.
    """

    images: IdxFile
    labels: IdxFile


def idx_examples(path: str) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], Contents]:
    """Returns the images and labels in the IDX files of a folder.

    The files are those of MNIST, such as `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
    `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, where `.` may stand for `-`, others may
    come before the split, and the split may be any name of `reszoo.data.splits`. They are read by
    their content, whether it is compressed by gzip or not. Of files of the same content one is
    used; others that are left out are counted and named in warnings.

    Labels count from 0 or, as those of EMNIST's letters do, from 1. The names of the classes are
    the lines of `labels.txt` in the folder, or else the labels.

    Args:
        path: The folder, on a disk or `gs://`.

    Returns:
        For `"train"` and `"test"` the images, `uint8` of `(number, height, width, 1)`, and labels
        that count from 0; and the contents.

    Raises:
        ValueError: If a file is missing, there are several, one cannot be read or is not as its
            header says, or images and labels do not fit each other.
    """
    left_out = LeftOut(path)
    files = _files_by_split(path, left_out)
    splits = {
        split: IdxSplit(
            *(_only_content(files[split, kind], split, kind, left_out) for kind in KINDS)
        )
        for split in ("train", "test")
    }
    left_out.report()
    _check_sizes(splits)
    _report_copies(splits, path)
    names = class_names([str(splits["train"].labels.path)])
    first, names = _checked_labels(splits, names)
    examples = {
        name: (
            split.images.elements[..., np.newaxis],
            split.labels.elements.astype("int32") - first,
        )
        for name, split in splits.items()
    }
    return examples, _contents(splits, first, names)


def read_idx(file: Path | StoredPath, kind: str) -> np.ndarray:
    """Reads an IDX file of unsigned bytes.

    Args:
        file: The file, compressed by gzip or not.
        kind: `"images"` or `"labels"`.

    Raises:
        ValueError: If the file cannot be read, or is not as its header says.
    """
    try:
        _check_regular(file)
        with file.open("rb") as raw:
            is_compressed = raw.read(len(_GZIP)) == _GZIP
            raw.seek(0)
            if not is_compressed:
                return _elements(raw, file, kind)
            with gzip.GzipFile(fileobj=raw) as decompressed:
                return _elements(decompressed, file, kind)
    except (zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise ValueError(
            f"{file} cannot be decompressed ({reason_of(error)}): it must be a whole gzip file. "
            "Fetch it again."
        ) from error
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({reason_of(error)}).") from error


def _check_regular(file: Path | StoredPath) -> None:
    try:
        check_regular(str(file))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}.") from error


def _elements(stream: IO[bytes] | gzip.GzipFile, file: Path | StoredPath, kind: str) -> np.ndarray:
    shape = _shape(stream, file, kind)
    size = math.prod(shape)
    elements = b"".join(_read(stream, size))
    if len(elements) < size:
        raise ValueError(
            f"{file} is too short: its header says {_in_words(shape, kind)}, which are {size:,} "
            f"bytes, but {len(elements):,} follow it. Fetch it again."
        )
    if stream.read(1):
        raise ValueError(
            f"{file} is too long: its header says {_in_words(shape, kind)}, which are {size:,} "
            "bytes, but more follow it. Fetch it again."
        )
    return np.frombuffer(elements, "uint8").reshape(shape)


def _shape(
    stream: IO[bytes] | gzip.GzipFile, file: Path | StoredPath, kind: str
) -> tuple[int, ...]:
    """Reads the header; returns the number of elements along each dimension."""
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        raise ValueError(
            f"{file} is no IDX file: it must begin with two bytes of zero and those of the type "
            f"and the number of dimensions, but begins with {magic!r}."
        )
    if magic[2] != _UNSIGNED_BYTES:
        raise ValueError(
            f"The elements of {file} must be unsigned bytes (type 0x08), but are "
            f"{_TYPES[magic[2]]} (type 0x{magic[2]:02X})."
        )
    dimensions = KINDS[kind]
    if magic[3] != len(dimensions):
        cure = ' Color images can be read as files, by "folder:".' if magic[3] == 4 else ""
        raise ValueError(
            f"The {kind} of {file} must have the dimensions ({', '.join(dimensions)}), but have "
            f"{magic[3]} dimensions.{cure}"
        )
    sizes = stream.read(4 * len(dimensions))
    if len(sizes) < 4 * len(dimensions):
        raise ValueError(f"{file} is too short: it ends within its header. Fetch it again.")
    shape = tuple(np.frombuffer(sizes, ">u4").tolist())
    if 0 in shape:
        raise ValueError(f"{file} must have {kind}, but its header says {_in_words(shape, kind)}.")
    return shape


def _in_words(shape: tuple[int, ...], kind: str) -> str:
    return f"{shape[0]:,} {kind}" + f" of {_pixels(shape[1:])}" * (len(shape) > 1)


def _pixels(size: tuple[int, ...]) -> str:
    return f"{' x '.join(map(str, size))} pixels"


def _read(stream: IO[bytes] | gzip.GzipFile, size: int) -> Iterator[bytes]:
    """Yields what a stream has, up to a size."""
    while size > 0 and (chunk := stream.read(min(size, _BYTES_AT_ONCE))):
        size -= len(chunk)
        yield chunk


def _files_by_split(path: str, left_out: LeftOut) -> _Files:
    """Returns the files that may be the images and the labels of `"train"` and `"test"`."""
    folder = as_path(os.path.expanduser(path))
    by_role: _Files = {}
    for file in _listed(folder):
        match = _NAME.fullmatch(file.name)
        role = match and role_named(match["split"])
        if is_hidden(file.name):
            left_out.add("hidden files", file.name)
        elif match and role:
            by_role.setdefault((role, match["kind"].lower()), []).append(file)
        elif match:
            left_out.add("files whose names say no split", file.name)
        elif "ubyte" in file.name.lower():
            left_out.add("files whose names are not those of IDX files", file.name)
    tested = tested_role({role for role, _ in by_role}) or "test"
    for file in itertools.chain(*(by_role.get(("validation", kind), []) for kind in KINDS)):
        if tested == "test":
            left_out.add("files of validation, since those of test are tested", file.name)
    for split, kind in itertools.product(("train", "test"), KINDS):
        role = tested if split == "test" else split
        by_role[split, kind] = by_role.get((role, kind), [])
        if not by_role[split, kind]:
            left_out.report()
            name = f"{'t10k' if split == 'test' else split}-{kind}-idx{len(KINDS[kind])}-ubyte"
            raise ValueError(
                f"{folder} has no file of the {split} {kind}. It must have {name!r}, compressed "
                "by gzip or not."
            )
    return by_role


def _listed(folder: Path | StoredPath) -> list[Path | StoredPath]:
    """Returns the files of a folder, in the order of their names."""
    try:
        if isinstance(folder, StoredPath):
            return sorted(folder.glob("*"))
        return sorted(folder / name for name in os.listdir(folder))
    except NotADirectoryError as error:
        raise ValueError(
            f"{folder} must be a folder with IDX files, but is a file. Give the folder that it is "
            "in."
        ) from error
    except FileNotFoundError as error:
        raise ValueError(f"There is no folder {folder}. Give one that has IDX files.") from error
    except OSError as error:
        raise ValueError(f"The folder {folder} cannot be read ({reason_of(error)}).") from error


def _only_content(
    files: list[Path | StoredPath], split: str, kind: str, left_out: LeftOut
) -> IdxFile:
    """Reads one of several files, which must hold the same."""
    used, *others = _regular(files, left_out)
    elements = read_idx(used, kind)
    for other in others:
        if not np.array_equal(elements, read_idx(other, kind)):
            raise ValueError(
                f"{used} and {other} are both files of the {split} {kind}, but differ. Keep one, "
                "or put each data set into a folder of its own."
            )
        left_out.add(f"files that hold the same as {used.name}", other.name)
    return IdxFile(used, elements)


def _regular(files: list[Path | StoredPath], left_out: LeftOut) -> list[Path | StoredPath]:
    """Returns the regular files, or the first of the others, so that reading it says the error."""
    regular = [file for file in files if _is_regular(file)]
    for file in set(files) - set(regular) if regular else ():
        left_out.add("that are no regular files", file.name)
    return regular or files[:1]


def _is_regular(file: Path | StoredPath) -> bool:
    try:
        check_regular(str(file))
    except (OSError, ValueError):
        return False
    return True


def _check_sizes(splits: dict[str, IdxSplit]) -> None:
    for split in splits.values():
        images, labels = split.images, split.labels
        if len(images.elements) != len(labels.elements):
            raise ValueError(
                f"There must be as many labels as images, but {images.path} has "
                f"{len(images.elements):,} images and {labels.path} has "
                f"{len(labels.elements):,} labels."
            )
    train, test = (split.images for split in splits.values())
    if train.elements.shape[1:] != test.elements.shape[1:]:
        raise ValueError(
            "Training and test images must have the same size, but those of "
            f"{train.path} have {_pixels(train.elements.shape[1:])}, and those of {test.path} have "
            f"{_pixels(test.elements.shape[1:])}."
        )


def _checked_labels(
    splits: dict[str, IdxSplit], names: tuple[str, ...]
) -> tuple[int, tuple[str, ...]]:
    """Returns the first label, 0 or 1, and the names of the classes."""
    train = splits["train"].labels
    highest = int(train.elements.max())
    lowest = min(int(split.labels.elements.min()) for split in splits.values())
    first = int(lowest == 1 and (not names or highest == len(names)))
    labels = range(first, first + (len(names) or highest - first + 1))
    for split in splits.values():
        _check_range(split.labels, labels, f", as {len(names)} classes are named" * bool(names))
    missing = sorted(set(labels) - set(train.elements.tolist()))
    if missing:
        name = f" ({names[missing[0] - first]!r})" if names else ""
        raise ValueError(
            f"Every class must have training examples, but none has the label {missing[0]}{name}, "
            f"of {len(labels)} classes. The highest label is {highest}, which example "
            f"{int(train.elements.argmax())} of {train.path} has first."
        )
    return first, names or tuple(map(str, labels))


def _check_range(file: IdxFile, labels: range, reason: str) -> None:
    wrong = np.flatnonzero(~np.isin(file.elements, labels))
    if len(wrong):
        raise ValueError(
            f"{len(wrong):,} labels of {file.path} are out of range, first that of example "
            f"{wrong[0]}, which is {file.elements[wrong[0]]}, but labels must be {labels[0]} to "
            f"{labels[-1]}{reason}."
        )


def _report_copies(splits: dict[str, IdxSplit], path: str) -> None:
    train, test = (split.images for split in splits.values())
    trained = {image.tobytes() for image in train.elements}
    both = [
        f"image {index} of {test.path.name}"
        for index, image in enumerate(test.elements)
        if image.tobytes() in trained
    ]
    if both:
        what = "test images are training images too, byte for byte, so that the test says less"
        logging.warning("In %s %s.", path, counted(both, what))


def _contents(splits: dict[str, IdxSplit], first: int, names: tuple[str, ...]) -> Contents:
    counts, fingerprints = {}, {}
    for name, split in splits.items():
        images, labels = split.images.elements, split.labels.elements
        counts[name] = tuple(np.bincount(labels - first, minlength=len(names)).tolist())
        digest = hashlib.sha256(repr(images.shape).encode() + images.tobytes() + labels.tobytes())
        # Without names of files: compressed or not, the examples are the same.
        fingerprints[name] = {f"{name} images": f"{len(images)}:{digest.hexdigest()[:16]}"}
    return Contents(names, counts, **fingerprints)
