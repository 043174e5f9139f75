"""Positions of trainings: the number of batches a model was trained on, for a log that continues.

While the process runs, a training is identified by its model: also with another recorder, after
compiling again, and after batches that were not recorded. In another process the optimizer's own
count determines where it continues.
"""

import os
import weakref
from dataclasses import dataclass, field

import keras

from reszoo.gradients.cadence import Cadence
from reszoo.updates import accumulation_steps, optimizer_of

_positions = weakref.WeakKeyDictionary()


@dataclass
class Position:
    """Position of a model's training.

    Attributes:
        cadence: The number of batches tried, and the number per update.
        applied: The number of batches that had been applied by each optimizer then.
    """

    cadence: Cadence
    applied: weakref.WeakKeyDictionary = field(default_factory=weakref.WeakKeyDictionary)


def remember(model: keras.Model, log_dir: str, cadence: Cadence, applied: int) -> None:
    """Stores the position of a training.

    Args:
        model: The model that is trained.
        log_dir: The directory of its log.
        cadence: The number of batches tried, and the number per update.
        applied: The number of batches that its optimizer has applied.
    """
    of_model = _positions.setdefault(model, {})
    position = of_model.setdefault(absolute_path(log_dir), Position(cadence))
    position.cadence = cadence
    optimizer = optimizer_of(model)
    if optimizer is not None:  # a loop of one's own may have another
        position.applied[optimizer] = applied


def recall(model: keras.Model, log_dir: str, restored: bool, applied: int) -> int | None:
    """Returns the number of batches tried; `None` if the training is not known.

    Args:
        model: The model that is trained.
        log_dir: The directory of its log.
        restored: Whether a callback has just restored the optimizer.
        applied: The number of batches that the optimizer has applied.
    """
    position = _positions.get(model, {}).get(absolute_path(log_dir))
    if position is None:
        return None
    optimizer = optimizer_of(model)
    if optimizer in position.applied:
        # The difference is negative if the optimizer was restored to an earlier state.
        return max(0, position.cadence.batches + applied - position.applied[optimizer])
    if restored:
        return applied
    return position.cadence.next_step * accumulation_steps(optimizer) + applied


def absolute_path(log_dir: str) -> str:
    """Returns the absolute path of a directory, local or not.

    Args:
        log_dir: A local path, relative or absolute, or a URL such as `gs://bucket/log`.
    """
    return log_dir if "://" in log_dir else os.path.realpath(log_dir)
