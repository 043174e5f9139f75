"""Writes each epoch's figures to a file of JSON lines and to TensorBoard."""

import math
import os
from collections.abc import Mapping
from pathlib import Path

import keras
import tensorflow as tf

from reszoo.gradients.storage import StoredPath, append_text, as_path, is_stored
from reszoo.json_files import FIGURE, read_json_lines, to_json
from reszoo.training.event_files import EventFiles
from reszoo.training.state import TrainingState

METRICS_FILE = "metrics.jsonl"

# What the loop calls a figure, and what it is called in the file.
FIGURES = {
    "loss": "train_loss",
    "accuracy": "train_accuracy",
    "val_loss": "test_loss",
    "val_accuracy": "test_accuracy",
    "val_top5_accuracy": "test_top5_accuracy",
    "learning_rate": "learning_rate",
    "images_per_second": "images_per_second",
}

_LINE = {"epoch": int, "step": int, **dict.fromkeys(FIGURES.values(), FIGURE)}
_CURE = (
    "Mend it, or delete the line: without an epoch's line its figures are not in the summary, and "
    "everything else goes on as before."
)


class MetricsLog(keras.callbacks.Callback):
    """Appends one line of JSON an epoch to a file.

    | key | what it is |
    |---|---|
    | `epoch` | epochs done |
    | `step` | optimizer steps done |
    | `train_loss`, `train_accuracy` | means over the epoch's training images, as they were seen |
    | `test_loss`, `test_accuracy` | means over all test images, after the epoch |
    | `test_top5_accuracy` | share of them whose class is among the five best answers |
    | `learning_rate` | that of the next step |
    | `images_per_second` | training images, over the epoch's training time |

    A figure that is not a finite number is `null`.

    Args:
        path: The file.
        state: Where the training is. Lines of epochs beyond are dropped when training begins: they
            were written by a run that was interrupted before it saved its checkpoint, and will be
            written again.
    """

    def __init__(self, path: str | Path, state: TrainingState):
        super().__init__()
        self._path = as_path(path)
        self._state = state

    def on_train_begin(self, logs=None):
        kept = [line for line in read_metrics(self._path) if line["epoch"] <= self._state.epoch]
        write_atomically(self._path, "".join(f"{to_json(line)}\n" for line in kept))

    def on_epoch_end(self, epoch, logs=None):
        figures = epoch_figures(self.model, epoch, logs)
        append_text(self._path, to_json(figures) + "\n")


class TensorBoardScalars(keras.callbacks.Callback):
    """Writes the figures of each epoch for TensorBoard, at the optimizer's step.

    They are `loss`, `accuracy` and `top5_accuracy`. The runs `train` and `test` have the same tags,
    so that TensorBoard draws them in one plot; `train` has `learning_rate` and `images_per_second`
    too.

    Args:
        files: Where to write; they are closed at the end.
    """

    def __init__(self, files: EventFiles):
        super().__init__()
        self._files = files

    def on_epoch_end(self, epoch, logs=None):
        step = steps_done(self.model)
        train = {"loss", "accuracy", "top5_accuracy", "learning_rate", "images_per_second"}
        self._write("train", step, logs, train)
        self._write("test", step, logs, {"val_loss", "val_accuracy", "val_top5_accuracy"})

    def close(self):
        """Closes the files."""
        self._files.close()

    def _write(self, run, step, logs, names):
        with self._files.writing(run, step):
            for name in sorted(names):
                tf.summary.scalar(name.removeprefix("val_"), logs[name])


def epoch_figures(model: keras.Model, epoch: int, logs: Mapping[str, float]) -> dict[str, float]:
    """Returns the figures of an epoch by the names that `MetricsLog` explains.

    Args:
        model: The model in training.
        epoch: The epoch, from 0.
        logs: What `on_epoch_end` gets.
    """
    figures = {name: logs[key] for key, name in FIGURES.items()}
    return {"epoch": epoch + 1, "step": steps_done(model), **figures}


def steps_done(model: keras.Model) -> int:
    """Returns the number of the optimizer's steps so far.

    Args:
        model: A compiled model, on any number of devices.
    """
    # Of a variable on several devices, NumPy gets one value; `int` gets none.
    return int(keras.ops.convert_to_numpy(model.optimizer.iterations))


def read_metrics(path: str | Path) -> list[dict[str, float]]:
    """Returns the lines of a metrics file by epoch; a last one that was cut short is left out.

    Args:
        path: The file; nothing comes of one that does not exist.

    Returns:
        A line for each epoch. A figure that was not finite is NaN.

    Raises:
        ValueError: If a line is broken, or an epoch has two that differ.
    """
    path = as_path(path)
    lines = read_json_lines(path, _LINE, _CURE) if path.exists() else []
    by_epoch = {}
    for line in ({key: math.nan if v is None else v for key, v in line.items()} for line in lines):
        known = by_epoch.setdefault(line["epoch"], line)
        if to_json(known) != to_json(line):
            raise ValueError(
                f"{path} has two lines of epoch {line['epoch']} that differ. Delete the wrong one."
            )
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def write_atomically(path: Path | StoredPath, text: str) -> None:
    """Writes a file so that it is there either as before or whole.

    Args:
        path: The file.
        text: What it will hold.
    """
    if is_stored(path):  # where nothing is seen before it is whole
        path.write_text(text, encoding="utf-8")
        return
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
