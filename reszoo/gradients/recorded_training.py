"""One recorded training: its taps, log and alarms, from the first batch to the end."""

import contextlib
import functools
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np
from absl import logging

from reszoo.gradients import backend, positions
from reszoo.gradients.alarm_log import AlarmWatch
from reszoo.gradients.alarms import Alarm, RecordedStep, describe_alarms
from reszoo.gradients.blocks import describe_blocks
from reszoo.gradients.cadence import Cadence
from reszoo.gradients.continuation import Origin, check_alone, check_continuation
from reszoo.gradients.found_block import FoundBlock
from reszoo.gradients.log import HISTOGRAMS_TAG, VARIABLES_TAG, LogWriter
from reszoo.gradients.measures import HISTOGRAMS
from reszoo.gradients.statistics import Statistic, derive, ratio, statistics_of
from reszoo.layers import ResidualBlock
from reszoo.names import escaped_markdown, printable
from reszoo.updates import accumulation_steps, optimizer_of

_ABSENT: Any = None  # before the first batch, and once the training is closed


@dataclass(frozen=True)
class Recording:
    """Statistics that a recorder records, and the place of its log.

    Attributes:
        log_dir: Directory of the log.
        every_steps: Distance of the recorded steps.
        sets: Names of the sets of statistics.
        statistics: The statistics of these sets.
        alarms: Conditions to test.
        blocks: The blocks by name; `None` for every `ResidualBlock` of the model.
    """

    log_dir: str
    every_steps: int
    sets: tuple[str, ...]
    statistics: tuple[Statistic, ...]
    alarms: tuple[Alarm, ...]
    blocks: Mapping[str, ResidualBlock | FoundBlock] | None


