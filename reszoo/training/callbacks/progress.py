"""The progress of a run, on the terminal."""

import collections
import os
import statistics
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.state import TrainingState

RECENT = 50  # executions, over whose times a median is taken
FEWEST = 3  # the second one may be traced too, since it is not recorded
BAR = "{desc} |{bar}| step {n_fmt}/{total_fmt}{postfix}"
COLUMNS_WITH_RATE = 100


class Progress(LoopCallback):
    """Shows a progress bar on a terminal, and after each epoch one plain line on any output.

    The bar has the epoch and the step, of all epochs; the time left; loss and accuracy of the epoch
    so far, and on a wide terminal images per second. It appears with the first batch, whose time,
    most of which is tracing, does not count. The time left includes the tests.

    Args:
        images_per_step: Number of images in a batch.
        state: Position of the training.
        stream: Stream to write to; standard output if `None`.
    """

    def __init__(self, images_per_step: int, state: TrainingState, stream: TextIO | None = None):
        super().__init__()
        self._images_per_step = images_per_step
        self._state = state
        self._stream = stream or sys.stdout
        self._bar: Any = None
        self._epoch = self._first_batch = 0
        self._since: float | None = None
        self._test_began_at = 0.0
        self._seconds_of_steps = collections.deque(maxlen=RECENT)
        self._seconds_of_tests = []

    def on_train_begin(self, logs: Logs = None) -> None:
        self._seconds_of_steps.clear()
        self._seconds_of_tests.clear()

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._epoch, self._since = epoch, None
        self._describe("epoch")

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._first_batch = batch
        if self._since is None:
            self._since = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        batches = batch + 1 - self._first_batch
        if self._bar is None:
            self._draw_bar(batch + 1)
        else:
            since = self._since or 0.0
            self._seconds_of_steps.append((time.perf_counter() - since) / batches)
            text = f"loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.2%}"
            done = self._bar.n + batches
            self._bar.set_postfix_str(f"{self._speed(done)}{text}", refresh=False)
            self._bar.update(batches)
        self._since = time.perf_counter()

    def on_test_begin(self, logs: Logs = None) -> None:
        self._test_began_at = time.perf_counter()
        self._describe("test", refresh=True)

    def on_test_end(self, logs: Logs = None) -> None:
        self._seconds_of_tests.append(time.perf_counter() - self._test_began_at)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        line = (
            f"epoch {epoch + 1}/{self.params['epochs']}: "
            f"loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.2%}, "
            f"test loss {logs['val_loss']:.4f}, test accuracy {logs['val_accuracy']:.2%}, "
            f"{logs['images_per_second']:.0f} images/s"
        )
        tqdm.write(line, file=self._stream)
        self._stream.flush()

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
        self._bar = None

    def _draw_bar(self, batches: int) -> None:
        """Draws the bar for the first time, when some batches of the epoch are done."""
        self._bar = tqdm(
            total=self.params["epochs"] * self.params["steps"],
            initial=self._epoch * self.params["steps"] + batches,
            bar_format=BAR,
            dynamic_ncols=True,
            leave=False,
            file=self._stream,
            desc=self._in_words("epoch"),
            disable=not self._stream.isatty(),
        )

    def _describe(self, what: str, refresh: bool = False) -> None:
        if self._bar is not None:
            self._bar.set_description_str(self._in_words(what), refresh=refresh)

    def _in_words(self, what: str) -> str:
        return f"{what} {self._epoch + 1}/{self.params['epochs']}"

    def _speed(self, done: int) -> str:
        """Returns the time left, and on a wide terminal the images per second."""
        if len(self._seconds_of_steps) < FEWEST:
            return ""
        seconds = statistics.median(self._seconds_of_steps)
        tests = (self.params["epochs"] - self._epoch) * min(self._seconds_of_tests, default=0.0)
        left = tqdm.format_interval((self._bar.total - done) * seconds + tests)
        rate = self._images_per_step / seconds if seconds else 0.0
        is_wide = _columns(self._stream) >= COLUMNS_WITH_RATE
        return f"{left} left, " + f"{rate:,.0f} images/s, " * is_wide


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # no terminal
        return 0
