"""Event files of a gradient log: those of a directory, and the events in one."""

import glob
import itertools
import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError

from reszoo.files import is_stored, message_of
from reszoo.gradients.log.format import FILE_PREFIX, TAG, log_directories

Event, SessionLog, Summary = tf.compat.v1.Event, tf.compat.v1.SessionLog, tf.compat.v1.Summary


def headers_in(log_dir: str) -> Iterator[str]:
    """Yields the text of the header of each file that has one under the plain tag.

    Args:
        log_dir: A recorder's `log_dir`; it need not exist.
    """
    for path in files_in(log_dir, log_dir):
        for event in events(path, warn=False) if is_log(path, []) else ():
            contents = [v.metadata.plugin_data.content for v in event.summary.value if v.tag == TAG]
            if contents:
                yield contents[0].decode("utf-8", "replace")
                break


def warn_of(broken: Iterable[ValueError]) -> None:
    """Warns of files that cannot be read beside others that can.

    Args:
        broken: The errors that their reading raised.
    """
    for error in broken:
        warnings.warn(f"A file of the log is left out, in part or whole. {error}", stacklevel=4)


def event_files(log_dir: str) -> list[str]:
    """Returns the paths of a log's files, in the order in which they were opened.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.

    Raises:
        ValueError: If there is no log, or none of its files can be read.
    """
    unreadable = []
    for directory in log_directories(log_dir):
        files = [path for path in files_in(directory, log_dir) if is_log(path, unreadable)]
        if files:
            warn_of(unreadable)
            return files
    if unreadable:
        raise unreadable[0]
    raise ValueError(
        f"There is no gradient log in {str(log_dir)!r}. Give the log_dir of a GradientRecorder, or "
        "the workdir of a training that recorded."
    )


def is_log(path: str, unreadable: list[ValueError]) -> bool:
    """Returns whether an event file is one of a gradient log.

    Args:
        path: The file.
        unreadable: The error is added to it if the file cannot be read.
    """
    try:
        return first_step(path) is not None
    except ValueError as error:
        unreadable.append(error)
        return False


def files_in(directory: str, log_dir: str) -> list[str]:
    """Returns the paths of the event files in a directory, in the order of their names.

    Args:
        directory: The directory; it need not exist.
        log_dir: The directory that the error names.

    Raises:
        ValueError: If the directory cannot be read.
    """
    try:
        return sorted(path for path in _paths(directory) if _is_event_file(os.path.basename(path)))
    except tf.errors.OpError as error:  # such as no access, or no bucket
        raise ValueError(
            f"The gradient log in {str(log_dir)!r} cannot be read: {message_of(error)}"
        ) from error


def _paths(directory: str) -> list[str]:
    if is_stored(directory):  # where a directory without access looks like one that does not exist
        return tf.io.gfile.glob(os.path.join(glob.escape(directory), "*"))
    names = tf.io.gfile.listdir(directory) if tf.io.gfile.isdir(directory) else []
    return [os.path.join(directory, name) for name in names]


def _is_event_file(name: str) -> bool:
    return name.startswith(FILE_PREFIX)


def first_step(path: str) -> int | None:
    """Returns the step at which a log file's training began; `None` if it is not a log file.

    Args:
        path: An event file.
    """
    for event in itertools.islice(events(path, warn=False), 2):
        if event.session_log.status == SessionLog.START:
            return event.step
    return None


def events(path: str, warn: bool = True) -> Iterator[Any]:
    """Yields the events of a file up to its end or the first damage.

    Args:
        path: An event file.
        warn: Whether there is a warning of the damage.

    Raises:
        ValueError: If the file cannot be read.
    """
    data = tf.data.TFRecordDataset(path)
    read = 0
    try:
        for serialized in data:
            yield Event.FromString(serialized.numpy())
            read += 1
    except (tf.errors.DataLossError, DecodeError) as error:
        if warn:
            warnings.warn(
                f"{path} is damaged after {read} events; what follows is left out. {error}",
                stacklevel=2,
            )
    except tf.errors.OpError as error:
        raise ValueError(f"{path} cannot be read: {message_of(error)}") from error
