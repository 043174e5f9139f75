"""Continuation of a log: no training may hide the records of another."""

import enum
import weakref
from collections.abc import Sequence
from typing import Protocol

import keras
from absl import logging

from reszoo.gradients.log.reader import recorded_steps
from reszoo.gradients.positions import absolute_path

_trainings = weakref.WeakKeyDictionary()  # by the model, then by the directory


class LogOwner(Protocol):
    """A training that writes a log."""

    @property
    def is_open(self) -> bool:
        """State of the log: true while it is written."""
        ...


class Origin(enum.Enum):
    """Origin of the first batch that is recorded of a training."""

    KNOWN = "this process knows it, or its loop says so"
    RESTORED = "its optimizer has counted batches"
    NEW = "from the very start"


def check_continuation(
    log_dir: str, first_step: int, blocks: Sequence[str], origin: Origin
) -> None:
    """Refuses a training that would hide the records of another.

    From its first step on, the records of a training replace those in the directory. That is right
    where it is the same training, resumed from a checkpoint.

    Args:
        log_dir: The directory of the log.
        first_step: The step at which recording begins.
        blocks: The names of the blocks that are recorded.
        origin: The origin of that step.

    Raises:
        ValueError: If it is another training: a new one, or a restored one with other blocks.
    """
    recorded = recorded_steps(log_dir)
    hidden = sorted(step for step in recorded if step >= first_step)
    others = any(list(recorded[step]) != list(blocks) for step in hidden)
    if recorded and (origin is Origin.NEW or (origin is Origin.RESTORED and others)):
        why = "is new" if origin is Origin.NEW else "records other blocks"
        raise ValueError(
            f"The directory {log_dir!r} holds the gradient log of another training, up to step "
            f"{max(recorded)}, which this one, that {why}, would hide. Give GradientRecorder a "
            "log_dir of its own. Or, if it is the same training, call before fit "
            "recorder.begin_at(0) to record it anew from the start, as after a restart before the "
            "first backup, or recorder.begin_at(batch) with the number of batches that it was "
            "trained on, to go on after them."
        )
    if hidden:
        logging.warning(
            "Training goes on at step %d: %d steps that %s holds from there on, up to step %d, are "
            "recorded anew and no longer shown.",
            first_step,
            len(hidden),
            log_dir,
            hidden[-1],
        )


def check_alone(model: keras.Model, log_dir: str, training: LogOwner) -> None:
    """Refuses a second recorder that writes to the same directory for the same model.

    Args:
        model: The model that is trained.
        log_dir: The directory of the log.
        training: The training that is about to be recorded.

    Raises:
        ValueError: If another recorder of the model writes there.
    """
    of_model = _trainings.setdefault(model, weakref.WeakValueDictionary())
    other = of_model.setdefault(absolute_path(log_dir), training)
    if other is not training and other.is_open:
        raise ValueError(
            f"Two recorders of the model {model.name!r} write to {log_dir!r}, where the "
            "second would hide what the first records. Give each a log_dir of its own; or call "
            "close() of the first, if its training is over."
        )
    of_model[absolute_path(log_dir)] = training
