"""The log: one packed tensor per recorded step, in a TensorBoard event file.

A log directory holds one event file per training that wrote to it. Each recorded step is one event
under the tag `gradient_flow`: a tensor of shape `(blocks, statistics)`, float32, or float64 where
float32 cannot hold one of its values, such as a norm above 3.4e38. The first such event of a file
has, in its summary metadata, a JSON text that names and describes the blocks and the statistics.
A few scalars about the whole model are written with it.

TensorBoard keeps only the header of a tag's first event in a directory. So a file whose header
differs from that one has its own tag, `gradient_flow@` and a digest of its header.

A file opens with the step at which its training began. Records of older files from that step on
were undone by a restart, and are left out when reading, as TensorBoard does.
"""

import contextlib
import glob
import hashlib
import itertools
import os
import socket
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from reszoo.files import is_stored, message_of
from reszoo.json_files import to_json
from reszoo.log_header import is_tag_of, parse_header, parse_table_header

if TYPE_CHECKING:
    import pandas as pd

PLUGIN_NAME = "gradient_flow"
TAG = "gradient_flow"
VARIABLES_TAG = "gradient_flow_variables"
HISTOGRAMS_TAG = "gradient_flow_histograms"
GRADIENTS_DIRECTORY = "gradients"  # of the log, in the work directory of a training
_TABLES_PLUGIN = "gradient_flow_tables"
ALARMS_TAG = "gradient_flow/alarms"
FINDINGS_TAG = "gradient_flow/findings"
FORMAT_VERSION = 1
Event, SessionLog, Summary = tf.compat.v1.Event, tf.compat.v1.SessionLog, tf.compat.v1.Summary
# DataClass of TensorFlow's summary.proto.
_SCALAR, _TENSOR = 1, 2
_FILE_PREFIX = "events.out.tfevents."
# Nothing can be appended to a file on Google Cloud Storage: a flush sends the whole file again, and
# no Python thread runs meanwhile. The service accepts one version of a file per second.
SECONDS_BETWEEN_UPLOADS = 30
_files_opened = itertools.count()


@dataclass(frozen=True)
class Record:
    """Record of one step.

    Attributes:
        step: The training step, counted from 0.
        wall_time: The time of writing, in seconds since 1970.
        blocks: A description of each block, with at least its `name`.
        statistics: The names of the statistics.
        values: Shape `(blocks, statistics)`, float32; float64 if float32 cannot hold one of them.
    """

    step: int
    wall_time: float
    blocks: Sequence[Mapping]
    statistics: Sequence[str]
    values: np.ndarray


