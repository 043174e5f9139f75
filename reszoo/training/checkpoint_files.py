"""Files of checkpoints: named by the place in the training, written whole, read with a checksum."""

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
    """A checkpoint that is not what was written."""


def name_of(epoch: int, batch: int) -> str:
    """Returns the name of the checkpoint of a place.

    Args:
        epoch: Epochs done.
        batch: Batches done of the next one. Not the optimizer's steps: one that overflowed does not
            count there.

    Example:

    >>> name_of(2, 31)
    'step-000002-000000031.npz'
    """
    return f"step-{epoch:06d}-{batch:09d}.npz"


def place_of(path: Path | StoredPath) -> tuple[int, int]:
    """Returns the epochs and batches in the name of a checkpoint.

    Args:
        path: A file of `step_files`.
    """
    _, epoch, batch = path.name.removesuffix(".npz").split("-")
    return int(epoch), int(batch)


def step_files(directory: Path | StoredPath) -> list[Path | StoredPath]:
    """Returns the checkpoints in a directory, the earliest place first.

    Args:
        directory: Where they are. A copy under a name of its own is none of them.
    """
    files = [path for path in directory.glob("step-*.npz") if _NAME.fullmatch(path.name)]
    return sorted(files, key=place_of)


def write_arrays(path: Path | StoredPath, arrays: Mapping[str, Any]) -> None:
    """Writes a checkpoint, which appears under its name only when it is whole and on the disk.

    Args:
        path: The file.
        arrays: What it holds: arrays and texts.

    Raises:
        OSError: If it cannot be written; what was there before is intact.
    """
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    data = buffer.getbuffer()
    digest = hashlib.sha256(data).digest()
    with written_whole(path) as partial, partial.open("wb") as file:
        file.write(data)
        file.write(digest)


def read_arrays(path: Path | StoredPath) -> dict[str, np.ndarray]:
    """Returns what a checkpoint holds.

    Raises:
        DamagedError: If it is not what was written.
        ValueError: If it cannot be read for a reason that can be mended.
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
    # A pipe would be waited for.
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
    """Gives a file a name under which nothing looks for it, and returns that."""
    names = (f"{path.name}.aside{number or ''}" for number in range(10**6))
    aside = next(other for name in names if not (other := path.parent / name).exists())
    if is_stored(path):
        aside.write_bytes(path.read_bytes())
        path.unlink()
    else:
        os.replace(path, aside)
    return aside
