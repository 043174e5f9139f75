"""Which step is due: arithmetic of batches, steps and executions."""

from dataclasses import dataclass


@dataclass
class Cadence:
    """Says which step is to be recorded next, and whether it begins now.

    A step is all batches of one update of the weights. It bears the number of the batch with which
    it begins, divided by how many batches make an update; counted from 0.

    Args:
        every_steps: The steps that are multiples of it are recorded.
        batches_per_step: How many batches make an update.
        batches: How many batches were tried before the next one.
        due_step: The step that is being recorded, if any.

    Example:

    >>> cadence = Cadence(every_steps=3, batches_per_step=1, batches=7)
    >>> cadence.begin(1), cadence.batches_ahead, cadence.begin(4), cadence.due_step
    (False, 2, True, 9)
    """

    every_steps: int
    batches_per_step: int
    batches: int
    due_step: int | None = None

    @property
    def next_due(self) -> int:
        """The first step to record of those that are not over."""
        step = self.batches // self.batches_per_step
        return -(-step // self.every_steps) * self.every_steps

    @property
    def first_whole_step(self) -> int:
        """The first step of which no batch is over."""
        return -(-self.batches // self.batches_per_step)

    @property
    def batches_ahead(self) -> int:
        """How many batches may run before it has to be asked again; one, if a step is due."""
        first = self.next_due * self.batches_per_step
        return 1 if self.due_step is not None else max(1, first - self.batches)

    def begin(self, batches_at_once: int) -> bool:
        """Returns whether a step becomes due within the batches that are about to run.

        Args:
            batches_at_once: How many batches that is at most.
        """
        if self.due_step is not None:
            return False
        step = self.next_due
        if step * self.batches_per_step >= self.batches + batches_at_once:
            return False
        self.due_step = step
        return True

    @property
    def is_over(self) -> bool:
        """Whether as many batches were tried as the due step should take."""
        return self.batches >= (self.due_step + 1) * self.batches_per_step
