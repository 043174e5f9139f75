"""The callback that records gradients while a model trains."""

import functools
from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np
import tensorflow as tf

from reszoo.gradients.blocks import describe_blocks
from reszoo.gradients.graph import GraphBlock
from reszoo.gradients.log import LogWriter
from reszoo.gradients.model_taps import ModelTaps
from reszoo.gradients.scale import accumulation_steps
from reszoo.gradients.statistics import DEFAULT_GROUPS, derive, ratio, statistics_of
from reszoo.layers import ResidualBlock

# How an iterator that has run out ends a step; Keras's fit expects them.
_END_OF_DATA = (StopIteration, tf.errors.OutOfRangeError)


class GradientRecorder(keras.callbacks.Callback):
    """Records, block by block, what comes back through the skip and through the branch.

    Give it to `model.fit`. Every `every_steps` steps it writes one packed tensor to a TensorBoard
    event file; `reszoo.gradients.load` reads it. The numbers are of the very step that trains:
    there is no second backward pass, and the weights come out bit for bit as without it.

    In a training loop of your own, drive it with `keras.callbacks.CallbackList`, wrap the step of
    one replica with `step = recorder.recorded(step)` after `on_train_begin` and before a
    `tf.function` traces it, and call `recorder.close()` when the loop ends for whatever reason.
    The step has to call `model.optimizer.apply`.

    The statistics, per block (`python -m reszoo.gradients.statistics` prints the table): of the set
    `"paths"`, the norms and RMS of `g_skip`, `g_branch`, `g_x` and `g_y`, their cosine, share and
    gain; of the set `"weights"`, the norms of the block's weights, their gradient and update.

    Args:
        log_dir: Directory of the log, local or `gs://`.
        every_steps: Records the steps that are multiples of it, counted from 0 as
            `optimizer.iterations` does. With several steps per execution, at most one step of each
            execution; with accumulated gradients, a step is all batches of an update, recorded as
            the one large batch that they stand for.
        statistics: Names of the sets of statistics to record.
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
        self.blocks = blocks
        self._taps = None
        self._writer = None
        self._due_step = None
        self._put_aside = {}

    def on_train_begin(self, logs=None):
        self.close()
        self._taps = ModelTaps(self.model, self.groups, self.blocks)
        self._batches_per_step = accumulation_steps(self.model.optimizer)
        first_step = int(self.model.optimizer.iterations.numpy())
        self._batches = first_step * self._batches_per_step
        self._taps.switch.set_count(self._batches)
        described = describe_blocks(self._taps.blocks)
        names = [statistic.name for statistic in self.statistics]
        self._writer = LogWriter(self.log_dir, described, names, first_step)
        self._membership = _membership(self._taps)
        self._tap_fit()

    def on_train_batch_begin(self, batch, logs=None):
        self._first_batch = batch
        if self._due_step is not None:
            return
        # The first step that is due among those that begin in this execution.
        step = -(-self._batches // self._batches_per_step)
        step = -(-step // self.every_steps) * self.every_steps
        first = step * self._batches_per_step
        if first < self._batches + self.model.steps_per_execution:
            self._taps.switch.set_window(first, first + self._batches_per_step - 1)
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

    def recorded(self, step: Callable) -> Callable:
        """Returns a training step that is recorded, for a loop of your own.

        Args:
            step: A function that computes one replica's gradients and calls
                `model.optimizer.apply`, not traced yet.

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
        return self._taps.recorded(step)

    def close(self) -> None:
        """Closes the log and leaves the model as it was. Does nothing the second time."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        if self._taps is not None:
            self._untap_fit(self._taps.model)
        self._taps = None
        self._due_step = None

    def _write(self, step):
        of_blocks, of_weights = self._taps.read()
        with np.errstate(invalid="ignore"):
            sums = {
                **of_blocks,
                **{name: self._membership @ values for name, values in of_weights.items()},
                "parts": np.full(len(self._membership), float(self._taps.parts)),
            }
            values = derive(self.statistics, sums)
        self._writer.write(step, values, self._scalars(of_weights))

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
        attributes["train_step"] = self._taps.recorded(model.train_step)
        make_train_function = model.make_train_function
        make_train_function(force=True)
        model.train_function = self._closing_on_failure(model.train_function)

        def make_train_function_anew(force=False):
            # Training was interrupted outside a step, so on_train_end was not called.
            self.close()
            make_train_function(force=True)

        attributes["make_train_function"] = make_train_function_anew

    def _closing_on_failure(self, train_function):
        @functools.wraps(train_function)
        def run(iterator):
            try:
                return train_function(iterator)
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