class LogWriter:
    """Writes records to a new event file.

    Every record is on disk when `write` returns, so that a killed run loses nothing. To `gs://` the
    log is sent every 30 seconds, and by `flush` and `close`.

    Args:
        log_dir: The directory, local or `gs://`; created if it does not exist.
        blocks: A description of each block, as `reszoo.gradients.blocks` gives it.
        statistics: Names of the statistics.
        first_step: The training step at which this training begins.

    Raises:
        ValueError: If the directory cannot be written.
        OSError: Raised by the methods, if it can no longer be written.
    """

    def __init__(
        self, log_dir: str, blocks: Sequence[Mapping], statistics: Sequence[str], first_step: int
    ):
        self._header = {
            "version": FORMAT_VERSION,
            "blocks": list(blocks),
            "statistics": list(statistics),
        }
        self._described = {}
        self._log_dir = str(log_dir)
        self._flushed_at = -np.inf
        try:
            tf.io.gfile.makedirs(log_dir)
            self._tag = _tag_of(self._header, log_dir)
            self._file = tf.io.TFRecordWriter(os.path.join(log_dir, _new_file_name()))
            self._begin(first_step)
        except tf.errors.OpError as error:
            raise ValueError(
                f"The gradient log cannot be written to {str(log_dir)!r}: {message_of(error)}. "
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
        header = to_json(self._header)
        self._add(summary, self._tag, values, PLUGIN_NAME, _TENSOR, header)
        for name, value in scalars.items():
            self._add(summary, f"{TAG}/{name}", value, "scalars", _SCALAR, "")
        self._write_event(Event(step=step, summary=summary))

    def write_table(self, step: int, tag: str, values: np.ndarray, header: Mapping) -> None:
        """Writes another table of a recorded step.

        Args:
            step: The training step, counted from 0.
            tag: `VARIABLES_TAG` or `HISTOGRAMS_TAG`.
            values: Shape `(rows, columns)`.
            header: JSON values: the names of the `rows` and the `columns`.
        """
        summary = Summary()
        self._add(summary, tag, values, _TABLES_PLUGIN, _TENSOR, to_json(header))
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
        self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Closes the file."""
        with naming_what_fails(self._log_dir):
            self._file.close()

    def _add(
        self, summary: Any, tag: str, values: Any, plugin: str, data_class: int, content: str
    ) -> None:
        values = np.asarray(values)
        tensor = tf.make_tensor_proto(values if values.dtype == object else _as_stored(values))
        value = summary.value.add(tag=tag, tensor=tensor)
        # TensorBoard keeps the metadata of a tag's first event, our reader that of the latest.
        if self._described.get(tag) != content:
            self._described[tag] = content
            value.metadata.plugin_data.plugin_name = plugin
            value.metadata.plugin_data.content = content.encode()
            value.metadata.data_class = data_class

    def _write_event(self, event: Any) -> None:
        with naming_what_fails(self._log_dir):
            self._add_event(event)
        due = self._flushed_at + SECONDS_BETWEEN_UPLOADS
        if time.monotonic() >= due or not is_stored(self._log_dir):
            self.flush()

    def _add_event(self, event: Any) -> None:
        event.wall_time = time.time()
        self._file.write(event.SerializeToString())


@contextlib.contextmanager
def naming_what_fails(log_dir: str) -> Iterator[None]:
    """Context in which an error of TensorFlow becomes one that names the log.

    Args:
        log_dir: The directory of the log.

    Raises:
        OSError: If TensorFlow raised an error.
    """
    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(
            f"The gradient log in {log_dir!r} cannot be written: {message_of(error)}"
        ) from error


def _new_file_name() -> str:
    # Files sorted by name are in the order in which they were opened.
    seconds, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    return (
        f"{_FILE_PREFIX}{seconds:010d}.{nanoseconds:09d}.{socket.gethostname()}.{os.getpid()}."
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


def records(log_dir: str) -> Iterator[Record]:
    """Reads a log record by record, in bounded memory.

    A step that a restarted training recorded again is given once, as recorded last. A damaged file
    gives its records before the damage, with a warning. There is a warning also for a file beside
    others that cannot be read or has another version, and for records that do not fit their header.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.

    Yields:
        The records, in the order of their steps.

    Raises:
        ValueError: If there is no log, or none of its files can be read.
    """
    for event, header, values in _tensors(log_dir, TAG):
        yield Record(event.step, event.wall_time, header["blocks"], header["statistics"], values)


def load(log_dir: str) -> "pd.DataFrame":
    """Reads a log as a table with one number per row.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.

    Returns:
        A `pandas.DataFrame` with the columns `step` (int64), `block` and `statistic` (categorical,
        in the order of the network and of the table of statistics) and `value` (float32; float64
        if float32 cannot hold one of them), sorted by step. A value that is not defined, such as a
        cosine with a zero gradient, is NaN.

    Raises:
        ValueError: If there is no log.

    Example:

    >>> import tempfile
    >>> log_dir = tempfile.mkdtemp()
    >>> writer = LogWriter(log_dir, [{"name": "block1"}], ["skip_share"], first_step=0)
    >>> writer.write(0, [[0.5]], scalars={})
    >>> load(log_dir)
       step   block   statistic  value
    0     0  block1  skip_share    0.5
    """
    return _long_table(
        [
            (
                record.step,
                [block["name"] for block in record.blocks],
                record.statistics,
                record.values,
            )
            for record in records(log_dir)
        ],
        ("block", "statistic", "value"),
    )


def load_variables(log_dir: str) -> "pd.DataFrame":
    """Reads the statistics of each trainable variable, recorded with the set `"variables"`.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.

    Returns:
        A `pandas.DataFrame` with the columns `step`, `variable`, `statistic` (those of the set
        `"weights"`) and `value`, sorted by step; empty if none were recorded.

    Raises:
        ValueError: If there is no log.
    """
    return _long_table(
        [
            (event.step, header["rows"], header["columns"], values)
            for event, header, values in _tensors(log_dir, VARIABLES_TAG)
        ],
        ("variable", "statistic", "value"),
    )


def load_histograms(log_dir: str) -> "pd.DataFrame":
    """Reads the histograms of the magnitudes of gradients, recorded with the set `"histograms"`.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.

    Returns:
        A `pandas.DataFrame` with the columns `step`, `block`, `path` (`"skip"` or `"branch"`),
        `magnitude` and `count`: the number of values in `[magnitude, 2 * magnitude)`; those of
        magnitude 0 are exactly zero. The lowest and the highest bin also count the values beyond
        them. Empty if none were recorded.

    Raises:
        ValueError: If there is no log.
    """
    table = _long_table(
        [
            (event.step, header["rows"], header["columns"], values)
            for event, header, values in _tensors(log_dir, HISTOGRAMS_TAG)
        ],
        ("block", "column", "count"),
    )
    columns = list(table.column.cat.categories)
    codes = table.column.cat.codes.to_numpy()
    table.insert(2, "path", np.array([name.split(" ")[0] for name in columns], object)[codes])
    edges = np.array([float(name.split(" ")[1]) for name in columns])
    table.insert(3, "magnitude", edges[codes])
    return table.drop(columns="column")


def _long_table(
    recorded: Sequence[tuple[int, Sequence[str], Sequence[str], np.ndarray]],
    names: tuple[str, str, str],
) -> "pd.DataFrame":
    """Returns one number per row, given `(step, row names, column names, values)` of each step."""
    import pandas as pd  # Here, since importing the layers must stay quick.

    row_name, column_name, value_name = names
    rows = _positions(name for _, of_step, _, _ in recorded for name in of_step)
    columns = _positions(name for _, _, of_step, _ in recorded for name in of_step)
    steps, row_codes, column_codes, numbers = [], [], [], []
    for step, of_rows, of_columns, values in recorded:
        steps.append(np.full(values.size, step))
        codes = np.array([rows[name] for name in of_rows], np.int32)
        row_codes.append(np.repeat(codes, len(of_columns)))
        codes = np.array([columns[name] for name in of_columns], np.int32)
        column_codes.append(np.tile(codes, len(of_rows)))
        numbers.append(values.ravel())
    categorical = pd.Categorical.from_codes
    return pd.DataFrame(
        {
            "step": _joined(steps, np.int64),
            row_name: categorical(_joined(row_codes, np.int32), list(rows)),
            column_name: categorical(_joined(column_codes, np.int32), list(columns)),
            value_name: _joined(numbers, np.result_type(np.float32, *numbers)),
        }
    )


def _positions(names: Iterable[str]) -> dict[str, int]:
    return {name: position for position, name in enumerate(dict.fromkeys(names))}


def _joined(arrays: Iterable[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *arrays], dtype=dtype)


def _tensors(log_dir: str, tag: str) -> Iterator[tuple[Any, dict, np.ndarray]]:
    """Yields event, header and values of a tag, without the steps that a restart undid."""
    files = _event_files(log_dir)
    first_steps = [cast(int, _first_step(path)) for path in files]
    broken, found = [], False
    for index, path in enumerate(files):
        end = min(first_steps[index + 1 :], default=np.inf)
        try:
            for of_record in _tensors_of_file(path, tag, end):
                found = True
                yield of_record
        except ValueError as error:
            broken.append(error)
    if broken and not found:
        raise broken[0]
    _warn_of(broken)


def _tensors_of_file(path: str, tag: str, end: float) -> Iterator[tuple[Any, dict, np.ndarray]]:
    headers, misfits = {}, []
    for event in _events(path):
        for value in event.summary.value:
            if not is_tag_of(value.tag, tag):
                continue
            if value.metadata.plugin_data.content:
                headers[value.tag] = _header(path, tag, value.metadata.plugin_data.content)
            if event.step >= end:
                continue
            header = headers.get(value.tag)
            values = None if header is None else _values(value.tensor, header)
            if header is None or values is None:
                misfits.append(event.step)
            else:
                yield event, header, values
    if misfits:
        warnings.warn(
            f"{path}: {len(misfits)} of the records cannot be read and are left out, the first of "
            f"step {misfits[0]}: they hold no numbers, or not as many as the header names.",
            stacklevel=4,
        )


def _tag_of(header: Mapping, log_dir: str) -> str:
    """Returns the tag that only files with this header have in a directory."""
    content = to_json(header)
    if next(_headers(log_dir), content) == content:
        return TAG
    return f"{TAG}@{hashlib.sha256(content.encode()).hexdigest()[:12]}"


def _headers(log_dir: str) -> Iterator[str]:
    """Yields the text of the header of each file that has one under the plain tag."""
    for path in _files(log_dir, log_dir):
        for event in _events(path, warn=False) if _is_log(path, []) else ():
            contents = [v.metadata.plugin_data.content for v in event.summary.value if v.tag == TAG]
            if contents:
                yield contents[0].decode("utf-8", "replace")
                break


def recorded_steps(log_dir: str) -> dict[int, Sequence[str]]:
    """Returns the steps that a log holds, each with the names of its blocks.

    Args:
        log_dir: A recorder's `log_dir`; it need not exist.
    """
    steps = {}
    for path in _files(log_dir, log_dir):
        if not _is_log(path, []):
            continue
        names = {}
        for event in _events(path, warn=False):
            if event.session_log.status == SessionLog.START:
                steps = {step: steps[step] for step in steps if step < event.step}
            for value in event.summary.value:
                if not is_tag_of(value.tag, TAG):
                    continue
                if value.metadata.plugin_data.content:
                    names[value.tag] = _block_names(value.metadata.plugin_data.content)
                steps[event.step] = names.get(value.tag, ())
    return steps


def _block_names(content: bytes) -> Sequence[str]:
    try:
        return [block["name"] for block in parse_header(content)["blocks"]]
    except ValueError:
        return ()


def _warn_of(broken: Iterable[ValueError]) -> None:
    for error in broken:
        warnings.warn(f"A file of the log is left out, in part or whole. {error}", stacklevel=4)


def _header(path: str, tag: str, content: bytes) -> dict:
    try:
        return (parse_header if tag == TAG else parse_table_header)(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _values(tensor: Any, header: Mapping) -> np.ndarray | None:
    """Returns the values of a record, `None` if they do not fit the header."""
    try:
        values = tf.make_ndarray(tensor)
    except (TypeError, ValueError):  # the number of values is not that of its shape
        return None
    if values.dtype.kind not in "fiu":
        return None
    rows = header["blocks"] if "blocks" in header else header["rows"]
    columns = header["statistics"] if "blocks" in header else header["columns"]
    if values.dtype != np.float64:
        values = values.astype(np.float32)
    return values if values.shape == (len(rows), len(columns)) else None


def log_directories(log_dir: str) -> tuple[str, str]:
    """Returns the two directories that a log can be in: the given one, and that of a training.

    Args:
        log_dir: A recorder's `log_dir`, or the work directory of a training.

    Example:

    >>> log_directories("runs/digits")
    ('runs/digits', 'runs/digits/gradients')
    """
    return log_dir, os.path.join(log_dir, GRADIENTS_DIRECTORY)


def _event_files(log_dir: str) -> list[str]:
    unreadable = []
    for directory in log_directories(log_dir):
        files = [path for path in _files(directory, log_dir) if _is_log(path, unreadable)]
        if files:
            _warn_of(unreadable)
            return files
    if unreadable:
        raise unreadable[0]
    raise ValueError(
        f"There is no gradient log in {str(log_dir)!r}. Give the log_dir of a GradientRecorder, or "
        "the workdir of a training that recorded."
    )


def _is_log(path: str, unreadable: list[ValueError]) -> bool:
    try:
        return _first_step(path) is not None
    except ValueError as error:
        unreadable.append(error)
        return False


def _files(directory: str, log_dir: str) -> list[str]:
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
    return name.startswith(_FILE_PREFIX)


def _first_step(path: str) -> int | None:
    """Returns the step at which a log file's training began; `None` if it is not a log file."""
    for event in itertools.islice(_events(path, warn=False), 2):
        if event.session_log.status == SessionLog.START:
            return event.step
    return None


def _events(path: str, warn: bool = True) -> Iterator[Any]:
    """Yields the events of a file up to its end or the first damage."""
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
