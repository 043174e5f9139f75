"""Where a training is, and what ends it before its time."""

import dataclasses


@dataclasses.dataclass
class TrainingState:
    """Where a training is; the loop and its callbacks keep it up to date.

    Together with the variables of the model and the optimizer it is all that a run needs to go on.

    Args:
        epoch: Epochs done.
        batch: Batches done of the epoch that comes next.
        totals: Sums over those batches: loss, correct answers, images, and right answers
            among the best five.
        best: The best value so far of the figure that is watched, or `None`.
        best_epoch: The number of epochs done when it was reached.
        roll_backs: How often a loss that was not finite sent the run back.
        stopped: Whether the run ended before its last epoch, because nothing improved.

    Example:

    >>> TrainingState(epoch=2).batch
    0
    """

    epoch: int = 0
    batch: int = 0
    totals: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    best: float | None = None
    best_epoch: int = 0
    roll_backs: int = 0
    stopped: bool = False

    def assign(self, other: "TrainingState") -> None:
        """Takes over all values of another state."""
        for field in dataclasses.fields(self):
            setattr(self, field.name, getattr(other, field.name))


class RunError(RuntimeError):
    """A run that cannot go on now, but from its last checkpoint later; the text says why."""


class NonFiniteError(RunError):
    """A loss or a weight that is not a finite number."""