class RecordedTraining:
    """One training of a model that a recorder observes.

    Nothing is decided before the first batch: until then callbacks may restore the model, compile
    it or build it.

    Args:
        model: The model that is trained.
        recording: What is recorded, and where.
        begin: Number of batches tried before, if the loop has called `begin_at`, else `None`.
        applied: Number of batches the optimizer had applied before callbacks could restore it.
    """

    def __init__(self, model: keras.Model, recording: Recording, begin: int | None, applied: int):
        self.model = model
        self._recording = recording
        self._begin = begin
        # Created at the first batch, before any use.
        self.taps: Any = _ABSENT
        self.cadence: Cadence = _ABSENT
        self.epoch: int | None = None  # that begins with the next batch
        self._has_begun = False
        self._unrecorded = 0
        self._applied = applied
        self._writer: LogWriter = _ABSENT
        self._watch: AlarmWatch = _ABSENT
        self._scratch = None

    @property
    def is_open(self) -> bool:
        """State of the log: true from the first batch until `close`."""
        return self._writer is not None

    @property
    def batches_at_once(self) -> int:
        """Batches that a custom loop may run before it calls `on_train_batch_end`."""
        return self.model.steps_per_execution if self._begin is None else 1

    @property
    def batches_ahead(self) -> int:
        """Batches that may run before the next call of the recorder; 1 if a batch is due."""
        if self.cadence is not None:
            return self.cadence.batches_ahead
        return 1 if self._begin is None else self._cadence_at(self._begin).batches_ahead

    @property
    def due(self) -> bool:
        """Recording of the batch that runs or is about to run: true if it is due."""
        return self.cadence is not None and self.cadence.due_step is not None

    @property
    def has_alarms(self) -> bool:
        """Whether there are alarms, which may read the model's variables."""
        return bool(self._recording.alarms)

    @property
    def batches_per_step(self) -> int:
        """Number of batches of an update."""
        return self.cadence.batches_per_step

    def begin_execution(self, batches_at_once: int) -> None:
        """Decides whether a step is due. Called before batches run.

        Args:
            batches_at_once: The largest number of batches that may run.
        """
        if self.cadence is None:
            self._start()
        cadence = self.cadence
        self._write_epoch()
        if cadence.begin(batches_at_once):
            first = (cadence.due_step or 0) * cadence.batches_per_step
            self.taps.set_due(cadence.batches, first)

    def end_execution(self, batches: int) -> None:
        """Writes the step that was due, if it is over. Called after batches ran.

        Args:
            batches: Number of batches that ran since `begin_execution`.
        """
        if self.cadence is None:
            return
        self.cadence.go_on(batches)
        step = self.cadence.due_step
        if step is not None and self.cadence.is_over and self._update_is_over():
            self.cadence.due_step = None
            self._write(step)

    def count_unrecorded(self, batches: int) -> None:
        """Counts batches that ran before anything could be recorded.

        Args:
            batches: Number of these batches.
        """
        self._unrecorded += batches

    def count_interrupted(self) -> None:
        """Counts a batch that ran, though the call that ran it was interrupted."""
        if self.cadence is None:
            return
        applied = backend.batches_applied(self.model) - self._applied_at_start
        tried = self.cadence.batches - self._batches_at_start
        self.cadence.go_on(int(applied == tried + 1))

    def renew_taps(self) -> None:
        """Creates new taps, for a model that was compiled or unfrozen while it trains."""
        if self.cadence is None:
            return
        size, before = accumulation_steps(optimizer_of(self.model)), self.cadence
        same = size == before.batches_per_step
        self._begin_at(before.batches if same else before.next_step * size)
        self._make_taps()

    def flush(self) -> None:
        """Writes the buffered records of a log on `gs://`, so that it has every step up to now."""
        if self._watch is not None:
            self._writer.flush()
            self._watch.flush()

    def close(self) -> None:
        """Closes the log. Does nothing the second time."""
        taps, self.taps = self.taps, _ABSENT
        cadence, self.cadence = self.cadence, _ABSENT
        if cadence is not None:
            applied = backend.batches_applied(self.model)
            if not taps.updates_model and applied == self._applied_at_start:
                applied += cadence.batches - self._batches_at_start
            positions.remember(self.model, self._recording.log_dir, cadence, applied)
        writer, watch, self._writer, self._watch = self._writer, self._watch, _ABSENT, _ABSENT
        scratch, self._scratch = self._scratch, None
        with contextlib.ExitStack() as stack:
            if scratch is not None:
                stack.callback(scratch.cleanup)
            if watch is not None:
                stack.callback(watch.flush)
            if writer is not None:
                stack.callback(writer.close)

    def _start(self) -> None:
        """Determines the batch with which the training begins, and opens its log."""
        check_alone(self.model, self._recording.log_dir, self)
        self._make_taps()
        batches, origin = self._batches_before()
        first_step = self._cadence_at(batches).next_step
        # Every process reads its own counts, but only one writes the log.
        log_dir = self._recording.log_dir
        if not self.taps.writes:
            self._scratch = tempfile.TemporaryDirectory()
            log_dir = self._scratch.name
        check_continuation(log_dir, first_step, list(self.taps.blocks), origin)
        described = describe_blocks(self.taps.blocks)
        names = [statistic.name for statistic in self._recording.statistics]
        alarms = describe_alarms(self._recording.alarms)
        self._writer = LogWriter(log_dir, described, names, first_step, alarms)
        self._watch = AlarmWatch(self._recording.alarms, log_dir, first_step)
        self._begin_at(batches)
        self._has_begun = True

    def _batches_before(self) -> tuple[int, Origin]:
        """Returns the number of batches tried before the first one, and the origin of that one."""
        applied = backend.batches_applied(self.model)
        restored = applied != self._applied + self._unrecorded and not self._has_begun
        if self._begin is not None and not self._has_begun:
            return (applied if restored else self._begin + self._unrecorded), Origin.KNOWN
        known = positions.recall(self.model, self._recording.log_dir, restored, applied)
        if known is not None:
            return known, Origin.KNOWN
        return applied, Origin.RESTORED if applied > self._unrecorded else Origin.NEW

    def _cadence_at(self, batches: int) -> Cadence:
        size = accumulation_steps(optimizer_of(self.model))
        position = backend.batches_applied(self.model) % size
        return Cadence(self._recording.every_steps, size, batches, position)

    def _begin_at(self, batches: int) -> None:
        self.cadence = self._cadence_at(batches)
        self._batches_at_start = batches
        self._applied_at_start = backend.batches_applied(self.model)
        step = self.cadence.broken_step
        if step is not None:
            logging.warning("Step %d is not recorded: recording begins within its update.", step)

    def _make_taps(self) -> None:
        fit = backend.recorded_fit(self.model)
        is_in_fit = self in fit.trainings
        taps = fit.taps if is_in_fit else functools.partial(backend.ModelTaps, self.model)
        self.taps = taps(self._recording.sets, self._recording.blocks)
        self._membership = _membership(self.taps)
        # A block that no batch runs is never built.
        blocks = self.taps.blocks.values()
        self._has_weights = np.array([getattr(block, "built", True) for block in blocks])

    def _update_is_over(self) -> bool:
        """Returns whether the due step can be written; a step that did not begin is dropped."""
        if self.cadence.batches_per_step == 1:
            return True
        begun, over = self.taps.update_state()
        cadence = self.cadence
        # After the optimizer has skipped batches, updates begin with other batches than before.
        cadence.position = backend.batches_applied(self.model) % cadence.batches_per_step
        if not begun:
            step, cadence.due_step = cadence.due_step, None
            logging.warning("Step %d is not recorded: no update began with it.", step)
        return over

    def _write(self, step: int) -> None:
        of_blocks, of_weights, loss, seen = self.taps.take()
        if seen < 1 or (seen > 1 and self.cadence.batches_per_step == 1):
            logging.warning("Step %d is not recorded: %d of its batches ran recorded.", step, seen)
            return
        if seen > self.cadence.batches_per_step:
            logging.warning(
                "Step %d: the optimizer skipped a batch of it, which was not finite. Only how many "
                "values are not finite is recorded of it.",
                step,
            )
            of_blocks, of_weights = _counts_alone(of_blocks), _counts_alone(of_weights)
            loss = None
        with np.errstate(invalid="ignore"):
            sums = {
                **of_blocks,
                **{name: self._of_blocks(values) for name, values in of_weights.items()},
                "parts": np.full(len(self._membership), float(self.taps.parts)),
            }
            values = derive(self._recording.statistics, sums)
        of_loss = {} if loss is None else {"loss": loss}
        self._writer.write(step, values, {**of_loss, **_scalars(of_weights)})
        self._write_tables(step, of_blocks, of_weights)
        self._raise_alarms(step, values)

    def _write_epoch(self) -> None:
        epoch, self.epoch = self.epoch, None
        if epoch is not None:
            step = self.cadence.batches // self.cadence.batches_per_step
            self._writer.write_scalars(step, {"epoch": epoch})

    def _of_blocks(self, of_weights: np.ndarray) -> np.ndarray:
        """Returns sums over the weights of each block."""
        sums = np.where(self._membership, of_weights, 0.0).sum(axis=1)
        return np.where(self._has_weights, sums, np.nan)

    def _write_tables(
        self, step: int, of_blocks: dict[str, np.ndarray], of_weights: dict[str, np.ndarray]
    ) -> None:
        if "variables" in self._recording.sets:
            of_variables = statistics_of(["weights"])
            header = {
                "rows": [variable.path for variable in self.taps.variables],
                "columns": [statistic.name for statistic in of_variables],
            }
            values = derive(of_variables, of_weights)
            self._writer.write_table(step, VARIABLES_TAG, values, header)
        if "histograms" in self._recording.sets:
            header = {"rows": list(self.taps.blocks), "columns": list(HISTOGRAMS.powers)}
            values = np.stack([of_blocks[name] for name in HISTOGRAMS.powers], axis=-1)
            self._writer.write_table(step, HISTOGRAMS_TAG, values, header)

    def _raise_alarms(self, step: int, values: np.ndarray) -> None:
        names = [statistic.name for statistic in self._recording.statistics]
        statistics = dict(zip(names, values.T, strict=True))
        found = self._watch.look(RecordedStep(step, self.taps.blocks, statistics))
        for alarm, finding in found:
            logging.warning("%s", finding.text)
            self.model.stop_training |= alarm.stop_training
        if found:
            texts = (escaped_markdown(printable(finding.text)) for _, finding in found)
            self._writer.write_text(step, "\n\n".join(texts))
            self._writer.write_findings(step, [json.dumps(asdict(finding)) for _, finding in found])


def _counts_alone(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the sums, with NaN for all but the counts of non-finite values."""
    return {
        name: values if name.endswith("nonfinite") else np.full_like(values, np.nan)
        for name, values in sums.items()
    }


def _scalars(of_weights: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the numbers about the whole model."""
    if not of_weights:
        return {}
    total = {name: values.sum() for name, values in of_weights.items()}
    return {
        "weight_gradient_norm": np.sqrt(total["weight_gradient_squares"]),
        "update_to_weight_ratio": np.sqrt(ratio(total["update_squares"], total["weight_squares"])),
    }


def _membership(taps: Any) -> np.ndarray:
    """Returns the membership of weights in blocks: booleans, of shape `(blocks, weights)`."""
    return np.array(
        [
            [any(weight is own for own in block.trainable_variables) for weight in taps.variables]
            for block in taps.blocks.values()
        ],
        dtype=bool,
    )
