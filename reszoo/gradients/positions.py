"""Positions of trainings: the number of batches a model was trained on, for a log that goes on.

A training is known by its model, as long as the process lives: also with another recorder, after it
was compiled anew, and after batches that nobody recorded. Elsewhere the optimizer's own count says
where it goes on.
"""

import os
import weakref
from dataclasses import dataclass, field

import keras

from reszoo.gradients.cadence import Cadence
from reszoo.gradients.scale import accumulation_steps, batches_applied

_positions = weakref.WeakKeyDictionary()


@dataclass
class Position:
    """Position of a model's training.

    Attributes:
        cadence: The number of batches tried, and that of an update.
        applied: The number of batches that each optimizer had been given then.
    """

    cadence: Cadence
    applied: weakref.WeakKeyDictionary = field(default_factory=weakref.WeakKeyDictionary)


def remember(model: keras.Model, log_dir: str, cadence: Cadence) -> None:
    """Notes the position of a training.

    Args:
        model: The model.
        log_dir: The directory of its log.
        cadence: The number of batches tried, and that of an update.
    """
    of_model = _positions.setdefault(model, {})
    position = of_model.setdefault(absolute_path(log_dir), Position(cadence))
    position.cadence = cadence
    position.applied[model.optimizer] = batches_applied(model.optimizer)


def recall(model: keras.Model, log_dir: str, restored: bool) -> int | None:
    """Returns how many batches were tried; `None` if the training is not known.

    Args:
        model: The model.
        log_dir: The directory of its log.
        restored: Whether a callback has just restored the optimizer.
    """
    position = _positions.get(model, {}).get(absolute_path(log_dir))
    if position is None:
        return None
    optimizer = model.optimizer
    applied = batches_applied(optimizer)
    if optimizer in position.applied:
        # Negative if the optimizer was set back.
        return max(0, position.cadence.batches + applied - position.applied[optimizer])
    if restored:
        return applied
    return position.cadence.next_step * accumulation_steps(optimizer) + applied


def absolute_path(log_dir: str) -> str:
    """Returns the absolute path of a directory, local or not.

    Args:
        log_dir: The directory.
    """
    return log_dir if "://" in log_dir else os.path.realpath(log_dir)
