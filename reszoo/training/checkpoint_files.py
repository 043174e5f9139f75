"""Files of checkpoints: named by position in the training, complete, with a checksum."""

import errno
import hashlib
import io
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reszoo.files import StoredPath, is_stored, written_whole

BEST_FILE = "best.npz"
_NAME = re.compile(r"step-(\d{6,})-(\d{9,})\.npz")
_DIGEST_BYTES = hashlib.sha256().digest_size


class DamagedError(ValueError):
    """A checkpoint whose content is not what was written."""


def name_of(epoch: int, batch: int) -> str:
    """Returns the name of the checkpoint of a position in the training.

    Args:
        epoch: Number of epochs done.
        batch: Number of batches done of the next epoch. The optimizer's steps would not do: it does
            not count a step that overflowed.

    Example:

    >>> name_of(2, 31)
    'step-000002-000000031.npz'
    """
    return f"step-{epoch:06d}-{batch:09d}.npz"


def place_of(path: Path | StoredPath) -> tuple[int, int]:
    """Returns the epochs and batches in the name of a checkpoint.

    Args:
        path: A file that `step_files` returns.
    """
    _, epoch, batch = path.name.removesuffix(".npz").split("-")
    return int(epoch), int(batch)


def step_files(directory: Path | StoredPath) -> list[Path | StoredPath]:
    """Returns the checkpoints in a directory, the earliest first.

    Args:
        directory: The directory. Copies under other names are not included.
    """
    files = [path for path in directory.glob("step-*.npz") if _NAME.fullmatch(path.name)]
    return sorted(files, key=place_of)


def write_arrays(path: Path | StoredPath, arrays: Mapping[str, Any]) -> None:
    """Writes a checkpoint, which gets its name only when it is complete and on the disk.

    Args:
        path: The file.
        arrays: Arrays and texts, by name.

    Raises:
        OSError: If the file cannot be written; an earlier one stays as it was.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    data = buffer.getbuffer()
    digest = hashlib.sha256(data).digest()
    with written_whole(path) as partial, partial.open("wb") as file:
        # An object store takes bytes only.
        file.write(bytes(data) if is_stored(path) else data)
        file.write(digest)


def read_arrays(path: Path | StoredPath) -> dict[str, np.ndarray]:
    """Returns the arrays of a checkpoint, by name.

    Raises:
        DamagedError: If the content is not what was written.
        ValueError: If the file cannot be read for a reason that can be mended.
    """
    content = memoryview(_content(path))
    data, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        raise DamagedError(f"The checkpoint {path} is damaged: its checksum is wrong.")
    try:
        with np.load(io.BytesIO(data)) as arrays:
            return dict(arrays)
    except (zipfile.BadZipFile, ValueError, OSError, EOFError) as error:
        raise DamagedError(f"The checkpoint {path} is damaged: {error}.") from error


def _content(path: Path | StoredPath) -> bytes:
    # Opening a pipe would wait for its writer.
    if isinstance(path, Path) and path.exists() and not path.is_file():
        raise DamagedError(f"The checkpoint {path} is damaged: it is no regular file.")
    try:
        return path.read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        if error.errno == errno.EIO and not is_stored(path):
            raise DamagedError(f"The checkpoint {path} is damaged: {reason}.") from error
        raise ValueError(f"The checkpoint {path} cannot be read ({reason}).") from error


def move_aside(path: Path | StoredPath) -> Path | StoredPath:
    """Renames a file to a free name, such as `NAME.aside`, and returns that path."""
    names = (f"{path.name}.aside{number or ''}" for number in range(10**6))
    aside = next(other for name in names if not (other := path.parent / name).exists())
    if is_stored(path):
        aside.write_bytes(path.read_bytes())
        path.unlink()
    else:
        os.replace(path, aside)
    return aside
