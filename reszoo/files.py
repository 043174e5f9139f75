"""Files on a disk and on an object store, `gs://`, by the names that `pathlib` has.

`etils.epath` and `fsspec` were considered, and are not used. The first raises TensorFlow's errors
instead of `OSError`, and asks Google's client for the zones of a bucket. The second adds a client
with its own credentials and caches, while event files and records go through TensorFlow's.
"""

import contextlib
import errno
import fnmatch
import functools
import glob
import importlib
import os
import posixpath
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reszoo.installed import without_tensorflow


@functools.total_ordering
class StoredPath(os.PathLike):
    """A path on an object store, read and written by TensorFlow.

    Its methods are those of `pathlib.Path` that a run needs. A file appears only when it is
    complete, so it needs no temporary name; a directory is only a common prefix of names. Errors
    are `OSError`, as on a disk.

    Args:
        address: The full address, such as `gs://bucket/run`.

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
        """Last part of the path."""
        return posixpath.basename(self._address)

    @property
    def parent(self) -> "StoredPath":
        """Path without its last part."""
        return StoredPath(posixpath.dirname(self._address))

    def absolute(self) -> "StoredPath":
        """Returns the path itself, which is always absolute."""
        return self

    resolve = absolute

    def exists(self) -> bool:
        """Returns whether a file or directory has this path."""
        with os_errors(self):
            return _gfile().exists(self._address)

    def mkdir(self, parents: bool = True, exist_ok: bool = True) -> None:
        """Creates a directory marker, which fails where writing is not permitted."""
        with os_errors(self):
            _gfile().makedirs(self._address)

    def glob(self, pattern: str) -> Iterator["StoredPath"]:
        """Yields the files of the directory whose names match a pattern."""
        with os_errors(self):
            there = _gfile().exists(self._address)
            names = _gfile().listdir(self._address) if there else []
        yield from (self / name for name in fnmatch.filter(names, pattern))

    def iterdir(self) -> Iterator["StoredPath"]:
        """Yields the files of the directory; fails where reading is not permitted."""
        # Without permission the directory looks like one that does not exist, but for a search.
        with os_errors(self):
            found = _gfile().glob(posixpath.join(glob.escape(self._address), "*"))
        yield from map(StoredPath, found)

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
        """Returns the content of a file."""
        with self.open("rb") as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        """Returns the content of a text file."""
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        """Writes bytes to a file."""
        with self.open("wb") as file:
            file.write(content)

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """Writes a text to a file."""
        self.write_bytes(text.encode(encoding))


def _gfile() -> Any:
    return _tensorflow().io.gfile


def _tensorflow() -> Any:
    """Returns TensorFlow, which paths on a disk do not need."""
    try:
        return importlib.import_module("tensorflow")
    except ImportError as error:
        raise ImportError(without_tensorflow("Paths on gs:// are read and written")) from error


@contextlib.contextmanager
def os_errors(path: str | os.PathLike) -> Iterator[None]:
    """Converts errors of TensorFlow's file systems to `OSError`.

    Args:
        path: The file, for the message.

    Raises:
        OSError: If TensorFlow raised an error in the context.
    """
    tf = _tensorflow()
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
    """Returns the message of a TensorFlow error without the names of node and operation.

    Args:
        error: A `tf.errors.OpError`.

    Example:

    >>> import tensorflow as tf
    >>> message_of(tf.errors.NotFoundError(None, None, "{{function_node f}} a; gone [Op:Read]"))
    'a; gone'
    """
    message = re.sub(r"^\{\{.*?\}\}|\[Op:\w*\]( name:.*)?$", "", error.message)
    return " ".join(message.split())


def reason_of(error: OSError) -> str:
    """Returns the reason of an error without number and path.

    Args:
        error: An error of a file on a disk or an object store.

    Example:

    >>> reason_of(FileNotFoundError(2, "No such file or directory", "a"))
    'No such file or directory'
    """
    return error.strerror or str(error)


def is_stored(path: str | os.PathLike) -> bool:
    """Returns whether a path is one on an object store.

    A file there cannot be appended to: TensorFlow sends the whole file again.

    Args:
        path: A path on a disk, or an address that begins with `gs://`.

    Example:

    >>> is_stored("gs://bucket/run"), is_stored("runs/mine")
    (True, False)
    """
    return os.fspath(path).startswith("gs://")


def as_path(path: str | os.PathLike) -> Path | StoredPath:
    """Returns a `Path`, or a `StoredPath` for an object store.

    Args:
        path: A path on a disk, or an address that begins with `gs://`.
    """
    return StoredPath(os.fspath(path)) if is_stored(path) else Path(path)


def append_text(path: Path | StoredPath, text: str) -> None:
    """Appends a text to a file, which is created if it does not exist.

    Args:
        path: The file.
        text: The text, line break included.
    """
    if is_stored(path):
        before = path.read_text() if path.exists() else ""
        path.write_text(before + text)
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


@contextlib.contextmanager
def written_whole(path: Path | StoredPath) -> Iterator[Path | StoredPath]:
    """Yields a path to write to; the file gets its own name only when it is complete.

    If writing fails, an earlier file of that name stays as it was, and no temporary file is left.

    Args:
        path: The file. On an object store a file is not visible before it is complete, so there it
            is written under its own name.

    Raises:
        OSError: If the file cannot be written.
    """
    if isinstance(path, StoredPath):
        with os_errors(path):
            yield path
        return
    partial = path.with_name(f"{path.stem}.partial{path.suffix}")
    # A leftover temporary file may be a link to another file.
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
    """Writes a text, in UTF-8, so that the file is either complete or as it was before.

    Args:
        path: The file.
        text: Its whole content.
    """
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8")


def copy_whole(source: Path | StoredPath, target: Path | StoredPath) -> None:
    """Copies a file, so that the target is either complete or as it was before.

    Args:
        source: The file to copy.
        target: Path of the copy.
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
