"""Profiles of some training steps, for TensorBoard."""

import math
import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from reszoo.training.callbacks.loop_callback import Logs, LoopCallback


class Profiler(LoopCallback):
    """Records a profile of some training steps, for TensorBoard's tab Profile.

    The tab comes with the package `xprof`. A step here is a batch of the whole run, counted from 0;
    the first ones after a start are slow, since they are traced and compiled.

    Args:
        directory: Directory of the event files; the profile is in its `plugins/profile`.
        steps: The first step of the profile, and the one after its last.
        steps_per_epoch: Number of batches in an epoch.
        writes: Whether this process writes the profile; of several only the chief does, but all
            return to the host at the same steps.

    Raises:
        ValueError: If `steps` is not two steps, the second after the first.
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        steps: Sequence[int],
        steps_per_epoch: int,
        writes: bool = True,
    ):
        super().__init__()
        if len(steps) != 2 or not 0 <= steps[0] < steps[1]:
            raise ValueError(
                "profile_steps must be the first step of the profile and the one after its last, "
                f"for example (10, 20), but got {tuple(steps)}."
            )
        self._directory = str(directory)
        self._first, self._end = steps
        self._steps_per_epoch = steps_per_epoch
        self._writes = writes
        self._batches_before = 0
        self._next_step = 0
        self._running = False
        self._step_trace: Any = None

    @property
    def batches_ahead(self) -> float:
        """Batches that may run before the profile begins or ends."""
        ends = [end - self._next_step for end in (self._first, self._end)]
        return min([ahead for ahead in ends if ahead > 0], default=math.inf)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._batches_before = epoch * self._steps_per_epoch
        self._next_step = self._batches_before

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        step = self._batches_before + batch
        if self._writes and self._first <= step < self._end and not self._running:
            tf.profiler.experimental.start(self._directory)
            self._running = True
        if self._running:
            self._step_trace = tf.profiler.experimental.Trace("train", step_num=step, _r=1)
            self._step_trace.__enter__()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._next_step = self._batches_before + batch + 1
        if not self._running:
            return
        self._step_trace.__exit__(None, None, None)
        if self._next_step >= self._end:
            self.close()

    def close(self) -> None:
        """Ends the profile, if one is being made."""
        if self._running:
            tf.profiler.experimental.stop()
        self._running = False
