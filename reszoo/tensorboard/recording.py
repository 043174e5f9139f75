"""Recorded steps of a run as arrays, and the packed form that the page reads.

A packed answer is a 4-byte little-endian length, a JSON header of that length padded with spaces so
that numbers lie on 8-byte boundaries, then little-endian: the steps and the wall times as float64,
and the values as float32 of shape `(statistics, blocks, steps)`. The HTML report embeds the same
bytes that TensorBoard's server sends.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from reszoo.gradients.log.format import parse_table_header
from reszoo.gradients.statistics import STATISTICS
from reszoo.json_files import parse_json, to_json


@dataclass(frozen=True)
class Recording:
    """Recorded steps of one run.

    Attributes:
        blocks: A description of each block, with at least its `name`.
        statistics: The names of the statistics, in the order of the values.
        steps: Shape `(steps,)`, int64, increasing.
        wall_times: Shape `(steps,)`, in seconds since 1970.
        values: Shape `(steps, blocks, statistics)`, float32.
        left_out: Number of recorded steps that are left out, since they do not fit the header.
        tested_alarms: The alarms that all steps were tested for: kind and limits of each; `None` if
            the log does not say of all of them.
    """

    blocks: Sequence[Mapping]
    statistics: Sequence[str]
    steps: np.ndarray
    wall_times: np.ndarray
    values: np.ndarray
    left_out: int = 0
    tested_alarms: Sequence[Mapping] | None = None


def stack(header: Mapping, points: Iterable[tuple[int, float, np.ndarray]]) -> Recording:
    """Stacks recorded steps into arrays.

    Args:
        header: The header of their log, from `parse_header`.
        points: The number, the wall time and the array of each step, of shape
            `(blocks, statistics)`. An array of another shape, which a changed model wrote to the
            same directory, or without numbers is left out and counted. Of a step that occurs twice
            the last one is kept.

    Returns:
        The recording, in the order of the steps.
    """
    shape = (len(header["blocks"]), len(header["statistics"]))
    points = list(points)
    fits = [_is_of(values, shape) for _, _, values in points]
    fitting = {point[0]: point for point, fit in zip(points, fits, strict=True) if fit}
    kept = [fitting[step] for step in sorted(fitting)]
    return Recording(
        blocks=header["blocks"],
        statistics=[str(name) for name in header["statistics"]],
        steps=np.array([step for step, _, _ in kept], np.int64),
        wall_times=np.array([wall_time for _, wall_time, _ in kept], np.float64),
        values=_in_float32([values for _, _, values in kept]).reshape(len(kept), *shape),
        left_out=fits.count(False),
        tested_alarms=header.get("tested_alarms"),
    )


def histograms_header(content: bytes | str) -> dict[str, list]:
    """Returns the header of histograms as that of a recording, with a statistic for each bin.

    Args:
        content: The JSON text in the summary metadata.

    Raises:
        ValueError: If the text is not a header of a table.

    Example:

    >>> histograms_header('{"rows": ["a"], "columns": ["skip 0.0"]}')
    {'blocks': [{'name': 'a'}], 'statistics': ['skip 0.0']}
    """
    header = parse_table_header(content)
    return {"blocks": [{"name": row} for row in header["rows"]], "statistics": header["columns"]}


def at_nearest(recording: Recording, step: int) -> Recording:
    """Selects the recorded step that is nearest to one; none of an empty recording.

    Args:
        recording: All recorded steps.
        step: Any step.
    """
    distances = np.abs(recording.steps - step)
    nearest = slice(at := int(distances.argmin()), at + 1) if len(distances) else slice(0)
    return replace(
        recording,
        steps=recording.steps[nearest],
        wall_times=recording.wall_times[nearest],
        values=recording.values[nearest],
    )


def join(parts: Sequence[Recording]) -> Recording:
    """Joins recordings of one run under several headers.

    Args:
        parts: The recording under each header. Of a step in several of them, the values that were
            written last are kept, and of a block the description.

    Returns:
        The recording of all blocks and statistics, in the order of the steps. Values that were not
        recorded are NaN.

    Example:

    >>> parts = [
    ...     stack({"blocks": [{"name": name}], "statistics": ["x"]}, [(step, step, [[1.0]])])
    ...     for step, name in enumerate("ab")
    ... ]
    >>> join(parts).values.tolist()
    [[[1.0], [nan]], [[nan], [1.0]]]
    """
    if len(parts) == 1:
        return parts[0]
    by_time = sorted(parts, key=lambda part: list(part.wall_times[-1:]))
    blocks = {block["name"]: block for part in by_time for block in part.blocks}
    names = _merged([[block["name"] for block in part.blocks] for part in parts])
    statistics = _merged([part.statistics for part in parts])
    points = {}
    for part in parts:
        cells = np.ix_(
            [names.index(block["name"]) for block in part.blocks],
            [statistics.index(name) for name in part.statistics],
        )
        for step, wall_time, values in zip(part.steps, part.wall_times, part.values, strict=True):
            if step not in points or points[step][1] <= wall_time:
                whole = np.full((len(names), len(statistics)), np.nan, np.float32)
                whole[cells] = values
                points[step] = (step, wall_time, whole)
    header = {
        "blocks": [blocks[name] for name in names],
        "statistics": statistics,
        "tested_alarms": _in_all([part.tested_alarms for part in parts]),
    }
    joined = stack(header, points.values())
    return replace(joined, left_out=sum(part.left_out for part in parts))


def _in_all(alarms: Sequence[Sequence[Mapping] | None]) -> Sequence[Mapping] | None:
    """Returns the alarms that occur in all parts of a log; `None` if one does not say."""
    known = [of_part for of_part in alarms if of_part is not None]
    if len(known) < len(alarms):
        return None
    return [alarm for alarm in known[0] if all(alarm in of_part for of_part in known)]


def _merged(orders: Iterable[Sequence[str]]) -> list[str]:
    """Merges orders of names: a new name follows the name before it in its own order.

    New names at the beginning of an order precede the first name that is merged already.
    """
    merged: list[str] = []
    for names in orders:
        at = min((merged.index(name) for name in names if name in merged), default=len(merged))
        for name in names:
            if name not in merged:
                merged.insert(at, name)
            at = merged.index(name) + 1
    return merged


def without_undone(parts: Sequence[Recording]) -> list[Recording]:
    """Removes the steps that a restart, which recorded under another header, went back behind.

    TensorBoard's fast loader does this within each tag. Recordings whose ranges of steps do not
    overlap are kept as they are, whichever was written first.

    Args:
        parts: The recording under each header.

    Returns:
        The recordings without those steps.
    """
    return [
        _without_undone_by(part, [other for other in parts if other is not part]) for part in parts
    ]


def _without_undone_by(part: Recording, others: Sequence[Recording]) -> Recording:
    kept = np.ones(len(part.steps), bool)
    for other in others:
        if not len(part.steps) or not len(other.steps):
            continue
        if other.steps[0] > part.steps[-1] or part.steps[0] > other.steps[-1]:
            continue
        for index, (step, wall_time) in enumerate(zip(part.steps, part.wall_times, strict=True)):
            kept[index] &= not np.any((other.wall_times > wall_time) & (other.steps <= step))
    return replace(
        part,
        steps=part.steps[kept],
        wall_times=part.wall_times[kept],
        values=part.values[kept],
    )


def _is_of(values: Any, shape: tuple[int, int]) -> bool:
    array = np.asarray(values)
    return array.shape == shape and array.dtype.kind in "fiu"


def _in_float32(values: Sequence[np.ndarray]) -> np.ndarray:
    """Returns values in the page's dtype, in which those above 3.4e38 are infinite."""
    with np.errstate(over="ignore", under="ignore"):
        return np.array(values).astype(np.float32)


