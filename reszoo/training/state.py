"""The state of a training, and the errors that end one early."""

import dataclasses
import json
from typing import Any

# Sums over the batches done of an epoch: loss, right answers, images, right among the best five.
Totals = tuple[float, ...]


@dataclasses.dataclass
class TrainingState:
    """Position of a training, kept up to date by the loop and its callbacks.

    With the variables of model and optimizer it is all that is needed to resume a run.

    Args:
        epoch: Number of epochs done.
        batch: Number of batches done of the next epoch.
        totals: Sums over those batches: loss, right answers, images, and images whose class is
            among the five best answers.
        best: The best value so far of the watched figure; `None` before the first test.
        best_epoch: Number of epochs done when it was reached.
        roll_backs: Number of roll-backs after a loss that was not finite.
        history: The figures of each epoch done, as in the metrics file, without the speed.

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
        """Start of the training: whether a batch was trained on."""
        return bool(self.epoch or self.batch)

    @property
    def has_history(self) -> bool:
        """Completeness of the history: whether it has the figures of all epochs done."""
        return [figures["epoch"] for figures in self.history] == list(range(1, self.epoch + 1))

    def assign(self, other: "TrainingState") -> None:
        """Takes over all values of another state."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(other, field.name))


def state_to_json(state: TrainingState) -> str:
    """Returns a state as JSON."""
    return json.dumps(dataclasses.asdict(state))


def state_from_json(text: str) -> TrainingState:
    """Reads a state from JSON, also of an earlier version.

    Args:
        text: JSON that `state_to_json` returned.

    Raises:
        ValueError: If the text is not such JSON.
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
    """A run that had to stop, and can be resumed from its last checkpoint; the text says why."""


class NonFiniteError(RunError):
    """A loss or a weight that is not a finite number."""
