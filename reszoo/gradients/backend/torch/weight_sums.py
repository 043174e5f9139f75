"""Sums of the weights that an optimizer updates."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from reszoo.gradients.backend.torch.block_sums import unscaled
from reszoo.gradients.backend.torch.many_tensors import cached_together, copies, squares_of_each
from reszoo.gradients.backend.torch.passes import kept
from reszoo.gradients.backend.torch.reductions import OnHost, Scale, Sum
from reszoo.gradients.measures import NOISE_SUMS, WEIGHT_SUMS

_UPDATE_SUMS = list(WEIGHT_SUMS)[:-1]
_GRADIENTS, _WEIGHTS, _UPDATES, _LEFT_OUT = _UPDATE_SUMS


@dataclass(frozen=True)
class _Squares:
    """Sums of squares of one kind of tensors of some weights.

    Attributes:
        name: Name of the sum.
        rows: The weights.
        sums: The sum of each, over its finite values.
        left_out: The number of other values in each.
        scale: The factor of the loss in the tensors.
    """

    name: str
    rows: list[int]
    sums: list[Sum]
    left_out: list[Sum]
    scale: Scale = 1.0

    def values(self, on_host: OnHost) -> np.ndarray:
        """Returns the sums without the factor of the loss, of shape `(rows,)`."""
        powers = {self.name: {**WEIGHT_SUMS, **NOISE_SUMS}[self.name]}
        return unscaled(on_host(self.sums), powers, on_host([self.scale]))


class WeightSums:
    """Sums of each observed weight: its gradient, itself before the update, the update.

    Of several updates of a weight in a step the last is kept, with the number of updates. Weights
    are given by their row, as the observed weights are numbered.

    Args:
        number: Number of weights.
        with_parts: Whether the gradient of each part of a batch is summed too.
    """

    def __init__(self, number: int, with_parts: bool):
        self._number = number
        self._with_parts = with_parts
        self.clear()

    def clear(self) -> None:
        """Begins a step."""
        self._seen = [0] * self._number
        self._of_updates: list[_Squares] = []
        self._of_parts: list[_Squares] = []
        self._of_gradients: list[_Squares] = []  # of the update that is made
        self._before: dict[int, torch.Tensor] = {}

    @torch.no_grad()
    def add_parts(self, gradients: Mapping[int, torch.Tensor], scale: Scale) -> None:
        """Adds the squares of the gradients of a part of a batch.

        Args:
            gradients: The gradient of each weight.
            scale: The factor of the loss, times the number of parts.
        """
        if self._with_parts:
            sums = squares_of_each([*gradients.values()])
            (name,) = NOISE_SUMS
            self._of_parts.append(_Squares(name, [*gradients], *sums, kept(scale)))

    @torch.no_grad()
    def add_gradients(self, gradients: Mapping[int, torch.Tensor], scale: Scale) -> None:
        """Keeps the sums of the gradients of an update.

        Args:
            gradients: The gradient of each weight.
            scale: The factor of the loss, times the number of parts.
        """
        sums = squares_of_each([*gradients.values()])
        self._of_gradients = [_Squares(_GRADIENTS, [*gradients], *sums, kept(scale))]

    @torch.no_grad()
    def begin_update(self, weights: Mapping[int, torch.Tensor]) -> None:
        """Copies weights, which are updated in place.

        Args:
            weights: The weights that are about to be updated.
        """
        self._before = dict(zip(weights, copies([*weights.values()]), strict=True))

    @torch.no_grad()
    def end_update(self, weights: Mapping[int, torch.Tensor]) -> None:
        """Keeps the sums of an update.

        Args:
            weights: The weights after it.
        """
        rows = [*weights]
        self._of_updates += self._of_gradients
        for together in cached_together([*weights.values()]):
            some = [rows[i] for i in together]
            before, after = [self._before[row] for row in some], [weights[row] for row in some]
            self._of_updates.append(_Squares(_WEIGHTS, some, *squares_of_each(before)))
            self._of_updates.append(_Squares(_UPDATES, some, *squares_of_each(after, before)))
        for row in rows:
            self._seen[row] += 1
        self._of_gradients, self._before = [], {}

    def sums(self) -> Iterator[Sum]:
        """Yields everything that `result` needs on the host."""
        for of_some in (*self._of_updates, *self._of_parts):
            yield from itertools.chain(of_some.sums, of_some.left_out, [of_some.scale])

    def result(self, on_host: OnHost) -> list[np.ndarray]:
        """Returns the sums of the step, as `by_name` takes them.

        Args:
            on_host: Returns the values of `sums`.
        """
        table = {name: np.zeros(self._number) for name in _UPDATE_SUMS}
        for of_some in self._of_updates:
            values, left_out = of_some.values(on_host), on_host(of_some.left_out)
            if of_some.name == _GRADIENTS:
                table[_LEFT_OUT][of_some.rows] = left_out
            else:  # whose values that are not finite are not counted
                values[left_out > 0] = np.nan
            table[of_some.name][of_some.rows] = values
        parts = np.zeros(self._number)
        for of_some in self._of_parts:
            parts[of_some.rows] += of_some.values(on_host)
        return [np.concatenate([*table.values()]), *([parts] if self._with_parts else [])]

    def by_name(self, values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the sums of the step by name, each of shape `(weights,)`.

        Args:
            values: The values of `result`.
        """
        found = {"updates_seen": np.array(self._seen, float)}
        for names, table in zip((_UPDATE_SUMS, NOISE_SUMS), values, strict=False):
            rows = table.reshape(len(names), self._number)
            found |= dict(zip(names, rows, strict=True))
        return found
