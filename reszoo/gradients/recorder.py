"""The callback that records gradients while a model trains."""

import functools
import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from reszoo.gradients.alarms import Alarm, AlarmWatch, RecordedStep, check_alarms
from reszoo.gradients.blocks import describe_blocks
from reszoo.gradients.chief import is_chief
from reszoo.gradients.graph import GraphBlock
from reszoo.gradients.log import HISTOGRAMS_TAG, VARIABLES_TAG, LogWriter
from reszoo.gradients.model_taps import ModelTaps
from reszoo.gradients.scale import accumulation_steps
from reszoo.gradients.statistics import (
    DEFAULT_GROUPS,
    HISTOGRAM_COUNTS,
    derive,
    ratio,
    statistics_of,
)
from reszoo.layers import ResidualBlock

# How an iterator that has run out ends a step; Keras's fit expects them.
_END_OF_DATA = (StopIteration, tf.errors.OutOfRangeError)


class GradientRecorder(keras.callbacks.Callback):
    """Records, block by block, what comes back through the skip and through the branch.

    Give it to `model.fit`. Every `every_steps` steps it writes one packed tensor to a TensorBoard
    event file; `reszoo.gradients.load` reads it. The numbers are of the very step that trains:
    there is no second backward pass, and nothing that trains is changed. Eagerly, under XLA and in
    `reszoo.training` the weights come out bit for bit as without it. In a `tf.function` they do too
    once `tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})` has been
    called: that optimization reorders products whose parts nobody else reads, so that looking at a
    gradient can change the last bit of an update.

    In a training loop of your own, drive it with `keras.callbacks.CallbackList`, wrap the step of
    one replica with `step = recorder.recorded(step)` after `on_train_begin` and before a
    `tf.function` traces it, and call `recorder.close()` when the loop ends for whatever reason.
    The step has to call `model.optimizer.apply`.

    The statistics, per block (`python -m reszoo.gradients.statistics` prints the table): of the set
    `"paths"`, the norms and RMS of `g_skip`, `g_branch`, `g_x` and `g_y`, their cosine, share and
    gain; of the set `"weights"`, the norms of the block's weights, their gradient and update.

    Args:
        log_dir: Directory of the log, local or `gs://`. Of several processes the chief writes. To
            `gs://` the log is sent every 30 seconds, with `flush`, and when training ends.
        every_steps: Records the steps that are multiples of it, counted from 0 as
            `optimizer.iterations` does. With several steps per execution, at most one step of each
            execution; with accumulated gradients, a step is all batches of an update, recorded as
            the one large batch that they stand for.
        statistics: Names of the sets of statistics to record: `"paths"`, `"weights"`, `"forward"`,
            `"distribution"`, `"noise_scale"`, `"variables"` (read with
            `reszoo.gradients.load_variables`), `"histograms"` (`load_histograms`);
            `docs/statistics.md` says what they cost.
        alarms: What to look out for, such as `reszoo.gradients.NonFinite()`. What is found is
            printed, and written to `alarms.jsonl` and to TensorBoard.
        blocks: The blocks to record, by name: what `reszoo.gradients.instrument(model)` found in a
            model built elsewhere. By default every `ResidualBlock` of the model.

    Raises:
        ValueError: If `every_steps` is not a positive integer or a set is unknown; when training
            begins, if the model has no residual block, is not compiled, or has not these blocks.

    Example:

    >>> import tempfile
    >>> import reszoo
    >>> model = keras.Sequential([
    ...     keras.Input((4,)), reszoo.ResidualBlock([keras.layers.Dense(4)], name="block1")
    ... ])
    >>> model.compile("sgd", "mse")
    >>> recorder = reszoo.GradientRecorder(tempfile.mkdtemp(), every_steps=2)
    >>> _ = model.fit(np.ones((8, 4)), np.zeros((8, 4)), 2, verbose=0, callbacks=[recorder])
    >>> sorted(set(reszoo.gradients.load(recorder.log_dir).step))
    [0, 2]
    """

    def __init__(
        self,
        log_dir: str,
        every_steps: int = 100,
        statistics: Iterable[str] = DEFAULT_GROUPS,
        alarms: Iterable[Alarm] = (),
        blocks: Mapping[str, ResidualBlock | GraphBlock] | None = None,
    ):
        super().__init__()
        if not isinstance(every_steps, int) or isinstance(every_steps, bool) or every_steps < 1:
            raise ValueError(
                f"GradientRecorder got every_steps={every_steps!r}, but it must be an integer of "
                "at least 1. To record nothing, leave the recorder out."
            )
        self.log_dir = str(log_dir)
        self.every_steps = every_steps
        self.groups = tuple(statistics)
        self.statistics = statistics_of(self.groups)
        self.alarms = check_alarms(alarms, self.groups)
        self.blocks = blocks
        self._taps = None
        self._writer = None
        self._watch = None
        self._scratch = None
        self._due_step = None
        self._put_aside = {}
        self._begin = None
        self._batches_at_once = 1

    def begin_at(self, batch: int) -> None:
        """Says which batch training begins with, before `on_train_begin`, in a loop of your own.

        Without it, `optimizer.iterations` says how many updates were made. That is fewer than were
        tried where a loss scale made the optimizer skip some. With it, the loop may run several
        batches before it calls `on_train_batch_end`, but no more than `batches_ahead` says.

        Args:
            batch: How many batches were trained on before, in all runs.
        """
        self._begin = batch

    def on_train_begin(self, logs=None):
        self.close()
        self._taps = ModelTaps(self.model, self.groups, self.blocks)
        self._batches_per_step = accumulation_steps(self.model.optimizer)
        self._batches, self._begin, self._batches_at_once = self._begin, None, 1
        if self._batches is None:
            self._batches_at_once = self.model.steps_per_execution
            updates = int(self.model.optimizer.iterations.numpy())
            self._batches = updates * self._batches_per_step
        first_step = -(-self._batches // self._batches_per_step)
        # Every process reads what it counted, but one writes it down.
        log_dir = self.log_dir
        if not is_chief(self.model.distribute_strategy):
            self._scratch = tempfile.TemporaryDirectory()
            log_dir = self._scratch.name
        described = describe_blocks(self._taps.blocks)
        names = [statistic.name for statistic in self.statistics]
        self._writer = LogWriter(log_dir, described, names, first_step)
        self._membership = _membership(self._taps)
        self._watch = AlarmWatch(self.alarms, log_dir, first_step)
        self._tap_fit()

    def on_train_batch_begin(self, batch, logs=None):
        self._first_batch = batch
        if self._due_step is not None:
            return
        # The first step that is due among those that begin in this execution.
        step = self._next_due()
        first = step * self._batches_per_step
        if first < self._batches + self._batches_at_once:
            self._taps.switch.set(self._batches, first, first + self._batches_per_step - 1)
            self._due_step = step

    def on_train_batch_end(self, batch, logs=None):
        self._batches += batch - self._first_batch + 1
        if self._due_step is None:
            return
        if self._batches >= (self._due_step + 1) * self._batches_per_step:
            self._write(self._due_step)
            self._due_step = None

    def on_train_end(self, logs=None):
        self.close()

    @property
    def due(self) -> bool:
        """Whether the batch that is about to run, or runs, is to be recorded."""
        return self._due_step is not None

    @property
    def batches_ahead(self) -> int:
        """How many batches may run before the callback is called again; one, if that is due."""
        first = self._next_due() * self._batches_per_step
        return 1 if self.due else max(1, first - self._batches)

    def recorded(self, step: Callable, asks: bool = True) -> Callable:
        """Returns a training step that is recorded, for a loop of your own.

        It records the batches that are due and no others. A loop that runs its plain step while
        `due` is false spares the others what little asking costs, and the recorded one too.

        Args:
            step: A function that computes one replica's gradients and calls
                `model.optimizer.apply`, not traced yet.
            asks: Whether the step asks on the device if it is due. Give `False` in a loop that runs
                it while `due` is true and at no other time.

        Returns:
            A function that takes and returns the same.

        Raises:
            ValueError: If training has not begun.
        """
        if self._taps is None:
            raise ValueError(
                "GradientRecorder.recorded was called before training began. Call "
                "callbacks.on_train_begin() first, on a CallbackList that has the recorder and "
                "the model."
            )
        # Of batches that are accumulated only the last sees the update.
        return self._taps.recorded(step, always=not asks and self._batches_per_step == 1)

    def flush(self) -> None:
        """Writes what is held back of a log on `gs://`, so that it has every step up to now."""
        if self._watch is not None:
            self._writer.flush()
            self._watch.flush()

    def close(self) -> None:
        """Closes the log and leaves the model as it was. Does nothing the second time."""
        if self._taps is not None:
            self._untap_fit(self._taps.model)
        self._taps = None
        self._due_step = None
        writer, watch, self._writer, self._watch = self._writer, self._watch, None, None
        if writer is not None:
            writer.close()
        if watch is not None:
            watch.flush()
        if self._scratch is not None:
            self._scratch.cleanup()
        self._scratch = None

    def _next_due(self):
        """Returns the first step to record of those that have not begun."""
        step = -(-self._batches // self._batches_per_step)
        return -(-step // self.every_steps) * self.every_steps

    def _write(self, step):
        of_blocks, of_weights = self._taps.read()
        if not any(np.any(sums) for sums in (*of_blocks.values(), *of_weights.values())):
            return  # The data ran out before the step, in the middle of an execution.
        with np.errstate(invalid="ignore"):
            sums = {
                **of_blocks,
                **{name: self._membership @ values for name, values in of_weights.items()},
                "parts": np.full(len(self._membership), float(self._taps.parts)),
            }
            values = derive(self.statistics, sums)
        self._writer.write(step, values, self._scalars(of_weights))
        self._write_tables(step, of_blocks, of_weights)
        self._raise_alarms(step, values)

    def _write_tables(self, step, of_blocks, of_weights):
        if "variables" in self.groups:
            of_variables = statistics_of(["weights"])
            header = {
                "rows": [variable.path for variable in self._taps.variables],
                "columns": [statistic.name for statistic in of_variables],
            }
            values = derive(of_variables, of_weights)
            self._writer.write_table(step, VARIABLES_TAG, values, header)
        if "histograms" in self.groups:
            header = {"rows": list(self._taps.blocks), "columns": list(HISTOGRAM_COUNTS)}
            values = np.stack([of_blocks[name] for name in HISTOGRAM_COUNTS], axis=-1)
            self._writer.write_table(step, HISTOGRAMS_TAG, values, header)

    def _raise_alarms(self, step, values):
        names = [statistic.name for statistic in self.statistics]
        statistics = dict(zip(names, values.T, strict=True))
        found = self._watch.look(RecordedStep(step, self._taps.blocks, statistics))
        for alarm, finding in found:
            logging.warning("%s", finding.text)
            self.model.stop_training |= alarm.stop_training
        if found:
            self._writer.write_text(step, "\n\n".join(finding.text for _, finding in found))
            self._writer.write_findings(step, [json.dumps(asdict(finding)) for _, finding in found])

    def _scalars(self, of_weights):
        """Returns the numbers about the whole model."""
        if not of_weights:
            return {}
        total = {name: values.sum() for name, values in of_weights.items()}
        return {
            "weight_gradient_norm": np.sqrt(total["weight_gradient_squares"]),
            "update_to_weight_ratio": np.sqrt(
                ratio(total["update_squares"], total["weight_squares"])
            ),
        }

    def _tap_fit(self):
        """Has `fit` run recorded steps, until training ends, fails, or begins anew."""
        model = self.model
        attributes = vars(model)
        for name in ("train_step", "make_train_function"):
            self._put_aside[name] = attributes.get(name)
        make_train_function = model.make_train_function
        # Two functions, each traced when it is first needed: a step that is not due is the plain
        # one, which under XLA is measurably quicker than one that asks whether it is due.
        make_train_function(force=True)
        plain = model.train_function
        one_batch = model.steps_per_execution == 1
        attributes["train_step"] = self.recorded(model.train_step, asks=not one_batch)
        make_train_function(force=True)
        model.train_function = self._train_function(plain, model.train_function)

        def make_train_function_anew(force=False):
            # Training was interrupted outside a step, so on_train_end was not called.
            self.close()
            make_train_function(force=True)

        attributes["make_train_function"] = make_train_function_anew

    def _train_function(self, plain, recorded):
        """Returns the function that `fit` calls for every execution."""

        @functools.wraps(recorded)
        def run(iterator):
            try:
                return (recorded if self.due else plain)(iterator)
            except _END_OF_DATA:
                raise
            except BaseException:
                self.close()
                raise

        return run

    def _untap_fit(self, model):
        attributes = vars(model)
        for name, original in self._put_aside.items():
            if original is None:
                attributes.pop(name, None)
            else:
                attributes[name] = original
        self._put_aside = {}
        model.train_function = None


def _membership(taps):
    """Returns which weights lie in which block: ones and zeros, of shape `(blocks, weights)`."""
    return np.array(
        [
            [any(weight is own for own in block.trainable_variables) for weight in taps.variables]
            for block in taps.blocks.values()
        ],
        dtype=np.float64,
    )
