"""The progress of a run, on the terminal."""

import sys
from typing import Any, TextIO

from tqdm import tqdm

from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.state import TrainingState


class Progress(LoopCallback):
    """Shows a progress bar on a terminal, and after each epoch one plain line on any output.

    The bar has the loss and accuracy of the epoch so far, images per second and the time left.

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
        self._first_batch = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        images_per_epoch = self.params["steps"] * self._images_per_step
        self._bar = tqdm(
            total=self.params["epochs"] * images_per_epoch,
            initial=self._state.epoch * images_per_epoch
            + self._state.batch * self._images_per_step,
            unit=" images",
            unit_scale=True,
            dynamic_ncols=True,
            file=self._stream,
            disable=not self._stream.isatty(),
        )

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self._bar.set_description(f"epoch {epoch + 1}/{self.params['epochs']}", refresh=False)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        self._first_batch = batch

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        text = f"loss {logs['loss']:.4f}, accuracy {logs['accuracy']:.2%}"
        self._bar.set_postfix_str(text, refresh=False)
        self._bar.update((batch + 1 - self._first_batch) * self._images_per_step)

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
        """Ends the line of the bar."""
        if self._bar is not None:
            self._bar.close()
