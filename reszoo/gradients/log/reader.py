"""Reader of a gradient log, record by record."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from tensorboard.util import tensor_util

from reszoo.gradients.log.event_files import (
    LeftOutWarning,
    SessionLog,
    event_files,
    events,
    files_in,
    first_step,
    is_log,
    warn_of,
)
from reszoo.gradients.log.format import (
    EPOCH_TAG,
    LOSS_TAGS,
    TAG,
    is_tag_of,
    parse_header,
    parse_table_header,
)


@dataclass(frozen=True)
class Record:
    """Record of one step.

    Attributes:
        step: The training step, counted from 0.
        wall_time: The time of writing, in seconds since 1970.
        blocks: A description of each block, with at least its `name`.
        statistics: The names of the statistics.
        values: Shape `(blocks, statistics)`, float32; float64 if float32 cannot hold one of them.
        tested_alarms: The alarms that the step was tested for: kind and limits of each; `None` if
            the log does not say, as those of earlier versions do not.
    """

    step: int
    wall_time: float
    blocks: Sequence[Mapping]
    statistics: Sequence[str]
    values: np.ndarray
    tested_alarms: Sequence[Mapping] | None = None


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
    for event, header, values in tensors(log_dir, TAG):
        blocks, statistics = header["blocks"], header["statistics"]
        alarms = header.get("tested_alarms")
        yield Record(event.step, event.wall_time, blocks, statistics, values, alarms)


def tensors(log_dir: str, tag: str) -> Iterator[tuple[Any, dict, np.ndarray]]:
    """Yields event, header and values of a tag, without the steps that a restart undid.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.
        tag: A plain tag, such as `VARIABLES_TAG`.

    Raises:
        ValueError: If there is no log, or none of its files can be read.
    """
    files = event_files(log_dir)
    first_steps = [cast(int, first_step(path)) for path in files]
    broken: dict[str, ValueError] = {}
    found = False
    for index, path in enumerate(files):
        end = min(first_steps[index + 1 :], default=np.inf)
        try:
            for of_record in _tensors_of_file(path, tag, end):
                found = True
                yield of_record
        except ValueError as error:
            broken[path] = error
    if broken and not found:
        raise next(iter(broken.values()))
    warn_of(broken)


def _tensors_of_file(path: str, tag: str, end: float) -> Iterator[tuple[Any, dict, np.ndarray]]:
    headers, misfits = {}, []
    for event in events(path):
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
        text = (
            f"{path}: {len(misfits)} of the records cannot be read and are left out, the first of "
            f"step {misfits[0]}: they hold no numbers, or not as many as the header names."
        )
        warnings.warn(LeftOutWarning(text), stacklevel=4)


def losses(log_dir: str, warn: bool = False) -> dict[int, float]:
    """Returns the loss of recorded steps, by step, without those that a restart undid.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.
        warn: Whether there is a warning of a damaged file, as where the records are read.

    Returns:
        The losses in the order of the steps; empty if the log has none.
    """
    found = _scalars(log_dir, LOSS_TAGS, warn)
    return next((of_tag for of_tag in found.values() if of_tag), {})


def epoch_starts(log_dir: str) -> dict[int, int]:
    """Returns the epochs, counted from 0, by the step with which each begins.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.

    Returns:
        The epochs in the order of the steps; empty if the log does not say.
    """
    return {step: int(epoch) for step, epoch in _scalars(log_dir, [EPOCH_TAG])[EPOCH_TAG].items()}


def _scalars(log_dir: str, tags: Sequence[str], warn: bool = False) -> dict[str, dict[int, float]]:
    """Returns scalars by tag and step, without those that a restart undid."""
    found: dict[str, dict[int, float]] = {tag: {} for tag in tags}
    for path in event_files(log_dir):
        for event in events(path, warn):
            if event.session_log.status == SessionLog.START:
                found = {
                    tag: {step: loss for step, loss in of_tag.items() if step < event.step}
                    for tag, of_tag in found.items()
                }
            for value in event.summary.value:
                number = _number(value) if value.tag in found else None
                if number is not None:
                    found[value.tag][event.step] = number
    return found


def _number(value: Any) -> float | None:
    """Returns the number of a scalar, `None` if it holds none."""
    if value.HasField("simple_value"):
        return value.simple_value
    try:
        array = tensor_util.make_ndarray(value.tensor)
    except (TypeError, ValueError):
        return None
    return float(array) if array.size == 1 and array.dtype.kind in "fiu" else None


def recorded_steps(log_dir: str) -> dict[int, Sequence[str]]:
    """Returns the steps that a log holds, each with the names of its blocks.

    Args:
        log_dir: A recorder's `log_dir`; it need not exist.
    """
    steps = {}
    for path in files_in(log_dir, log_dir):
        if not is_log(path, {}):
            continue
        names = {}
        for event in events(path, warn=False):
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


def _header(path: str, tag: str, content: bytes) -> dict:
    try:
        return (parse_header if tag == TAG else parse_table_header)(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _values(tensor: Any, header: Mapping) -> np.ndarray | None:
    """Returns the values of a record, `None` if they do not fit the header."""
    try:
        values = tensor_util.make_ndarray(tensor)
    except (TypeError, ValueError):  # the number of values is not that of its shape
        return None
    if values.dtype.kind not in "fiu":
        return None
    rows = header["blocks"] if "blocks" in header else header["rows"]
    columns = header["statistics"] if "blocks" in header else header["columns"]
    if values.dtype != np.float64:
        values = values.astype(np.float32)
    return values if values.shape == (len(rows), len(columns)) else None