def select_steps(
    recording: Recording,
    first_step: int,
    last_step: int,
    max_steps: int,
    marked: Iterable[int] = (),
) -> Recording:
    """Selects the steps of a range, thinned to a maximum number.

    The range is divided into spans with equal numbers of training steps, and one recorded step of
    each span is kept: the first one that is marked, has an infinite value or counts non-finite
    values; or else the last one. Values are kept as recorded, not averaged. The first and the last
    recorded step of the range are always kept.

    Args:
        recording: All recorded steps.
        first_step: The first step of the range.
        last_step: The last step of the range, included.
        max_steps: The most steps that are kept, at least 3.
        marked: Steps that are preferred, such as those with alarms.
    """
    inside = np.flatnonzero((recording.steps >= first_step) & (recording.steps <= last_step))
    if len(inside) > max_steps:
        inside = inside[_one_of_each_span(recording, inside, max_steps - 2, marked)]
    return replace(
        recording,
        steps=recording.steps[inside],
        wall_times=recording.wall_times[inside],
        values=recording.values[inside],
    )


def _one_of_each_span(
    recording: Recording, inside: np.ndarray, number_of_spans: int, marked: Iterable[int]
) -> np.ndarray:
    """Returns increasing positions within `inside`: one per span, and both ends."""
    steps = recording.steps[inside]
    spans = (steps - steps[0]) * number_of_spans // (steps[-1] - steps[0] + 1)
    position = np.arange(len(inside))
    special = np.isin(steps, list(marked)) | _nonfinite(recording)[inside]
    # Preference within a span: special steps from the first on, then the others from the last.
    preference = np.where(special, position, 2 * len(inside) - position)
    order = np.lexsort((preference, spans))
    _, first_of_span = np.unique(spans[order], return_index=True)
    return np.union1d(order[first_of_span], [0, len(inside) - 1])


def _nonfinite(recording: Recording) -> np.ndarray:
    """Returns for each step whether it has an infinite value or counts non-finite ones."""
    counts = [name.endswith("_nonfinite") for name in recording.statistics]
    counted = (recording.values[:, :, counts] > 0).any(axis=(1, 2))
    return np.logical_or(counted, np.isinf(recording.values).any(axis=(1, 2)))


