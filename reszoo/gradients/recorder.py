"""Callback that records gradients while a model trains."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
from absl import logging

from reszoo.gradients import backend
from reszoo.gradients.alarms import Alarm, check_alarms
from reszoo.gradients.found_block import FoundBlock
from reszoo.gradients.recorded_training import RecordedTraining, Recording
from reszoo.gradients.statistics import DEFAULT_SETS, statistics_of
from reszoo.layers import ResidualBlock
from reszoo.updates import optimizer_of


class GradientRecorder(keras.callbacks.Callback):
    """Records the gradients of both paths of each residual block while a model trains.

    Pass it to `model.fit`. Every `every_steps` steps it writes one packed tensor to a TensorBoard
    event file; `reszoo.gradients.load` reads it. The numbers are those of the training step itself:
    there is no second backward pass, and training is not changed. Eagerly and in `reszoo.training`
    the weights are bit-identical with and without it; eagerly the last bit may differ where several
    blocks read one tensor, whose gradients then are added in another order. In a `tf.function` they
    are identical too once
    `tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})` has been
    called: that optimization reorders products whose factors nothing else reads, so that reading a
    gradient can change the last bit of an update. Under XLA they were in all networks that were
    tried, on a CPU with AVX2 and with AVX-512 instructions; XLA itself does not guarantee it.

    An optimizer is built before the first recorded step, with the model's weights, as Keras does
    where it trains eagerly. Keras's `ScheduleFreeAdamW` needs that too: built within a compiled
    step of TensorFlow, as in `fit` without a recorder, it begins with zeros in place of the
    weights. Call `model.optimizer.build(model.trainable_variables)` before `fit` to have both
    trainings alike.

    In a training loop of your own, call it through `keras.callbacks.CallbackList`, wrap the step
    with `step = recorder.recorded(tf.function(step))` after `on_train_begin`, or the step of one
    replica before a `tf.function` traces it, and call `recorder.close()` when the loop ends, also
    by an error. The step must call `model.optimizer.apply`; on PyTorch any optimizer of Keras or of
    `torch.optim` will do. Of several processes, each needs a recorder.

    A model that trains again, compiled again or not, continues the count in the same directory,
    with this recorder or another; a restored one continues at the count of its optimizer. A
    training that would hide the records of another is refused. Several recorders can observe one
    training, each with its own directory. The number of batches per step is determined at the first
    batch, after all changes that callbacks make to the model when training begins.

    The statistics, per block (`python -m reszoo.gradients.statistics` prints the table): of the set
    `"paths"`, the norms and RMS of `g_skip`, `g_branch`, `g_x` and `g_y`, their cosine, share and
    gain; of the set `"weights"`, the norms of the block's weights, their gradient and update.

    Args:
        log_dir: Directory of the log, local or `gs://`. Of several processes the chief writes. To
            `gs://` the log is sent every 30 seconds, by `flush`, and when training ends.
        every_steps: Distance of the recorded steps, which are the multiples of it, counted from 0
            as in `optimizer.iterations`. With several steps per execution, at most one step of each
            execution is recorded; with accumulated gradients, a step is all batches of an update,
            recorded as one large batch, if it begins while recording.
        statistics: Names of the sets of statistics to record: `"paths"`, `"weights"`, `"forward"`,
            `"distribution"`, `"noise_scale"`, `"variables"` (read with
            `reszoo.gradients.load_variables`), `"histograms"` (`load_histograms`);
            `docs/statistics.md` gives their costs.
        alarms: Conditions to test, such as `reszoo.gradients.NonFinite()`. Findings are printed,
            and written to `alarms.jsonl` and to TensorBoard.
        blocks: The blocks to record, by name, as `reszoo.gradients.instrument(model)` finds them in
            a model built elsewhere. By default every `ResidualBlock` of the model.

    Raises:
        ValueError: If `every_steps` is not a positive integer or a set is unknown; at the first
            batch, if the model has no residual block, is not compiled, or lacks one of the blocks,
            or if the directory holds the log of another training.

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

    model: keras.Model  # Set by Keras when training begins.

    def __init__(
        self,
        log_dir: str,
        every_steps: int = 100,
        statistics: Iterable[str] = DEFAULT_SETS,
        alarms: Iterable[Alarm] = (),
        blocks: Mapping[str, ResidualBlock | FoundBlock] | None = None,
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
        backend.running()  # raises an error if it has no recorder
        self._begin = None
        self._applied = 0
        self._training: RecordedTraining | None = None
        self._in_own_loop = False
        self._first_batch: Any = None
        self._executions = 0
        self._is_told = False

    def begin_at(self, batch: int) -> None:
        """Sets the batch with which training begins, before `on_train_begin`, in a custom loop.

        Without it, the number of updates is taken from `optimizer.iterations`, which does not count
        the updates that the optimizer skipped because of a loss scale. With it, the loop may run
        several batches before it calls `on_train_batch_end`, but no more than `batches_ahead`. The
        steps of the log from that batch on are recorded again. If a callback restores the optimizer
        when training begins, the optimizer's count is used instead.

        Args:
            batch: The number of batches trained on before, in all runs.
        """
        self._begin = batch

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        backend.running()  # or an error, if that is no longer the one it was made under
        # Read here, before any callback can restore the optimizer.
        self._applied = 0 if optimizer_of(model) is None else backend.batches_applied(model)

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.close()
        begin, self._begin = self._begin, None
        recording = Recording(
            self.log_dir, self.every_steps, self.sets, self.statistics, self.alarms, self.blocks
        )
        self._training = RecordedTraining(self.model, recording, begin, self._applied)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        if self._training is not None:
            self._training.epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        if self._training is None:
            return
        if batch > 0 and self._training.cadence is None:
            self._training.epoch = None  # that of a training that goes on within it
        self._first_batch = batch
        if self._in_own_loop:
            self._training.begin_execution(self._training.batches_at_once)
            return
        fit = backend.recorded_fit(self._training.model)
        if self._training not in fit.trainings:
            fit.install(self._training)
        self._executions = fit.executions

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self._training is not None and self._in_own_loop:
            self._training.end_execution(batch - self._first_batch + 1)
        elif self._training is not None:
            self._check_that_it_ran(self._training.model)
        self._first_batch = None

    def on_train_end(self, logs: dict | None = None) -> None:
        self.close()

    @property
    def due(self) -> bool:
        """Recording of the batch that runs or is about to run: true if it is due."""
        return self._training is not None and self._training.due

    @property
    def batches_ahead(self) -> int:
        """Batches that may run before the next call of the recorder; 1 if a batch is due."""
        return 1 if self._training is None else self._training.batches_ahead

    def recorded(self, step: Callable, asks: bool = True) -> Callable:
        """Returns a training step that is recorded, for a loop of your own.

        It records only the batches that are due. Compile the step first, by `tf.function` or
        `jax.jit`: then the host runs the plain step while no batch is due. A `tf.function` around
        the recorded step, which several devices need, tests this on the device.

        Args:
            step: A function that computes one replica's gradients and calls
                `model.optimizer.apply`; on PyTorch it may use `torch.optim`.
            asks: Whether the step tests on the device if it is due. Pass `False` in a loop that
                runs it only while `due` is true.

        Returns:
            A function with the same arguments and result.

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
        backend.recorded_fit(training.model).remove(training)
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
            # Only the last of the accumulated batches makes the update.
            must_ask = asks or training.batches_per_step > 1
            return training.taps.recorded(step, must_ask)(*args, **kwargs)

        return recorded_step

    def flush(self) -> None:
        """Writes the buffered records of a log on `gs://`, so that it has every step up to now."""
        if self._training is not None:
            self._training.flush()

    def _check_that_it_ran(self, model: keras.Model) -> None:
        if backend.recorded_fit(model).executions != self._executions or self._is_told:
            return
        self._is_told = True
        logging.warning(
            "GradientRecorder records nothing: something has replaced the train_function of the "
            "model %r that the recorder put there. Have that call the one before.",
            model.name,
        )

    def close(self) -> None:
        """Closes the log and restores the model's own methods. A second call does nothing."""
        training, self._training = self._training, None
        self._in_own_loop, self._first_batch = False, None
        if training is None:
            return
        try:
            training.close()
        finally:
            backend.recorded_fit(training.model).remove(training)
