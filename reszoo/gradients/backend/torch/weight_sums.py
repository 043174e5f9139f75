"""Sums of the weights that an optimizer updates."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from reszoo.gradients.backend.torch.block_sums import unscaled
from reszoo.gradients.measures import (
    NOISE_SUMS,
    WEIGHT_SUMS,
    weight_gradient_sums,
    weight_update_sums,
)

_GRADIENT_POWERS = {
    name: WEIGHT_SUMS[name] for name in ("weight_gradient_squares", "weight_gradient_nonfinite")
}


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
        self._updates: dict[int, torch.Tensor] = {}
        self._parts: dict[int, torch.Tensor] = {}
        self._seen = [0] * self._number
        self._of_gradients: dict[int, torch.Tensor] = {}
        self._before: dict[int, torch.Tensor] = {}

    @torch.no_grad()
    def add_parts(self, gradients: Mapping[int, torch.Tensor], scale: Any) -> None:
        """Adds the squares of the gradients of a part of a batch.

        Args:
            gradients: The gradient of each weight.
            scale: The factor of the loss, times the number of parts.
        """
        if not self._with_parts:
            return
        for row, gradient in gradients.items():
            sums = unscaled(weight_gradient_sums(gradient)[:1], NOISE_SUMS, scale)
            self._parts[row] = self._parts[row] + sums if row in self._parts else sums

    @torch.no_grad()
    def add_gradients(self, gradients: Mapping[int, torch.Tensor], scale: Any) -> None:
        """Keeps the sums of the gradients of an update.

        Args:
            gradients: The gradient of each weight.
            scale: The factor of the loss, times the number of parts.
        """
        self._of_gradients = {
            row: unscaled(weight_gradient_sums(gradient), _GRADIENT_POWERS, scale)
            for row, gradient in gradients.items()
        }

    @torch.no_grad()
    def begin_update(self, weights: Mapping[int, torch.Tensor]) -> None:
        """Copies weights, which are updated in place.

        Args:
            weights: The weights that are about to be updated.
        """
        self._before = {row: weight.clone() for row, weight in weights.items()}

    @torch.no_grad()
    def end_update(self, weights: Mapping[int, torch.Tensor]) -> None:
        """Keeps the sums of an update.

        Args:
            weights: The weights after it.
        """
        for row, weight in weights.items():
            gradient_squares, gradient_nonfinite = self._of_gradients[row]
            squares, update_squares = weight_update_sums(self._before[row], weight)
            sums = [gradient_squares, squares, update_squares, gradient_nonfinite]
            self._updates[row] = torch.stack(sums)
            self._seen[row] += 1
        self._of_gradients, self._before = {}, {}

    def result(self, zeros: Callable[[int], torch.Tensor]) -> list[torch.Tensor]:
        """Returns the sums of the step, in the order in which `by_name` takes their values.

        Args:
            zeros: Returns a number of zeros, for a weight that was not updated.
        """
        rows = range(self._number)
        updates = [self._updates.get(row, zeros(len(WEIGHT_SUMS) - 1)) for row in rows]
        parts = [self._parts.get(row, zeros(len(NOISE_SUMS))) for row in rows]
        return [*updates, *(parts if self._with_parts else [])]

    def by_name(self, values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the sums of the step by name, each of shape `(weights,)`.

        Args:
            values: The values of `result`.
        """
        found = {"updates_seen": np.array(self._seen, float)}
        found |= _by_name(values[: self._number], list(WEIGHT_SUMS)[:-1])
        if self._with_parts:
            found |= _by_name(values[self._number :], NOISE_SUMS)
        return found


def _by_name(rows: Sequence[np.ndarray], names: Iterable[str]) -> dict[str, np.ndarray]:
    names = list(names)
    table = np.reshape([*rows], (len(rows), len(names)))
    return {name: table[:, column] for column, name in enumerate(names)}
