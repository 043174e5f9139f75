"""The state of a training, and the errors that end one before its time."""

import dataclasses
import json
from typing import Any

# Sums over the batches done of an epoch: loss, right answers, images, right among the best five.
Totals = tuple[float, ...]


@dataclasses.dataclass
class TrainingState:
    """Position of a training, kept up to date by the loop and its callbacks.

    Together with the variables of the model and the optimizer it is all that a run needs to go on.

    Args:
        epoch: Epochs done.
        batch: Batches done of the epoch that comes next.
        totals: Sums over those batches: loss, correct answers, images, and right answers
            among the best five.
        best: The best value so far of the figure that is watched, or `None`.
        best_epoch: The number of epochs done when it was reached.
        roll_backs: How often a loss that was not finite sent the run back.
        history: The figures of each epoch done, as in the metrics file but for their speed.

    Example:

    >>> TrainingState(epoch=2).batch
    0
    """

    epoch: int = 0
    batch: int = 0
    totals: Totals = (0.0, 0.0, 0.0, 0.0)
    best: float | None = None
    best_epoch: int = 0
    roll_backs: int = 0
    history: tuple[dict[str, Any], ...] = ()

    @property
    def has_begun(self) -> bool:
        """Whether a batch was trained on."""
        return bool(self.epoch or self.batch)

    @property
    def has_history(self) -> bool:
        """Whether it knows the figures of all epochs done."""
        return [figures["epoch"] for figures in self.history] == list(range(1, self.epoch + 1))

    def assign(self, other: "TrainingState") -> None:
        """Takes over all values of another state."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(other, field.name))


def state_to_json(state: TrainingState) -> str:
    """Returns a state as JSON."""
    return json.dumps(dataclasses.asdict(state))


def state_from_json(text: str) -> TrainingState:
    """Returns the state that was written as JSON, also by an earlier version.

    Args:
        text: What `state_to_json` returned.

    Raises:
        ValueError: If it is something else.
    """
    fields = json.loads(text)
    try:
        fields.pop("stopped", None)  # 0.1.0 noted there that a run had ended early
        state = TrainingState(**fields)
        state.totals, state.history = tuple(state.totals), tuple(state.history)
    except (AttributeError, TypeError) as error:
        raise ValueError(f"it says of the training: {text[:80]!r}") from error
    return state


class RunError(RuntimeError):
    """A run that cannot go on now, but from its last checkpoint later; the text says why."""


class NonFiniteError(RunError):
    """A loss or a weight that is not a finite number."""
