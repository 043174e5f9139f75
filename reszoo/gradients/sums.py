"""Sums over tensors, named before they are taken, so that one kernel can take all of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from reszoo.gradients import backend

Tensor = Any  # of the Keras backend in use


@dataclass(frozen=True)
class Sums:
    """Sums over the values of some tensors, in the order of these attributes.

    Called with the tensors, it takes one sum after the other, with the reductions of the Keras
    backend in use, and returns them, of shape `(sums,)`.

    Attributes:
        squares: Number of tensors, from the first on, whose squares are summed.
        products: Whether the products of the first two tensors are summed.
        totals: Number of tensors, from the first on, whose values are summed.
    """

    squares: int = 0
    products: bool = False
    totals: int = 0

    def __call__(self, *tensors: Tensor) -> Tensor:
        reduce = backend.reductions
        parts: Sequence[Tensor] = [reduce.squares(tensors[: self.squares])] if self.squares else []
        products = [reduce.products(*tensors[:2])] if self.products else []
        totals = [reduce.total(x) for x in tensors[: self.totals]]
        return reduce.joined([*parts, *products, *totals])
