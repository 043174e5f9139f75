"""Writer of a gradient log."""

import contextlib
import errno
import itertools
import os
import socket
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tensorboard.util import tensor_util

from reszoo.files import as_path, is_stored, os_errors, reason_of
from reszoo.gradients.log.event_files import Event, SessionLog, Summary, framed, headers_in
from reszoo.gradients.log.format import (
    ALARMS_TAG,
    FILE_PREFIX,
    FINDINGS_TAG,
    FORMAT_VERSION,
    PLUGIN_NAME,
    TABLES_PLUGIN,
    TAG,
    header_text,
    tag_of,
)
from reszoo.json_files import to_json

# DataClass of TensorFlow's summary.proto.
_SCALAR, _TENSOR = 1, 2
# Nothing can be appended to a file on Google Cloud Storage: a flush sends the whole file again, and
# no Python thread runs meanwhile. The service accepts one version of a file per second.
SECONDS_BETWEEN_UPLOADS = 30
_files_opened = itertools.count()


class LogWriter:
    """Writes records to a new event file.

    Every record is on disk when `write` returns, so that a killed run loses nothing. To `gs://` the
    log is sent every 30 seconds, and by `flush` and `close`.

    Args:
        log_dir: The directory, local or `gs://`; created if it does not exist.
        blocks: A description of each block, as `reszoo.gradients.blocks` gives it.
        statistics: Names of the statistics.
        first_step: The training step at which this training begins.
        tested_alarms: A description of each alarm that the steps are tested for, as
            `reszoo.gradients.alarms` gives it; `None` if that is not known.

    Raises:
        ValueError: If the directory cannot be written.
        OSError: Raised by the methods, if it can no longer be written.
    """

    def __init__(
        self,
        log_dir: str,
        blocks: Sequence[Mapping],
        statistics: Sequence[str],
        first_step: int,
        tested_alarms: Sequence[Mapping] | None = None,
    ):
        header: dict[str, Any] = {
            "version": FORMAT_VERSION,
            "blocks": list(blocks),
            "statistics": list(statistics),
        }
        if tested_alarms is not None:
            header["tested_alarms"] = list(tested_alarms)
        self._header_text = header_text(header)
        self._described = {}
        self._log_dir = str(log_dir)
        self._flushed_at = -np.inf
        self._closing = contextlib.ExitStack()
        # A log that its training left open is closed with the writer, without a warning.
        weakref.finalize(self, self._closing.close).atexit = False
        directory = as_path(log_dir)
        try:
            with _raising_os_errors(self._log_dir):
                directory.mkdir(parents=True, exist_ok=True)
                self._tag = tag_of(header, headers_in(self._log_dir))
                self._path = directory / _new_file_name()
                self._file = self._closing.enter_context(self._path.open("wb"))
                self._begin(first_step)
        except OSError as error:
            raise ValueError(
                f"The gradient log cannot be written to {str(log_dir)!r}: {reason_of(error)}. "
                "Give GradientRecorder a directory that can be made and written."
            ) from error

    def _begin(self, first_step: int) -> None:
        self._add_event(Event(file_version="brain.Event:2"))
        start = SessionLog(status=SessionLog.START)
        self._add_event(Event(step=first_step, session_log=start))
        self._file.flush()

    def write(self, step: int, values: np.ndarray, scalars: Mapping[str, float]) -> None:
        """Writes one recorded step.

        Args:
            step: The training step, counted from 0.
            values: Shape `(blocks, statistics)`.
            scalars: Numbers about the whole model, by name.
        """
        summary = Summary()
        self._add(summary, self._tag, values, PLUGIN_NAME, _TENSOR, self._header_text)
        self._add_scalars(summary, scalars)
        self._write_event(Event(step=step, summary=summary))

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        """Writes numbers of a step that need not be recorded.

        Args:
            step: The training step, counted from 0.
            scalars: Numbers about the training, by name.
        """
        summary = Summary()
        self._add_scalars(summary, scalars)
        # On an object store they go with the next recorded step, which would else have to wait.
        self._write_event(Event(step=step, summary=summary), uploads=False)

    def _add_scalars(self, summary: Any, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._add(summary, f"{TAG}/{name}", value, "scalars", _SCALAR, "")

    def write_table(self, step: int, tag: str, values: np.ndarray, header: Mapping) -> None:
        """Writes another table of a recorded step.

        Args:
            step: The training step, counted from 0.
            tag: `VARIABLES_TAG` or `HISTOGRAMS_TAG`.
            values: Shape `(rows, columns)`.
            header: JSON values: the names of the `rows` and the `columns`.
        """
        summary = Summary()
        # As the recorded steps beside it, with the digest of their header if that is another one.
        tag += self._tag.removeprefix(TAG)
        self._add(summary, tag, values, TABLES_PLUGIN, _TENSOR, to_json(header))
        self._write_event(Event(step=step, summary=summary))

    def write_text(self, step: int, text: str) -> None:
        """Writes the findings of alarms for TensorBoard's page of texts.

        Args:
            step: The training step, counted from 0.
            text: Markdown.
        """
        summary = Summary()
        self._add(summary, ALARMS_TAG, np.array([text], object), "text", _TENSOR, "")
        self._write_event(Event(step=step, summary=summary))

    def write_findings(self, step: int, findings: Sequence[str]) -> None:
        """Writes the findings of alarms for the plugin's marks on the time axis.

        Args:
            step: The training step, counted from 0.
            findings: JSON objects, as in the lines of `alarms.jsonl`.
        """
        summary = Summary()
        self._add(summary, FINDINGS_TAG, np.array(findings, object), PLUGIN_NAME, _TENSOR, "")
        self._write_event(Event(step=step, summary=summary))

    def flush(self) -> None:
        """Writes the records that are buffered."""
        with naming_what_fails(self._log_dir):
            self._file.flush()
            self._check_that_it_is_there()
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Closes the file."""
        with naming_what_fails(self._log_dir):
            self._closing.close()

    def _add(
        self, summary: Any, tag: str, values: Any, plugin: str, data_class: int, content: str
    ) -> None:
        values = np.asarray(values)
        values = values if values.dtype == object else _as_stored(values)
        tensor = tensor_util.make_tensor_proto(values)
        value = summary.value.add(tag=tag, tensor=tensor)
        # TensorBoard keeps the metadata of a tag's first event, our reader that of the latest.
        if self._described.get(tag) != content:
            self._described[tag] = content
            value.metadata.plugin_data.plugin_name = plugin
            value.metadata.plugin_data.content = content.encode()
            value.metadata.data_class = data_class

    def _write_event(self, event: Any, uploads: bool = True) -> None:
        with naming_what_fails(self._log_dir):
            self._add_event(event)
        is_due = uploads and time.monotonic() >= self._flushed_at + SECONDS_BETWEEN_UPLOADS
        if is_due or not is_stored(self._log_dir):
            self.flush()

    def _check_that_it_is_there(self) -> None:
        # What is written to a deleted file is lost without an error; one that was moved is not.
        if is_stored(self._log_dir) or os.fstat(self._file.fileno()).st_nlink:
            return
        if not self._path.exists():
            raise FileNotFoundError(errno.ENOENT, "its file was deleted while training ran")

    def _add_event(self, event: Any) -> None:
        event.wall_time = time.time()
        self._file.write(framed(event.SerializeToString()))


@contextlib.contextmanager
def naming_what_fails(log_dir: str) -> Iterator[None]:
    """Context in which an error of a file becomes one that names the log.

    Args:
        log_dir: The directory of the log.

    Raises:
        OSError: If a file could not be written.
    """
    try:
        with _raising_os_errors(log_dir):
            yield
    except OSError as error:
        raise OSError(
            f"The gradient log in {log_dir!r} cannot be written: {reason_of(error)}"
        ) from error


def _raising_os_errors(log_dir: str) -> contextlib.AbstractContextManager:
    return os_errors(log_dir) if is_stored(log_dir) else contextlib.nullcontext()


def _new_file_name() -> str:
    # Files sorted by name are in the order in which they were opened.
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return (
        f"{FILE_PREFIX}{seconds:010d}.{nanoseconds:09d}.{socket.gethostname()}.{os.getpid()}."
        f"{next(_files_opened)}"
    )


def _as_stored(values: np.ndarray) -> np.ndarray:
    """Returns numbers in float32, or in float64 if one of them is not a normal float32 number."""
    with np.errstate(over="ignore", under="ignore"):
        single = values.astype(np.float32)
    magnitudes = np.abs(single)
    is_held = np.where(np.isfinite(values), magnitudes < np.inf, True)
    is_held &= (values == 0) | ~(magnitudes < np.finfo(np.float32).tiny)
    return single if is_held.all() else values.astype(np.float64)
