"""Sums of the weights that an optimizer updates."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from reszoo.gradients.backend.torch.block_sums import unscaled
from reszoo.gradients.backend.torch.reductions import squares_of_each
from reszoo.gradients.measures import NOISE_SUMS, WEIGHT_SUMS

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
        self._seen = [0] * self._number
        self._updates = _table(self._number, len(WEIGHT_SUMS) - 1)
        self._parts = _table(self._number, len(NOISE_SUMS))
        self._of_gradients: dict[int, int] = {}  # the rows of `_gradients` by those of the weights
        self._gradients = _table(0, len(_GRADIENT_POWERS))
        self._before: dict[int, torch.Tensor] = {}

    @torch.no_grad()
    def add_parts(self, gradients: Mapping[int, torch.Tensor], scale: Any) -> None:
        """Adds the squares of the gradients of a part of a batch.

        Args:
            gradients: The gradient of each weight.
            scale: The factor of the loss, times the number of parts.
        """
        if not self._with_parts or not gradients:
            return
        sums, _ = squares_of_each([*gradients.values()])
        self._parts = self._parts.to(sums.device)
        self._parts[[*gradients]] += unscaled(sums[:, None], NOISE_SUMS, scale)

    @torch.no_grad()
    def add_gradients(self, gradients: Mapping[int, torch.Tensor], scale: Any) -> None:
        """Keeps the sums of the gradients of an update.

        Args:
            gradients: The gradient of each weight.
            scale: The factor of the loss, times the number of parts.
        """
        self._of_gradients = {row: i for i, row in enumerate(gradients)}
        sums = torch.stack(squares_of_each([*gradients.values()]), dim=1)
        self._gradients = unscaled(sums, _GRADIENT_POWERS, scale)

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
        if not weights:
            return
        of_weights = _squares_or_nan([self._before[row] for row in weights])
        before = [self._before[row] for row in weights]
        of_updates = _squares_or_nan([*weights.values()], before)
        of_gradients, nonfinite = self._gradients[
            [self._of_gradients[row] for row in weights]
        ].unbind(dim=1)
        sums = torch.stack([of_gradients, of_weights, of_updates, nonfinite], dim=1)
        self._updates = self._updates.to(sums.device)
        self._updates[[*weights]] = sums
        for row in weights:
            self._seen[row] += 1
        self._of_gradients, self._before = {}, {}

    def result(self) -> list[torch.Tensor]:
        """Returns the sums of the step, as `by_name` takes their values."""
        tables = [self._updates, *([self._parts] if self._with_parts else [])]
        return [table.reshape(-1) for table in tables]

    def by_name(self, values: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """Returns the sums of the step by name, each of shape `(weights,)`.

        Args:
            values: The values of `result`.
        """
        found = {"updates_seen": np.array(self._seen, float)}
        for names, table in zip((list(WEIGHT_SUMS)[:-1], NOISE_SUMS), values, strict=False):
            columns = table.reshape(self._number, len(names)).T
            found |= dict(zip(names, columns, strict=True))
        return found


def _table(rows: int, columns: int) -> torch.Tensor:
    return torch.zeros((rows, columns), dtype=torch.float64)


def _squares_or_nan(
    tensors: Sequence[torch.Tensor], minus: Sequence[torch.Tensor] | None = None
) -> torch.Tensor:
    """Returns the sum of squares of each; NaN if a value is not finite, as these are not counted.

    Args:
        tensors: Weights.
        minus: What is subtracted from each first.
    """
    sums, left_out = squares_of_each(tensors, minus)
    return torch.where(left_out > 0, torch.nan, sums)
