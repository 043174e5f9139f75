"""Findings: the steps at which alarms went off, in files beside the gradient log."""

import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from reszoo.files import append_text, as_path, is_stored, write_whole
from reszoo.gradients.log.writer import naming_what_fails
from reszoo.json_files import OptionalField, read_json_lines, to_json

if TYPE_CHECKING:
    from reszoo.gradients.alarms import Alarm, RecordedStep

ALARMS_FILE = "alarms.jsonl"
# The number of recorded steps in a row for which each alarm has held.
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
class Finding:
    """A step at which an alarm went off.

    Attributes:
        step: The training step, counted from 0.
        alarm: The kind of the alarm, such as `"nonfinite"`.
        block: Name of the block for which it went off.
        path: The part of the block: `"skip"`, `"branch"`, `"output"`, `"weights"` or `None`.
        text: The finding as one sentence.
        wall_time: Time of the finding, in seconds since 1970.
    """

    step: int
    alarm: str
    block: str
    path: str | None
    text: str
    wall_time: float = field(default_factory=time.time)


class AlarmWatch:
    """Test of each recorded step of a training for alarms, whose findings go to a file.

    Args:
        alarms: The conditions to test.
        log_dir: The recorder's directory; findings go to `alarms.jsonl` in it.
        first_step: The training step at which training begins. Entries of the files from that step
            on were undone by a restart, and are removed.
    """

    def __init__(self, alarms: Sequence["Alarm"], log_dir: str, first_step: int):
        self.alarms = alarms
        self.path = os.path.join(log_dir, ALARMS_FILE)
        self._rows_path = os.path.join(log_dir, ROWS_FILE)
        self._holds_back = is_stored(log_dir)
        self._new_rows = []
        self._in_a_row = {}
        if as_path(self.path).exists():
            kept = [f for f in read_findings(log_dir) if f.step < first_step]
            _write(self.path, [asdict(finding) for finding in kept])
        if as_path(self._rows_path).exists():
            kept = [row for row in _read_rows(self._rows_path) if row["step"] < first_step]
            _write(self._rows_path, kept[-1:])
            rows = kept[-1]["in_a_row"] if kept else ()
            self._in_a_row = {tuple(key): count for *key, count in rows}

    def look(self, recorded: "RecordedStep") -> list[tuple["Alarm", Finding]]:
        """Returns the alarms that go off at a step, after writing their findings.

        Args:
            recorded: The statistics of the step.

        Returns:
            Each alarm with its finding; empty if none goes off.
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
            # So that a run that is resumed continues the count.
            rows = [[*key, count] for key, count in in_a_row.items()]
            self._new_rows.append({"step": recorded.step, "in_a_row": rows})
            if not self._holds_back:
                self.flush()
        self._in_a_row = in_a_row
        if findings:
            _append(self.path, [asdict(finding) for _, finding in findings])
        return findings

    def flush(self) -> None:
        """Writes the numbers of steps that alarms have held, which are buffered on `gs://`."""
        if self._new_rows:
            _append(self._rows_path, self._new_rows)
        self._new_rows = []


def _write(path: str, rows: Iterable[Mapping]) -> None:
    with naming_what_fails(os.path.dirname(path)):
        write_whole(as_path(path), _lines(rows))


def _append(path: str, rows: Iterable[Mapping]) -> None:
    with naming_what_fails(os.path.dirname(path)):
        append_text(as_path(path), _lines(rows))


def _lines(rows: Iterable[Mapping]) -> str:
    return "".join(to_json(row) + "\n" for row in rows)


def read_findings(log_dir: str) -> list[Finding]:
    """Reads the findings of alarms.

    Args:
        log_dir: A recorder's `log_dir`.

    Returns:
        The findings, oldest first; none if there is no file. A line that was cut short when its
        process was killed is left out.

    Raises:
        ValueError: If a line is broken.
    """
    path = os.path.join(log_dir, ALARMS_FILE)
    if not as_path(path).exists():
        return []
    cure = "Mend or delete it; without it those findings are no longer shown."
    rows = read_json_lines(as_path(path), _FINDING, cure)
    return [Finding(**{name: row[name] for name in _FINDING if name in row}) for row in rows]


def _read_rows(path: str) -> list[dict]:
    cure = "Delete it; each alarm then counts its steps in a row anew."
    return read_json_lines(as_path(path), _ROW, cure)
