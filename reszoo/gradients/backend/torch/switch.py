"""Choice of the batch that is recorded."""

import keras

from reszoo.updates import accumulation_steps, batches_applied


class Switch:
    """Switch that is on while a batch is recorded.

    Args:
        optimizer: The optimizer whose count of batches shows where an update begins; `None` if
            every batch makes one.

    Attributes:
        on: Whether the running batch is recorded.
        seen: Number of batches recorded since the last `set`.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer | None):
        self._optimizer = optimizer
        self._counted, self._first, self._begun = 0, -1, -1
        self.on = False
        self.seen = 0

    def set(self, counted: int, first: int) -> None:
        """Sets which batch to record.

        Args:
            counted: Number of batches that have been tried.
            first: The first batch to record, counted from 0. With several batches per update, the
                update is recorded if it begins with that batch or fewer than one update after it.
        """
        self._counted, self._first, self._begun = counted, first, -1
        self.seen = 0

    def begin_batch(self) -> bool:
        """Counts a batch, and returns whether it is recorded."""
        self.on = self._begins_or_goes_on(self._counted)
        self._counted += 1
        self.seen += self.on
        return self.on

    def _begins_or_goes_on(self, batch: int) -> bool:
        size = accumulation_steps(self._optimizer)
        if size == 1:
            return batch == self._first
        applied = batches_applied(self._optimizer)
        if not self.seen and self._first <= batch < self._first + size and applied % size == 0:
            self._begun = applied
        return 0 <= self._begun <= applied < self._begun + size

    @property
    def makes_update(self) -> bool:
        """Role of the running batch, if it is recorded: true if it is the last one of an update."""
        size = accumulation_steps(self._optimizer)
        return size == 1 or batches_applied(self._optimizer) % size == size - 1

    def has_size_of(self, optimizer: keras.optimizers.Optimizer) -> bool:
        """Returns whether an optimizer's updates have as many batches as the step.

        Args:
            optimizer: Any Keras optimizer.
        """
        return accumulation_steps(optimizer) == accumulation_steps(self._optimizer)

    def state(self) -> tuple[bool, bool]:
        """Returns whether the update to record has begun, and whether it is over."""
        size = accumulation_steps(self._optimizer)
        return self._begun >= 0, 0 <= self._begun <= batches_applied(self._optimizer) - size
