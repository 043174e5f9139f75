"""The progress of a run, on the terminal."""

import collections
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

from tqdm import tqdm

from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.state import TrainingState
from reszoo.training.terminal import columns, flush, is_terminal

RECENT = 50  # executions, over whose times a median is taken
FEWEST = 3  # the second one may be traced too, since it is not recorded
# The cursor goes back to its beginning: the terminal writes ^C there.
BAR = "{desc} |{bar}| step {n_fmt}/{total_fmt}{postfix}\r"
SHORTEST_BAR = 10
TRAIN_FIGURES, TEST_FIGURES = ("loss", "accuracy"), ("val_loss", "val_accuracy")
RATE = ("images_per_second",)
# What a narrow terminal has no room for, the first to fall away first.
DISPENSABLE = ("images_per_second", "accuracy", "val_loss", "loss", "left")


class Progress(LoopCallback):
    """Shows a progress bar on a terminal, and after each epoch one plain line on any output.

    The bar has the epoch and the step, of all epochs; the time left, images per second, and loss
    and accuracy of the epoch so far. On a terminal, what of a line has no room falls away: images
    per second, then the accuracy of the training, then the losses. The bar appears with the first
    batch, whose time, most of which is tracing, does not count. The time left includes the tests.

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
            self._bar.set_postfix_str(self._figures(self._bar.n + batches, logs), refresh=False)
            self._bar.update(batches)
        self._since = time.perf_counter()

    def on_test_begin(self, logs: Logs = None) -> None:
        self._test_began_at = time.perf_counter()
        self._describe("test", refresh=True)

    def on_test_end(self, logs: Logs = None) -> None:
        self._seconds_of_tests.append(time.perf_counter() - self._test_began_at)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        texts = _in_words(logs)

        def line(left_out: Sequence[str]) -> str:
            train, test, rate = (
                ", ".join(texts[name] for name in names if name not in left_out)
                for names in (TRAIN_FIGURES, TEST_FIGURES, RATE)
            )
            parts = filter(None, (train, f"test {test}", rate))
            return f"{self._in_words('epoch')}: {'; '.join(parts)}"

        tqdm.write(_fitted(line, columns(self._stream)), file=self._stream)
        flush(self._stream)

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
            disable=not is_terminal(self._stream),
        )

    def _describe(self, what: str, refresh: bool = False) -> None:
        if self._bar is not None:
            self._bar.set_description_str(self._in_words(what), refresh=refresh)

    def _in_words(self, what: str) -> str:
        return f"{what} {self._epoch + 1}/{self.params['epochs']}"

    def _figures(self, done: int, logs: Logs) -> str:
        """Returns what the bar shows behind the step, as far as the terminal has room."""
        parts = {**self._speed(done), **_in_words({name: logs[name] for name in TRAIN_FIGURES})}
        bar = f"{self._in_words('epoch')} || step {done}/{self._bar.total}, "

        def figures(left_out: Sequence[str]) -> str:
            return ", ".join(text for name, text in parts.items() if name not in left_out)

        return _fitted(figures, columns(self._stream) - len(bar) - SHORTEST_BAR)

    def _speed(self, done: int) -> dict[str, str]:
        """Returns the time left and the images per second, once they are known."""
        if len(self._seconds_of_steps) < FEWEST:
            return {}
        seconds = statistics.median(self._seconds_of_steps)
        tests = (self.params["epochs"] - self._epoch) * min(self._seconds_of_tests, default=0.0)
        left = tqdm.format_interval((self._bar.total - done) * seconds + tests)
        rate = self._images_per_step / seconds if seconds else 0.0
        return {"left": f"{left} left", **_in_words({"images_per_second": rate})}


def _in_words(logs: Mapping[str, float]) -> dict[str, str]:
    """Returns figures with their names, as lines have them."""
    formats = {
        "loss": "loss {:.4f}",
        "accuracy": "accuracy {:.2%}",
        "val_loss": "loss {:.4f}",
        "val_accuracy": "accuracy {:.2%}",
        "images_per_second": "{:,.0f} images/s",
    }
    return {name: text.format(logs[name]) for name, text in formats.items() if name in logs}


def _fitted(line: Callable[[Sequence[str]], str], room: float) -> str:
    """Returns a line, without the parts for which there is no room.

    Args:
        line: Takes the names of the parts that are left out.
        room: The number of columns.
    """
    for number in range(len(DISPENSABLE)):
        text = line(DISPENSABLE[:number])
        if len(text) <= room:
            return text
    return line(DISPENSABLE)
