"""Event files of a gradient log: those of a directory, and the events in one."""

import contextlib
import itertools
import os
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

from google.protobuf.message import DecodeError
from tensorboard.compat.proto import event_pb2, summary_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c

from reszoo.files import StoredPath, as_path, reason_of
from reszoo.gradients.log.format import FILE_PREFIX, TAG, log_directories

# The classes of messages exist only once their module is imported, so no type is known of them.
_EVENTS: Any = event_pb2
_SUMMARIES: Any = summary_pb2
Event, SessionLog, Summary = _EVENTS.Event, _EVENTS.SessionLog, _SUMMARIES.Summary


class LeftOutWarning(UserWarning):
    """A part of a log cannot be read and is left out.

    Args:
        text: The text.
        end_of: The file of which all that follows is left out; empty if only some of its records.
    """

    def __init__(self, text: str, end_of: str = ""):
        super().__init__(text)
        self.end_of = end_of


class _DamageError(Exception):
    """A record of a file is not as it was written."""


_DAMAGE = (_DamageError, DecodeError, MemoryError, OverflowError)


def headers_in(log_dir: str) -> Iterator[str]:
    """Yields the text of the header of each file that has one under the plain tag.

    Args:
        log_dir: A recorder's `log_dir`; it need not exist.
    """
    for path in files_in(log_dir, log_dir):
        for event in events(path, warn=False) if is_log(path, {}) else ():
            contents = [v.metadata.plugin_data.content for v in event.summary.value if v.tag == TAG]
            if contents:
                yield contents[0].decode("utf-8", "replace")
                break


def warn_of(broken: Mapping[str, ValueError]) -> None:
    """Warns of files that cannot be read beside others that can.

    Args:
        broken: The errors that their reading raised, by path.
    """
    for path, error in broken.items():
        text = f"A file of the log is left out, in part or whole. {error}"
        warnings.warn(LeftOutWarning(text, path), stacklevel=4)


def event_files(log_dir: str) -> list[str]:
    """Returns the paths of a log's files, in the order in which they were opened.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.

    Raises:
        ValueError: If there is no log, or none of its files can be read.
    """
    unreadable: dict[str, ValueError] = {}
    for directory in log_directories(log_dir):
        broken: dict[str, ValueError] = {}
        files = [path for path in files_in(directory, log_dir) if is_log(path, broken)]
        if files:
            warn_of(broken)  # those of another directory may be anybody's
            return files
        unreadable |= broken
    raise ValueError(
        f"There is no gradient log in {str(log_dir)!r}{_beside(list(unreadable.values()))} Give "
        "the log_dir of a GradientRecorder, or the workdir of a training that recorded."
    )


def _beside(unreadable: Sequence[ValueError]) -> str:
    """Returns the end of the sentence that there is no log, where files cannot be read."""
    if not unreadable:
        return "."
    more = f" {len(unreadable) - 1} more cannot be read either." if unreadable[1:] else ""
    return f" that can be read. {unreadable[0]}{more}"


def log_directory(log_dir: str) -> str:
    """Returns the directory of a log's files: the given one, or that of a training.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir; the answer if there is no log.
    """
    for directory in log_directories(log_dir):
        with contextlib.suppress(ValueError):
            if any(is_log(path, {}) for path in files_in(directory, log_dir)):
                return directory
    return log_dir


def is_log(path: str, unreadable: dict[str, ValueError]) -> bool:
    """Returns whether an event file is one of a gradient log.

    Args:
        path: The file.
        unreadable: The error is added to it, by path, if the file cannot be read.
    """
    try:
        return first_step(path) is not None
    except ValueError as error:
        unreadable[path] = error
        return False


def files_in(directory: str, log_dir: str) -> list[str]:
    """Returns the paths of the event files in a directory, in the order of their names.

    Args:
        directory: The directory; it need not exist.
        log_dir: The directory that the error names.

    Raises:
        ValueError: If the directory cannot be read.
    """
    path = as_path(directory)
    try:
        is_there = isinstance(path, StoredPath) or path.is_dir()
        files = [os.fspath(file) for file in path.iterdir()] if is_there else []
    except OSError as error:  # such as no access, or no bucket
        raise ValueError(
            f"The gradient log in {str(log_dir)!r} cannot be read: {reason_of(error)}"
        ) from error
    return sorted(file for file in files if os.path.basename(file).startswith(FILE_PREFIX))


def first_step(path: str) -> int | None:
    """Returns the step at which a log file's training began; `None` if it is not a log file.

    Args:
        path: An event file.

    Raises:
        ValueError: If the file cannot be read, or is damaged before that is known.
    """
    try:
        for event in itertools.islice(_undamaged(path), 2):
            if event.session_log.status == SessionLog.START:
                return event.step
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged at its beginning. {error}") from error
    return None


def events(path: str, warn: bool = True) -> Iterator[Any]:
    """Yields the events of a file up to its end or the first damage.

    Args:
        path: An event file.
        warn: Whether there is a warning of the damage.

    Raises:
        ValueError: If the file cannot be read.
    """
    read = 0
    try:
        for event in _undamaged(path):
            yield event
            read += 1
    except _DAMAGE as error:
        if warn:
            text = f"{path} is damaged after {read} events; what follows is left out. {error}"
            warnings.warn(LeftOutWarning(text, path), stacklevel=2)


def _undamaged(path: str) -> Iterator[Any]:
    """Yields the events of a file; a damage raises one of `_DAMAGE`."""
    try:
        with as_path(path).open("rb") as file:
            for record in _records(file):
                yield Event.FromString(record)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {reason_of(error)}") from error


def framed(record: bytes) -> bytes:
    """Returns a record as it stands in an event file: length, checksum, content, checksum.

    Args:
        record: The content, a serialized event.

    Example:

    >>> framed(b"").hex()
    '000000000000000029039807d8ea82a2'
    """
    length = struct.pack("<Q", len(record))
    return length + _checksum(length) + record + _checksum(record)


def _records(file: BinaryIO) -> Iterator[bytes]:
    """Yields the contents of a file's records.

    Raises:
        _DamageError: If one is cut short, or has another checksum.
    """
    while begin := file.read(12):
        if len(begin) < 12 or _checksum(begin[:8]) != begin[8:]:
            raise _DamageError("The length of a record is cut short or changed.")
        (length,) = struct.unpack("<Q", begin[:8])
        record = file.read(length)
        if _checksum(record) != file.read(4) or len(record) < length:
            raise _DamageError("The content of a record is cut short or changed.")
        yield record


def _checksum(content: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(content))
