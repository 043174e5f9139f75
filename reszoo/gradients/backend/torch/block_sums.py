"""Sums of one block in a recorded step."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from reszoo.gradients.backend.torch.passes import Turn
from reszoo.gradients.measures import BACKWARD_PLACES, Measure

Sums = dict[str, torch.Tensor]  # by the name of the measure's formula


@dataclass
class _OfPass:
    """Sums of one backward pass at a place of a block.

    Attributes:
        turn: The pass.
        passes: Number of passes of the same kind that have been here so far.
        sums: The sums over all calls of the block.
    """

    turn: Turn
    passes: int = 1
    sums: Sums = field(default_factory=dict)


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
        self._measures = {m.formula.__name__: m for m in measures}
        self.clear()

    def clear(self) -> None:
        """Begins a step."""
        self.ran = 0
        self.passes: dict[str, int] = dict.fromkeys(BACKWARD_PLACES, 0)
        self._total: Sums = {}
        self._begin_batch()

    def _begin_batch(self) -> None:
        self._last: dict[str, _OfPass] = {}
        self._updated_by: dict[str, _OfPass] = {}

    def of_place(self, place: str) -> list[Measure]:
        """Returns the measures that are taken at a place.

        Args:
            place: The place of the block.
        """
        return [measure for measure in self._measures.values() if measure.place == place]

    def add_forward(self, measure: Measure, sums: torch.Tensor) -> None:
        """Adds sums of a forward run.

        Args:
            measure: The measure.
            sums: Its sums, of shape `(sums,)`.
        """
        self._add(self._total, measure, sums)

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

    def add_backward(self, measure: Measure, sums: torch.Tensor) -> None:
        """Adds sums of a pass that is taken.

        Args:
            measure: The measure.
            sums: Its sums, of shape `(sums,)`.
        """
        self._add(self._last[measure.place].sums, measure, sums)

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
            for name, sums in of_pass.sums.items():
                self._add(self._total, self._measures[name], sums)
        self._begin_batch()
        return {of_pass.turn.number for of_pass in recorded.values()}

    def result(self, zeros: Callable[[int], torch.Tensor]) -> list[torch.Tensor]:
        """Returns the sums of the step, in the order of the measures.

        Args:
            zeros: Returns a number of zeros, for a measure that was never taken.
        """
        return [
            self._total[name] if name in self._total else zeros(len(measure.powers))
            for name, measure in self._measures.items()
        ]

    def _add(self, into: Sums, measure: Measure, sums: torch.Tensor) -> None:
        name = measure.formula.__name__
        if name not in into:
            into[name] = sums
        elif measure.maximum:
            into[name] = torch.maximum(into[name], sums.to(into[name].device))
        else:
            into[name] = into[name] + sums.to(into[name].device)


def unscaled(
    sums: torch.Tensor, powers: Mapping[str, int], scale: torch.Tensor | float
) -> torch.Tensor:
    """Returns sums of the gradients of the mean loss, given sums of the gradients of a scaled one.

    Args:
        sums: Shape `(..., sums)`, float64.
        powers: The power of the gradient's unit in each of the sums, by name.
        scale: The factor of the loss.

    Returns:
        The same shape.
    """
    if not any(powers.values()):
        return sums
    if not isinstance(scale, torch.Tensor):
        if scale == 1:
            return sums
        scale = torch.full((), scale, dtype=torch.float64, device=sums.device)
    inverse = 1 / scale.to(sums.device, torch.float64)
    by_power = {power: inverse**power for power in set(powers.values())}
    return sums * torch.stack([by_power[power] for power in powers.values()])
