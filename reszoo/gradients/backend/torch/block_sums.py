"""Sums of one block in a recorded step."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from reszoo.gradients.backend.torch.passes import Turn
from reszoo.gradients.backend.torch.reductions import OnHost, Scale, Sum
from reszoo.gradients.measures import BACKWARD_PLACES, Measure


@dataclass(frozen=True)
class Taken:
    """Sums of one call of a block, or of a batch's gradients.

    Attributes:
        measure: The measure.
        sums: Its sums.
        scale: The factor of the loss in the gradients.
    """

    measure: Measure
    sums: list[Sum]
    scale: Scale = 1.0


@dataclass
class _OfPass:
    """Sums of one backward pass at a place of a block.

    Attributes:
        turn: The pass.
        passes: Number of passes of the same kind that have been here so far.
        taken: The sums of each call of the block.
    """

    turn: Turn
    passes: int = 1
    taken: list[Taken] = field(default_factory=list)


class BlockSums:
    """Sums of one block: over its calls in a batch, and over the batches of an update.

    Of several backward passes of a batch one is recorded. It is the last one that could train the
    block before its weights were updated; a pass made after their last update, such as the
    generator's through a discriminator, is not.

    Args:
        measures: The measures that are taken.

    Attributes:
        ran: Number of times that the block ran forward.
        passes: The number of passes at each of `BACKWARD_PLACES`, the largest of all batches.
    """

    def __init__(self, measures: Sequence[Measure]):
        self._measures = measures
        places = {measure.place for measure in measures}
        self._of_place = {p: [m for m in measures if m.place == p] for p in places}
        self.clear()

    def clear(self) -> None:
        """Begins a step."""
        self.ran = 0
        self.passes: dict[str, int] = dict.fromkeys(BACKWARD_PLACES, 0)
        self._taken: list[Taken] = []
        self._begin_batch()

    def _begin_batch(self) -> None:
        self._last: dict[str, _OfPass] = {}
        self._updated_by: dict[str, _OfPass] = {}

    def of_place(self, place: str) -> list[Measure]:
        """Returns the measures that are taken at a place.

        Args:
            place: The place of the block.
        """
        return self._of_place.get(place, [])

    def add_forward(self, taken: Taken) -> None:
        """Adds sums of a forward run.

        Args:
            taken: The sums.
        """
        self._taken.append(taken)

    def is_taken(self, place: str, turn: Turn) -> bool:
        """Returns whether sums of a pass are needed at a place, and drops those that it replaces.

        Args:
            place: One of `BACKWARD_PLACES`.
            turn: The pass.
        """
        last = self._last.get(place)
        if last is not None and turn < last.turn:
            return False
        if last is None or turn > last.turn:
            alike = last is not None and last.turn.trains == turn.trains
            self._last[place] = _OfPass(turn, last.passes + 1 if last and alike else 1)
        return True

    def add_backward(self, taken: Taken) -> None:
        """Adds sums of a pass that is taken.

        Args:
            taken: The sums.
        """
        self._last[taken.measure.place].taken.append(taken)

    def update(self) -> None:
        """Keeps the passes made so far: with their gradients the block's weights are updated."""
        for place, last in self._last.items():
            before = self._updated_by.get(place)
            last.passes += 0 if before is None else before.passes
            self._updated_by[place] = last
        self._last = {}

    def end_batch(self) -> set[int]:
        """Adds the sums of the pass that is recorded to those of the batches before.

        Returns:
            The number of that pass at each place that one has reached.
        """
        recorded = self._last | self._updated_by
        for place, of_pass in recorded.items():
            self.passes[place] = max(self.passes[place], of_pass.passes)
            self._taken += of_pass.taken
        self._begin_batch()
        return {of_pass.turn.number for of_pass in recorded.values()}

    def sums(self) -> Iterator[Sum]:
        """Yields everything that `result` needs on the host."""
        for taken in self._taken:
            yield from (*taken.sums, taken.scale)

    def result(self, on_host: OnHost) -> list[np.ndarray]:
        """Returns the sums of the step, in the order of the measures.

        Args:
            on_host: Returns the values of `sums`.
        """
        found = {m.formula.__name__: np.zeros(len(m.powers)) for m in self._measures}
        for taken in self._taken:
            name, powers = taken.measure.formula.__name__, taken.measure.powers
            values = unscaled(on_host(taken.sums), powers, on_host([taken.scale]))
            combine = np.maximum if taken.measure.maximum else np.add
            found[name] = combine(found[name], values)
        return list(found.values())


def unscaled(sums: np.ndarray, powers: Mapping[str, int], scale: np.ndarray) -> np.ndarray:
    """Returns sums of the gradients of the mean loss, given sums of the gradients of a scaled one.

    Args:
        sums: Shape `(..., sums)`, float64.
        powers: The power of the gradient's unit in each of the sums, by name.
        scale: The factor of the loss.

    Returns:
        The same shape.
    """
    return sums * (1 / scale) ** np.array([*powers.values()])