def select(recording: Recording, blocks: Sequence[str], statistics: Sequence[str]) -> Recording:
    """Selects blocks and statistics, and keeps their order.

    Args:
        recording: A recording with all of them.
        blocks: Names of blocks; all if empty.
        statistics: Names of statistics; all if empty.

    Raises:
        ValueError: If there is no such block or statistic.
    """
    names = [block["name"] for block in recording.blocks]
    rows = _positions("block", blocks, names)
    columns = _positions("statistic", statistics, recording.statistics)
    return replace(
        recording,
        blocks=[recording.blocks[row] for row in rows],
        statistics=[recording.statistics[column] for column in columns],
        values=recording.values[:, rows][:, :, columns],
    )


def _positions(kind: str, wanted: Sequence[str], known: Sequence[str]) -> list[int]:
    for name in wanted:
        if name not in known:
            raise ValueError(f"There is no {kind} {name!r} in this run.")
    return [index for index, name in enumerate(known) if not wanted or name in wanted]


def pack(recording: Recording, recorded_steps: int) -> bytes:
    """Packs a recording for the page, as the docstring of this module describes.

    Args:
        recording: The steps, blocks and statistics to send.
        recorded_steps: Number of recorded steps in the range, before thinning.
    """
    header = {
        "blocks": [block["name"] for block in recording.blocks],
        "statistics": list(recording.statistics),
        "steps": len(recording.steps),
        "recorded_steps": recorded_steps,
        "left_out": recording.left_out,
    }
    text = to_json(header).encode()
    text += b" " * (-(len(text) + 4) % 8)
    return b"".join(
        [
            np.array(len(text), "<u4").tobytes(),
            text,
            recording.steps.astype("<f8").tobytes(),
            recording.wall_times.astype("<f8").tobytes(),
            np.ascontiguousarray(recording.values.transpose(2, 1, 0), "<f4").tobytes(),
        ]
    )


def describe_statistics(names: Iterable[str]) -> list[dict]:
    """Returns the units, formulas and sets of statistics, for the page.

    Args:
        names: Names of statistics. An unknown one, which another version recorded, has an empty
            unit and formula.

    Returns:
        A dictionary with `name`, `unit`, `formula` and `group` for each.

    Example:

    >>> describe_statistics(["skip_share", "of_tomorrow"])[0]["unit"]
    'none, 0 to 1'
    """
    known = {statistic.name: statistic for statistic in STATISTICS}
    return [
        {
            "name": name,
            "unit": known[name].unit if name in known else "",
            "formula": known[name].formula if name in known else "",
            "group": known[name].set if name in known else "other",
        }
        for name in names
    ]


def describe_loss(losses: Mapping[int, float]) -> dict[str, list]:
    """Returns the loss of steps as the page reads it.

    Args:
        losses: The loss by step.

    Example:

    >>> describe_loss({10: 0.5, 0: 2.0})
    {'steps': [0, 10], 'values': [2.0, 0.5]}
    """
    steps = sorted(losses)
    values = [float(losses[step]) for step in steps]
    return {"steps": steps, "values": [x if math.isfinite(x) else None for x in values]}


def describe_epochs(epochs: Mapping[int, float]) -> dict[str, list]:
    """Returns the beginnings of epochs as the page reads them.

    Args:
        epochs: The epoch, counted from 0, by the step with which it begins.

    Example:

    >>> describe_epochs({0: 0, 23: 1})
    {'steps': [0, 23], 'epochs': [0, 1]}
    """
    steps = sorted(step for step in epochs if math.isfinite(epochs[step]))
    return {"steps": steps, "epochs": [int(epochs[step]) for step in steps]}


def parse_alarm(step: int, wall_time: float, text: str) -> dict:
    """Reads an alarm from a log.

    Args:
        step: The step at which the alarm was raised.
        wall_time: The time at which it was raised, in seconds since 1970.
        text: A JSON object with `alarm`, `block`, `path` and `text`; any other string is the `text`
            of an alarm.

    Returns:
        A dictionary with `step`, `wall_time`, `alarm`, `block`, `path` and `text`; unknown values
        are `None`.

    Example:

    >>> parse_alarm(3, 0.0, '{"alarm": "vanishing", "text": "It is gone."}')["alarm"]
    'vanishing'
    """
    try:
        found = parse_json(text, {}, "The alarm", "")
    except ValueError:
        found = {"text": text}
    alarm = {key: found.get(key) for key in ("alarm", "block", "path", "text")}
    strings = {key: None if value is None else _sendable(value) for key, value in alarm.items()}
    return {"step": int(step), "wall_time": float(wall_time), **strings}


def _sendable(value: Any) -> str:
    # JSON may hold a lone surrogate, which UTF-8 cannot encode.
    return str(value).encode("utf-8", "replace").decode()
