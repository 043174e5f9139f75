"""The metrics file of a run: figures, one line of JSON for each epoch."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
from absl import logging

from reszoo.files import StoredPath, as_path, write_whole
from reszoo.json_files import NUMBER_OR_NULL, read_json_lines, to_json
from reszoo.training.checkpoint_files import move_aside
from reszoo.training.state import TrainingState

# The loop's name of each figure, and its name in the file.
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


def epoch_figures(model: keras.Model, epoch: int, logs: Mapping[str, float]) -> dict[str, float]:
    """Returns the figures of an epoch by the names that `MetricsLog` explains.

    Args:
        model: The model in training.
        epoch: The epoch, from 0.
        logs: The figures that `on_epoch_end` gets.
    """
    figures = {name: logs[key] for key, name in FIGURES.items()}
    return {"epoch": epoch + 1, "step": steps_done(model), **figures}


def lasting(figures: Mapping[str, float]) -> dict[str, float]:
    """Returns the reproducible figures of an epoch, that is, all but the speed.

    Args:
        figures: Figures that `epoch_figures` returned.
    """
    return {name: value for name, value in figures.items() if name != "images_per_second"}


def steps_done(model: keras.Model) -> int:
    """Returns the number of the optimizer's steps so far.

    Args:
        model: A compiled model, on any number of devices.
    """
    # NumPy gets a single value of a variable on several devices; `int` gets none.
    return int(np.asarray(keras.ops.convert_to_numpy(model.optimizer.iterations)))


def read_metrics(path: str | os.PathLike) -> list[dict[str, float]]:
    """Returns the lines of a metrics file by epoch, without an incomplete last one.

    Args:
        path: The file; the list is empty if it does not exist.

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


def mend_metrics(path: str | os.PathLike, state: TrainingState) -> list[dict[str, float]]:
    """Completes a metrics file to a line for each epoch done, as far as its metrics are known.

    A warning says what was mended, and a copy of the earlier file is kept beside it.

    Args:
        path: The file.
        state: Position of the training, with the figures of the epochs done.

    Returns:
        The lines of the completed file.

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
    if len(later) > 1:  # a kill between an epoch's line and its checkpoint leaves one
        faults.append(f"{_epochs(later)} later than the checkpoint, and trained again")
    if faults:
        aside = f" It is kept as {move_aside(path).name}." if path.exists() else ""
        logging.warning("%s: %s.%s", path, "; ".join(faults), aside)
    text = "".join(f"{to_json(line)}\n" for line in kept)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_whole(path, text)
    return kept


def _lines_and_faults(
    path: Path | StoredPath, state: TrainingState
) -> tuple[list[dict[str, Any]], list[str]]:
    if state.epoch and not path.exists():
        return [], ["it was not there"]
    try:
        return read_metrics(path), []
    except ValueError as error:
        if not state.has_history:
            raise
        return [], [str(error).removesuffix(f" {_CURE}").rstrip(".")]


def _epochs(epochs: Sequence[int]) -> str:
    numbers = ", ".join(map(str, epochs[:5])) + ", ..." * (len(epochs) > 5)
    return f"epoch {numbers} is" if len(epochs) == 1 else f"epochs {numbers} are"
