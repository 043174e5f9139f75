"""Files from untrusted sources: checks before a library reads them.

A file of weights comes from a download or from another person. Its format is determined from its
bytes, and it is refused if a library would read other files of this machine because of it, run out
of memory, or read numbers as zeros that were never written.
"""

import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import h5py

# Data is refused if its bytes exceed both this size and this multiple of its stored bytes.
_LARGE_BYTES = 2**32
_MOST_EXPANSION = 1000

_SIGNATURES = (
    (b"version https://git-lfs", "a pointer of Git LFS"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x80", "a pickle"),
)
_ZIP_MEMBERS = (
    ("config.json", "a Keras archive"),
    ("data.pkl", "a torch archive"),
    (".npy", "a NumPy archive"),
)


def kind_of(path: Path) -> str:
    """Returns the kind of a file, by its first bytes.

    Args:
        path: Path of a local file; its suffix is not used.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(512)
    if not head:
        return "nothing"
    if h5py.is_hdf5(path):
        return "HDF5"
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") + 8 <= path.stat().st_size:
        return "safetensors"
    # The version of the format, and the tag of a field that has a length.
    if len(head) > 2 and head[0] == 8 and 0 < head[1] < 32 and head[2] & 7 in (0, 2):
        return "an ONNX model"
    if head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        return "a web page"
    return "text" if _is_text(head) else "bytes of no known kind"


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "a zip archive that is cut short"
    for end, kind in _ZIP_MEMBERS:
        if any(name.endswith(end) for name in names):
            return kind
    return "a zip archive"


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\r\n" for byte in head)


def check_hdf5(file: h5py.File, where: str) -> None:
    """Checks that an HDF5 file contains all of its numbers itself.

    Args:
        file: The open file.
        where: Name of the file in errors.

    Raises:
        ValueError: If a link leads to another file, or a data set is stored in another file, is
            assembled from others, is not completely written, or is far larger than its stored
            bytes.
    """
    seen: set[h5py.Group] = set()
    groups: list[h5py.Group] = [file]
    while groups:
        group = groups.pop()
        for item in _items(group, where):
            if isinstance(item, h5py.Dataset):
                _check_dataset(item, where)
            elif isinstance(item, h5py.Group) and item not in seen:
                seen.add(item)
                groups.append(item)


def _items(group: h5py.Group, where: str) -> Iterator[h5py.Group | h5py.Dataset | h5py.Datatype]:
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            place = f"{str(group.name).rstrip('/')}/{name}"
            raise ValueError(
                f"{where} has a {type(link).__name__} at {place}, which "
                "could read other files of this machine, and is not read. Save the weights anew, "
                "without links."
            )
        yield group[name]


def _check_dataset(dataset: h5py.Dataset, where: str) -> None:
    reason = None
    if dataset.external or dataset.is_virtual:
        reason = "is stored in other files, which could be any of this machine"
    elif dataset.nbytes and not dataset.id.get_storage_size():
        reason = "was never written"
    elif dataset.chunks and dataset.id.get_num_chunks() < _chunks(dataset):
        reason = f"has {dataset.id.get_num_chunks()} of its {_chunks(dataset)} parts"
    elif _is_bomb(dataset.nbytes, dataset.id.get_storage_size()):
        reason = f"claims {dataset.nbytes:,} bytes of {dataset.id.get_storage_size():,}"
    if reason:
        raise ValueError(f"The data set {dataset.name} in {where} {reason}. Save the weights anew.")


def _chunks(dataset: h5py.Dataset) -> int:
    sizes = zip(dataset.shape, dataset.chunks or (), strict=True)
    return math.prod(-(-size // chunk) for size, chunk in sizes)


def _is_bomb(size: int, stored: int) -> bool:
    return size > _LARGE_BYTES and size > _MOST_EXPANSION * stored


def check_keras_file(path: Path) -> None:
    """Checks that a `.keras` file is complete, and contains all of its numbers itself.

    Args:
        path: Path of a local file.

    Raises:
        ValueError: If it is damaged, would be unpacked outside of its directory, or its weights are
            refused by `check_hdf5`.
    """
    where = repr(os.fspath(path))
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                _check_member(member, where)
            damaged = archive.testzip()
            if damaged is not None:
                raise ValueError(f"{damaged} in {where} is damaged: its checksum is wrong.")
            for name in archive.namelist():
                if name.endswith(".h5"):
                    _check_hdf5_within(archive, name, where)
    except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{where} is no whole Keras archive: {error}.") from error


def _check_member(member: zipfile.ZipInfo, where: str) -> None:
    parts = {*PurePosixPath(member.filename).parts, *PureWindowsPath(member.filename).parts}
    if ".." in parts or PurePosixPath(member.filename).is_absolute():
        raise ValueError(f"{where} has a file {member.filename!r}, which leads out of it.")
    if _is_bomb(member.file_size, member.compress_size):
        raise ValueError(
            f"{member.filename} in {where} claims {member.file_size:,} bytes of "
            f"{member.compress_size:,}."
        )


def _check_hdf5_within(archive: zipfile.ZipFile, name: str, where: str) -> None:
    with archive.open(name) as member, h5py.File(member, "r") as file:
        check_hdf5(file, f"{where}, {name},")
