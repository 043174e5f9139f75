"""Alarms: what to look out for in the recorded steps of a training."""

import abc
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import keras
import numpy as np
import tensorflow as tf

from reszoo.files import as_path, is_stored
from reszoo.gradients.blocks import layers_of
from reszoo.gradients.log import naming_what_fails
from reszoo.json_files import OptionalField, read_json_lines, to_json

ALARMS_FILE = "alarms.jsonl"
# For how many recorded steps in a row each alarm has held.
ROWS_FILE = "alarms_in_a_row.jsonl"

_FINDING = {
    "step": int,
    "alarm": str,
    "block": str,
    "path": (str, None),
    "text": str,
    OptionalField("wall_time"): float,
}
_ROW = {"step": int, "in_a_row": [[str, str, (str, None), int]]}


@dataclass(frozen=True)
class RecordedStep:
    """What alarms look at.

    Attributes:
        step: The training step, counted from 0.
        blocks: The blocks by name, in the order of the network.
        statistics: Each of shape `(blocks,)`, by name.
    """

    step: int
    blocks: Mapping[str, keras.layers.Layer]
    statistics: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Finding:
    """Something that an alarm found.

    Attributes:
        step: The training step, counted from 0.
        alarm: The kind of alarm.
        block: The block's name.
        path: What of the block: `"skip"`, `"branch"`, `"output"`, `"weights"` or `None`.
        text: One sentence.
        wall_time: In seconds since 1970.
    """

    step: int
    alarm: str
    block: str
    path: str | None
    text: str
    wall_time: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Alarm(abc.ABC):
    """Something to look out for; it goes off once, when it begins.

    Args:
        recorded_steps: For how many recorded steps in a row it has to hold.
        stop_training: Whether training stops when it goes off.
    """

    kind = ""
    needs = "paths"

    recorded_steps: int = 1
    stop_training: bool = False

    def __post_init__(self):
        if self.recorded_steps < 1:
            raise ValueError(
                f"{type(self).__name__} got recorded_steps={self.recorded_steps}, but an alarm has "
                "to hold for at least 1."
            )

    @abc.abstractmethod
    def look(self, recorded: RecordedStep) -> Iterator[tuple[str, str | None, str]]:
        """Yields block, path and one sentence for everything found in one recorded step.

        Args:
            recorded: The step.
        """


@dataclass(frozen=True)
class NonFinite(Alarm):
    """A NaN or an infinite value in a gradient.

    Args:
        recorded_steps: For how many recorded steps in a row it has to hold.
        stop_training: Whether training stops when it goes off.

    Example:

    >>> NonFinite(stop_training=True)
    NonFinite(recorded_steps=1, stop_training=True)
    """

    kind = "nonfinite"

    def look(self, recorded):
        for path in ("output", "branch", "skip"):
            counts = recorded.statistics[f"{path}_gradient_nonfinite"]
            # Backward, the last block is the first to have it.
            for block, count in reversed(list(zip(recorded.blocks, counts, strict=True))):
                if count > 0:
                    yield block, path, f"{count:.0f} values of its {path} gradient are not finite"


@dataclass(frozen=True)
class Vanishing(Alarm):
    """The gradient that leaves the first block is a small fraction of the one at the last.

    Args:
        recorded_steps: For how many recorded steps in a row it has to hold.
        stop_training: Whether training stops when it goes off.
        fraction: It goes off below this.
    """

    kind = "vanishing"

    fraction: float = 1e-3

    def look(self, recorded):
        found = _first_to_last(recorded)
        if found < self.fraction:
            first = next(iter(recorded.blocks))
            yield first, None, f"the gradient that leaves it is {found:.2g} of the last block's"


@dataclass(frozen=True)
class Exploding(Alarm):
    """The gradient that leaves the first block is a large multiple of the one at the last.

    Args:
        recorded_steps: For how many recorded steps in a row it has to hold.
        stop_training: Whether training stops when it goes off.
        multiple: It goes off above this.
    """

    kind = "exploding"

    multiple: float = 1e3

    def look(self, recorded):
        found = _first_to_last(recorded)
        if found > self.multiple:
            first = next(iter(recorded.blocks))
            yield first, None, f"the gradient that leaves it is {found:.2g} times the last block's"


def _first_to_last(recorded):
    first = recorded.statistics["input_gradient_norm"][0]
    last = recorded.statistics["output_gradient_norm"][-1]
    return first / last if last else np.nan


@dataclass(frozen=True)
class DeadBranch(Alarm):
    """Nothing comes back through a branch, though something reaches the block.

    Args:
        recorded_steps: For how many recorded steps in a row it has to hold.
        stop_training: Whether training stops when it goes off.
    """

    kind = "dead_branch"

    recorded_steps: int = 3

    def look(self, recorded):
        branch = recorded.statistics["branch_gradient_norm"]
        output = recorded.statistics["output_gradient_norm"]
        for block, returned, reached in zip(recorded.blocks, branch, output, strict=True):
            if returned == 0 and reached > 0:
                yield block, "branch", "exactly nothing comes back through its branch"


