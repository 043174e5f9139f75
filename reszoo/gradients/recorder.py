"""Callback that records gradients while a model trains."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
from absl import logging

from reszoo.gradients.alarms import Alarm, check_alarms
from reszoo.gradients.graph import GraphBlock
from reszoo.gradients.recorded_fit import recorded_fit
from reszoo.gradients.recorded_training import RecordedTraining
from reszoo.gradients.scale import batches_applied
from reszoo.gradients.statistics import DEFAULT_SETS, statistics_of
from reszoo.layers import ResidualBlock


class GradientRecorder(keras.callbacks.Callback):
    """Records the gradients of both paths of each residual block while a model trains.

    Give it to `model.fit`. Every `every_steps` steps it writes one packed tensor to a TensorBoard
    event file; `reszoo.gradients.load` reads it. The numbers are of the very step that trains:
    there is no second backward pass, and nothing that trains is changed. Eagerly and in
    `reszoo.training` the weights come out bit for bit as without it. In a `tf.function` they do too
    once `tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})` has been
    called: that optimization reorders products whose parts nobody else reads, so that looking at a
    gradient can change the last bit of an update. Under XLA they did in all networks that were
    tried, on a CPU with AVX2 and with AVX-512 instructions; XLA itself does not promise it.

    In a training loop of your own, drive it with `keras.callbacks.CallbackList`, wrap the step of
    one replica with `step = recorder.recorded(step)` after `on_train_begin` and before a
    `tf.function` traces it, and call `recorder.close()` when the loop ends for whatever reason.
    The step must call `model.optimizer.apply`.

    A model that trains again, compiled anew or not, goes on counting in the same directory, with
    this recorder or another; one that was restored goes on where its optimizer says. A training
    that would hide what another one recorded there is refused. Several recorders can look at one
    training, each with a directory of its own. What counts as a step is decided at the first batch,
    after all that callbacks do to the model when training begins.

    The statistics, per block (`python -m reszoo.gradients.statistics` prints the table): of the set
    `"paths"`, the norms and RMS of `g_skip`, `g_branch`, `g_x` and `g_y`, their cosine, share and
    gain; of the set `"weights"`, the norms of the block's weights, their gradient and update.

    Args:
        log_dir: Directory of the log, local or `gs://`. Of several processes the chief writes. To
            `gs://` the log is sent every 30 seconds, with `flush`, and when training ends.
        every_steps: Records the steps that are multiples of it, counted from 0 as
            `optimizer.iterations` does. With several steps per execution, at most one step of each
            execution; with accumulated gradients, a step is all batches of an update, recorded as
            the one large batch that they stand for, if it begins while recording.
        statistics: Names of the sets of statistics to record: `"paths"`, `"weights"`, `"forward"`,
            `"distribution"`, `"noise_scale"`, `"variables"` (read with
            `reszoo.gradients.load_variables`), `"histograms"` (`load_histograms`);
            `docs/statistics.md` says what they cost.
        alarms: Conditions to watch for, such as `reszoo.gradients.NonFinite()`. Findings are
            printed, and written to `alarms.jsonl` and to TensorBoard.
        blocks: The blocks to record, by name: what `reszoo.gradients.instrument(model)` found in a
            model built elsewhere. By default every `ResidualBlock` of the model.

    Raises:
        ValueError: If `every_steps` is not a positive integer or a set is unknown; at the first
            batch, if the model has no residual block, is not compiled, or has not these blocks, or
            if the directory holds the log of another training.

    Example:

    >>> import tempfile
    >>> import numpy as np
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

    model: keras.Model  # That of the callback, which is there once training begins.

    def __init__(
        self,
        log_dir: str,
        every_steps: int = 100,
        statistics: Iterable[str] = DEFAULT_SETS,
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
        self.sets = tuple(statistics)
        self.statistics = statistics_of(self.sets)
        self.alarms = check_alarms(alarms, self.sets)
        self.blocks = blocks
        self._begin = None
        self._applied = 0
        self._training: RecordedTraining | None = None
        self._in_own_loop = False
        self._first_batch: Any = None
        self._executions = 0
        self._is_told = False

    def begin_at(self, batch: int) -> None:
        """Says which batch training begins with, before `on_train_begin`, in a loop of your own.

        Without it, `optimizer.iterations` says how many updates were made. That is fewer than were
        tried where a loss scale made the optimizer skip some. With it, the loop may run several
        batches before it calls `on_train_batch_end`, but no more than `batches_ahead` says. What
        the log holds from that batch on is recorded anew. If a callback restores the optimizer
        when training begins, that says where it goes on.

        Args:
            batch: The number of batches trained on before, in all runs.
        """
        self._begin = batch

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        # Before any callback can restore it.
        self._applied = 0 if model.optimizer is None else batches_applied(model.optimizer)

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.close()
        begin, self._begin = self._begin, None
        self._training = RecordedTraining(self, begin, self._applied)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self._training is None:
            return
        self._first_batch = batch
        if self._in_own_loop:
            self._training.begin_execution(self._training.batches_at_once)
            return
        fit = recorded_fit(self.model)
        if self._training not in fit.trainings:
            fit.add(self._training)
        self._executions = fit.executions

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._training is not None and self._in_own_loop:
            self._training.end_execution(batch - self._first_batch + 1)
        elif self._training is not None:
            self._check_that_it_ran()
        self._first_batch = None

    def on_train_end(self, logs: dict | None = None) -> None:
        self.close()

    @property
    def due(self) -> bool:
        """Whether the batch that is about to run, or runs, is to be recorded."""
        return self._training is not None and self._training.due

    @property
    def batches_ahead(self) -> int:
        """Number of batches that may run before the next call; one, if that batch is due."""
        return 1 if self._training is None else self._training.batches_ahead

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
        training = self._training
        if training is None:
            raise ValueError(
                "GradientRecorder.recorded was called before training began. Call "
                "callbacks.on_train_begin() first, on a CallbackList that has the recorder and "
                "the model."
            )
        recorded_fit(self.model).remove(training)
        self._in_own_loop = True
        if self._first_batch is not None:
            training.begin_execution(training.batches_at_once)

        def recorded_step(*args: Any, **kwargs: Any) -> Any:
            if training.taps is None:
                raise ValueError(
                    "A recorded step ran outside the training that it was made in. Call "
                    "callbacks.on_train_batch_begin(batch) before it, and "
                    "GradientRecorder.recorded anew after each callbacks.on_train_begin()."
                )
            # Of batches that are accumulated only the last sees the update.
            must_ask = asks or training.cadence.batches_per_step > 1
            return training.taps.recorded(step, must_ask)(*args, **kwargs)

        return recorded_step

    def flush(self) -> None:
        """Writes what is held back of a log on `gs://`, so that it has every step up to now."""
        if self._training is not None:
            self._training.flush()

    def _check_that_it_ran(self) -> None:
        if recorded_fit(self.model).executions != self._executions or self._is_told:
            return
        self._is_told = True
        logging.warning(
            "GradientRecorder records nothing: something has replaced the train_function of the "
            "model %r that the recorder put there. Have that call the one before.",
            self.model.name,
        )

    def close(self) -> None:
        """Closes the log and leaves the model as it was. Does nothing the second time."""
        training, self._training = self._training, None
        self._in_own_loop, self._first_batch = False, None
        if training is not None:
            training.close()
            recorded_fit(training.model).remove(training)
