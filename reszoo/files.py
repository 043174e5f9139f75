"""Files on a disk and on an object store, `gs://`, by the names that `pathlib` has.

`etils.epath` and `fsspec` were looked at instead. The first lets TensorFlow's errors through and
asks Google's client for the zones of a bucket; the second brings a client with its own credentials
and caches beside TensorFlow's, which writes the event files and reads the records all the same.
"""

import contextlib
import errno
import fnmatch
import functools
import os
import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@functools.total_ordering
class StoredPath(os.PathLike):
    """A path on an object store, read and written by TensorFlow.

    Its methods are those of `pathlib.Path` that a run needs. What is written is there whole or not
    at all, without a detour by another name; a directory is no more than the beginning of names.
    Errors are `OSError`, as on a disk.

    Args:
        address: Such as `gs://bucket/run`.

    Example:

    >>> path = StoredPath("gs://bucket/run/") / "model.keras"
    >>> path, path.name, path.parent.name
    (StoredPath('gs://bucket/run/model.keras'), 'model.keras', 'run')
    """

    def __init__(self, address: str):
        self._address = str(address).rstrip("/")

    def __fspath__(self):
        return self._address

    def __str__(self):
        return self._address

    def __repr__(self):
        return f"StoredPath({self._address!r})"

    def __hash__(self):
        return hash(self._address)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredPath) and self._address == other._address

    def __lt__(self, other: "StoredPath") -> bool:
        return self._address < other._address

    def __truediv__(self, name: str) -> "StoredPath":
        return StoredPath(posixpath.join(self._address, name))

    @property
    def name(self) -> str:
        """The last part."""
        return posixpath.basename(self._address)

    @property
    def parent(self) -> "StoredPath":
        """All but the last part."""
        return StoredPath(posixpath.dirname(self._address))

    def absolute(self) -> "StoredPath":
        """Returns the path itself."""
        return self

    resolve = absolute

    def exists(self) -> bool:
        """Returns whether there is something."""
        with os_errors(self):
            return _gfile().exists(self._address)

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Marks a directory, which shows that one may write there."""
        with os_errors(self):
            _gfile().makedirs(self._address)

    def glob(self, pattern: str) -> Iterator["StoredPath"]:
        """Yields the files of the directory whose names match."""
        with os_errors(self):
            there = _gfile().exists(self._address)
            names = _gfile().listdir(self._address) if there else []
        yield from (self / name for name in fnmatch.filter(names, pattern))

    def unlink(self) -> None:
        """Deletes a file."""
        with os_errors(self):
            _gfile().remove(self._address)

    @contextlib.contextmanager
    def open(self, mode: str, newline: str = "", encoding: str = "utf-8") -> Iterator:
        """Opens a file; text is UTF-8, and newlines are written as they are given."""
        with os_errors(self), _gfile().GFile(self._address, mode) as file:
            yield file

    def read_bytes(self) -> bytes:
        """Returns what a file holds."""
        with self.open("rb") as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        """Returns what a file holds."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Writes a file."""
        with self.open("wb") as file:
            file.write(content)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """Writes a file."""
        self.write_bytes(text.encode(encoding))


def _gfile():
    import tensorflow as tf

    return tf.io.gfile


@contextlib.contextmanager
def os_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turns errors of TensorFlow's file systems into those that Python has for files.

    Args:
        path: The file.

    Raises:
        OSError: If TensorFlow raised an error.
    """
    import tensorflow as tf  # Here, since who writes to a disk alone needs none of it.

    numbers = {
        tf.errors.NotFoundError: errno.ENOENT,
        tf.errors.PermissionDeniedError: errno.EACCES,
    }
    try:
        yield
    except tf.errors.OpError as error:
        number = numbers.get(type(error), errno.EIO)
        raise OSError(number, message_of(error), str(path)) from error


def message_of(error: Any) -> str:
    """Returns the message of an error of TensorFlow without the node and operation that it adds.

    Args:
        error: A `tf.errors.OpError`.

    Example:

    >>> import tensorflow as tf
    >>> message_of(tf.errors.NotFoundError(None, None, "{{function_node f}} a; gone [Op:Read]"))
    'a; gone'
    """
    message = re.sub(r"^\{\{.*?\}\}|\[Op:\w*\]( name:.*)?$", "", error.message)
    return " ".join(message.split())


def is_stored(path: str | os.PathLike) -> bool:
    """Returns whether a path is one on an object store.

    Nothing can be appended to a file there: TensorFlow sends all of it again.

    Args:
        path: The path.

    Example:

    >>> is_stored("gs://bucket/run"), is_stored("runs/mine")
    (True, False)
    """
    return os.fspath(path).startswith("gs://")


def as_path(path: str | os.PathLike) -> Path | StoredPath:
    """Returns what reads and writes a path.

    Args:
        path: On a disk, or `gs://`.
    """
    return StoredPath(os.fspath(path)) if is_stored(path) else Path(path)


def append_text(path: Path | StoredPath, text: str) -> None:
    """Writes to the end of a file, which is made if it is not there.

    Args:
        path: The file.
        text: What is written.
    """
    if is_stored(path):
        before = path.read_text() if path.exists() else ""
        path.write_text(before + text)
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


@contextlib.contextmanager
def written_whole(path: Path | StoredPath) -> Iterator[Path | StoredPath]:
    """Yields a path to write to; the file appears under its own name only when it is whole.

    If it cannot be written, what was there before is intact and nothing else is left.

    Args:
        path: The file. Nothing is seen of it on an object store before it is whole, so there it is
            written under its own name.

    Raises:
        OSError: If it cannot be written.
    """
    if isinstance(path, StoredPath):
        with os_errors(path):
            yield path
        return
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    # One that was left may be a link to another file.
    partial.unlink(missing_ok=True)
    try:
        yield partial
        _sync(partial)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def write_whole(path: Path | StoredPath, text: str) -> None:
    """Writes a text, in UTF-8, so that the file is there either as before or whole.

    Args:
        path: The file.
        text: What it will hold.
    """
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def copy_whole(source: Path | StoredPath, target: Path | StoredPath) -> None:
    """Copies a file; the target is there either as before or whole.

    Args:
        source: The other file.
        target: The file.
    """
    with written_whole(target) as partial:
        if is_stored(target):
            partial.write_bytes(source.read_bytes())
            return
        try:
            os.link(source, partial)
        except OSError:  # a file system without links
            shutil.copyfile(source, partial)


def _sync(path: str | os.PathLike) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