@dataclass(frozen=True)
class SaturatedScale(Alarm):
    """Most scales of a block's batch normalization are next to zero, so its channels are off.

    It reads the scales themselves, one transfer a normalization.

    Args:
        recorded_steps: For how many recorded steps in a row it has to hold.
        stop_training: Whether training stops when it goes off.
        below: A scale whose magnitude is below this is off.
        share: It goes off when more than this share of a normalization's channels are.
    """

    kind = "saturated_scale"

    below: float = 1e-3
    share: float = 0.9

    def look(self, recorded):
        for name, block in recorded.blocks.items():
            for layer in layers_of(block):
                if not isinstance(layer, keras.layers.BatchNormalization) or not layer.scale:
                    continue
                off = np.mean(np.abs(layer.gamma.numpy()) < self.below)
                if off > self.share:
                    yield name, None, f"{off:.0%} of the scales of {layer.name!r} are next to zero"


class AlarmWatch:
    """Looks at every recorded step, and writes down what goes off.

    Args:
        alarms: The alarms.
        log_dir: The recorder's directory; findings go to `alarms.jsonl` in it.
        first_step: The training step at which training begins. What the files hold from that step
            on was undone by a restart, and is removed.
    """

    def __init__(self, alarms: Sequence[Alarm], log_dir: str, first_step: int):
        self.alarms = alarms
        self.path = os.path.join(log_dir, ALARMS_FILE)
        self._rows_path = os.path.join(log_dir, ROWS_FILE)
        self._holds_back = is_stored(log_dir)
        self._new_rows = []
        self._in_a_row = {}
        if tf.io.gfile.exists(self.path):
            kept = [f for f in read_findings(log_dir) if f.step < first_step]
            _write(self.path, "w", [asdict(finding) for finding in kept])
        if tf.io.gfile.exists(self._rows_path):
            kept = [row for row in _read_rows(self._rows_path) if row["step"] < first_step]
            _write(self._rows_path, "w", kept[-1:])
            rows = kept[-1]["in_a_row"] if kept else ()
            self._in_a_row = {tuple(key): count for *key, count in rows}

    def look(self, recorded: RecordedStep) -> list[tuple[Alarm, Finding]]:
        """Returns what goes off at a step, after writing it down.

        Args:
            recorded: The step.

        Returns:
            The alarms with their findings.
        """
        in_a_row, findings = {}, []
        for alarm in self.alarms:
            for block, path, text in alarm.look(recorded):
                key = (repr(alarm), block, path)
                in_a_row[key] = self._in_a_row.get(key, 0) + 1
                if in_a_row[key] == alarm.recorded_steps:
                    sentence = f"Step {recorded.step}, {block}: {text}."
                    finding = Finding(recorded.step, alarm.kind, block, path, sentence)
                    findings.append((alarm, finding))
        if in_a_row or self._in_a_row:
            # So that a run that is taken up again counts on.
            rows = [[*key, count] for key, count in in_a_row.items()]
            self._new_rows.append({"step": recorded.step, "in_a_row": rows})
            if not self._holds_back:
                self.flush()
        self._in_a_row = in_a_row
        if findings:
            _write(self.path, "a", [asdict(finding) for _, finding in findings])
        return findings

    def flush(self) -> None:
        """Writes what is held back on `gs://`: for how many steps in a row each alarm has held."""
        if self._new_rows:
            _write(self._rows_path, "a", self._new_rows)
        self._new_rows = []


def _write(path, mode, rows):
    with naming_what_fails(os.path.dirname(path)), tf.io.gfile.GFile(path, mode) as file:
        file.write("".join(to_json(row) + "\n" for row in rows))


def read_findings(log_dir: str) -> list[Finding]:
    """Reads what alarms found.

    Args:
        log_dir: A recorder's `log_dir`.

    Returns:
        The findings, oldest first; none if there is no file. A line that was cut short when its
        process was killed is left out.

    Raises:
        ValueError: If a line is broken.
    """
    path = os.path.join(log_dir, ALARMS_FILE)
    if not tf.io.gfile.exists(path):
        return []
    cure = "Mend or delete it: then what alarms found then is no longer shown."
    rows = read_json_lines(as_path(path), _FINDING, cure)
    return [Finding(**{name: row[name] for name in _FINDING if name in row}) for row in rows]


def _read_rows(path):
    cure = "Delete it: then each alarm counts anew for how many steps in a row it has held."
    return read_json_lines(as_path(path), _ROW, cure)


def check_alarms(alarms: Iterable[Alarm], groups: Iterable[str]) -> tuple[Alarm, ...]:
    """Returns alarms, if they can be given what they look at.

    Args:
        alarms: The alarms.
        groups: The sets of statistics that are recorded.

    Returns:
        The alarms.

    Raises:
        ValueError: If one is no alarm, or needs a set that is not recorded.
    """
    alarms = tuple(alarms)
    for alarm in alarms:
        if not isinstance(alarm, Alarm):
            raise ValueError(
                f"{alarm!r} is not an alarm. Give instances, for example "
                "alarms=[reszoo.gradients.NonFinite()]."
            )
        if alarm.needs not in groups:
            raise ValueError(
                f"{type(alarm).__name__} looks at the set {alarm.needs!r}, which is not recorded. "
                f"Add it: statistics={(*groups, alarm.needs)!r}."
            )
    return alarms
