"""Cadence of recorded steps: arithmetic of batches, steps and executions."""

from dataclasses import dataclass


@dataclass
class Cadence:
    """Cadence of recorded steps: the next one to record, and whether it begins now.

    A step is all batches of one update of the weights. Its number is that of the batch with which
    it begins, counted from 0, divided by the number of batches per update.

    Args:
        every_steps: Distance of the recorded steps, which are the multiples of it.
        batches_per_step: Number of batches per update, at least 1.
        batches: Number of batches tried before the next one.
        position: Number of these batches that belong to an update that is not made yet.
        due_step: Number of the step that is being recorded, or `None`.

    Example:

    >>> cadence = Cadence(every_steps=3, batches_per_step=1, batches=7)
    >>> cadence.begin(1), cadence.batches_ahead, cadence.begin(4), cadence.due_step
    (False, 2, True, 9)
    """

    every_steps: int
    batches_per_step: int
    batches: int
    position: int = 0
    due_step: int | None = None

    @property
    def next_step(self) -> int:
        """The first step none of whose batches has run."""
        return self._next_begin // self.batches_per_step

    @property
    def broken_step(self) -> int | None:
        """The step that should be recorded but has begun already, or `None`."""
        step = (self.batches - self.position) // self.batches_per_step
        return step if self.position and step % self.every_steps == 0 else None

    @property
    def batches_ahead(self) -> int:
        """Batches that may run before the next call of `begin`; 1 if a step is due."""
        return 1 if self.due_step is not None else max(1, self._next_due()[1] - self.batches)

    def begin(self, batches_at_once: int) -> bool:
        """Returns whether a step becomes due within the batches that are about to run.

        Args:
            batches_at_once: The largest number of batches that may run.
        """
        step, begin = self._next_due()
        if self.due_step is not None or begin >= self.batches + batches_at_once:
            return False
        self.due_step, self._end = step, begin + self.batches_per_step
        return True

    def go_on(self, batches: int) -> None:
        """Counts batches that ran.

        Args:
            batches: Number of batches that ran since the last call.
        """
        self.batches += batches
        self.position = (self.position + batches) % self.batches_per_step

    @property
    def is_over(self) -> bool:
        """End of the due step: true once all of its batches ran, if the optimizer skips none."""
        return self.batches >= self._end

    @property
    def _next_begin(self) -> int:
        return self.batches + -self.position % self.batches_per_step

    def _next_due(self) -> tuple[int, int]:
        """Returns the next step to record, and the batch with which it begins."""
        step = -(-self.next_step // self.every_steps) * self.every_steps
        return step, self._next_begin + (step - self.next_step) * self.batches_per_step
