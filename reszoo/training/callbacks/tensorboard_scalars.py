"""Curves of each epoch's figures for TensorBoard."""

from collections.abc import Collection, Mapping

import tensorflow as tf

from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.event_files import EventFiles
from reszoo.training.metrics_file import steps_done


class TensorBoardScalars(LoopCallback):
    """Writes the figures of each epoch for TensorBoard, at the optimizer's step.

    The figures are `loss`, `accuracy` and `top5_accuracy`. The runs `train` and `test` have the
    same tags, so that TensorBoard draws them in one plot; `train` also has `learning_rate` and
    `images_per_second`.

    Args:
        files: Event files, which are closed at the end.
    """

    def __init__(self, files: EventFiles):
        super().__init__()
        self._files = files

    def on_train_begin(self, logs: Logs = None) -> None:
        self._files.make_directories("train", "test")

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        step = steps_done(self.model)
        train = {"loss", "accuracy", "top5_accuracy", "learning_rate", "images_per_second"}
        self._write("train", step, logs, train)
        self._write("test", step, logs, {"val_loss", "val_accuracy", "val_top5_accuracy"})

    def close(self) -> None:
        """Closes the files."""
        self._files.close()

    def _write(
        self, run: str, step: int, logs: Mapping[str, float], names: Collection[str]
    ) -> None:
        with self._files.writing(run, step):
            for name in sorted(names):
                tf.summary.scalar(name.removeprefix("val_"), logs[name])
