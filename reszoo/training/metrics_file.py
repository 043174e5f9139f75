"""Writes each epoch's figures to a file of JSON lines and to TensorBoard."""

import math
from collections.abc import Mapping
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

from reszoo.files import append_text, as_path, write_whole
from reszoo.json_files import NUMBER_OR_NULL, read_json_lines, to_json
from reszoo.training.checkpoint_files import move_aside
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

_LINE = {"epoch": int, "step": int, **dict.fromkeys(FIGURES.values(), NUMBER_OR_NULL)}
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
        state: Where the training is. A line of an epoch beyond is dropped when training begins: it
            was written by a run that was interrupted before it saved its checkpoint, and will be
            written again. Lines that are missing or broken are written again from its history.
    """

    def __init__(self, path: str | Path, state: TrainingState):
        super().__init__()
        self._path = as_path(path)
        self._state = state

    def on_train_begin(self, logs=None):
        mend_metrics(self._path, self._state)

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


def lasting(figures: Mapping[str, float]) -> dict[str, float]:
    """Returns the figures of an epoch that are the same whenever it is trained: not its speed.

    Args:
        figures: What `epoch_figures` returns.
    """
    return {name: value for name, value in figures.items() if name != "images_per_second"}


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


def mend_metrics(path: str | Path, state: TrainingState) -> list[dict[str, float]]:
    """Has a metrics file hold a line for each epoch done, as far as its figures are known.

    What is mended is said in a warning, and the file as it was is kept beside it.

    Args:
        path: The file.
        state: Where the training is.

    Returns:
        The lines.

    Raises:
        ValueError: If a line is broken and the state has no history.
    """
    path = as_path(path)
    lines, faults = _lines_and_faults(path, state)
    found = {line["epoch"]: line for line in lines}
    known = {figures["epoch"]: figures for figures in state.history} if state.has_history else {}
    kept, again = [], []
    for epoch in range(1, state.epoch + 1):
        line, figures = found.get(epoch), known.get(epoch)
        if figures and (line is None or to_json({**line, **figures}) != to_json(line)):
            again.append(epoch)
            line = {**figures, "images_per_second": 0.0}
        kept += [line] if line else []
    missing = sorted(set(range(1, state.epoch + 1)) - {line["epoch"] for line in kept})
    later = sorted(epoch for epoch in found if epoch > state.epoch)
    if again:
        faults.append(
            f"{_epochs(again)} written again from the checkpoint, without images per second (0)"
        )
    if missing:
        faults.append(f"{_epochs(missing)} missing, and not known from the checkpoint either")
    if len(later) > 1:  # one comes of every kill between an epoch's line and its checkpoint
        faults.append(f"{_epochs(later)} later than the checkpoint, and trained again")
    if faults:
        aside = f" It is kept as {move_aside(path).name}." if path.exists() else ""
        logging.warning("%s: %s.%s", path, "; ".join(faults), aside)
    text = "".join(f"{to_json(line)}\n" for line in kept)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_whole(path, text)
    return kept


def _lines_and_faults(path, state):
    if state.epoch and not path.exists():
        return [], ["it was not there"]
    try:
        return read_metrics(path), []
    except ValueError as error:
        if not state.has_history:
            raise
        return [], [str(error).removesuffix(f" {_CURE}").rstrip(".")]


def _epochs(epochs):
    numbers = ", ".join(map(str, epochs[:5])) + ", ..." * (len(epochs) > 5)
    return f"epoch {numbers} is" if len(epochs) == 1 else f"epochs {numbers} are"
