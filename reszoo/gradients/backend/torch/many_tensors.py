"""Sums over each of many tensors, such as the weights of a model.

A GPU gets them all in a few launches. A CPU takes one after the other, while it is in the cache.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from reszoo.gradients.backend.torch import reductions
from reszoo.gradients.backend.torch.reductions import Sum
from reszoo.gradients.sums import Sums
from reszoo.keras_internals import MULTIPLY_EACH, SUBTRACT_FROM_EACH

# Number of values that are copied side by side on a GPU without Triton; a larger tensor is taken by
# itself.
BUCKET = 2**23
# Number of values that stay in the cache of a CPU's core while several sums of them are taken.
CACHED = 2**18


def squares_of_each(
    tensors: Sequence[torch.Tensor], minus: Sequence[torch.Tensor] | None = None
) -> tuple[list[Sum], list[Sum]]:
    """Returns the sum of squares over the finite values of each tensor, and those left out.

    Args:
        tensors: Tensors of any shapes and any float dtypes, on any devices.
        minus: What is subtracted from each first, of the same shapes, dtypes and devices. It may be
            overwritten.

    Returns:
        The sums, and the numbers of values that are not finite, in the order of the tensors.
    """
    if not tensors:
        return [], []
    tensors = [*map(reductions.with_float64, tensors)]
    minus = None if minus is None else [*map(reductions.with_float64, minus)]
    kernels = reductions.kernels(tensors)
    if kernels:
        squares, left_out = kernels.squares_of_each(tensors, minus)
        return [squares], [left_out]
    found: list[tuple[Sum, Sum]] = [(0.0, 0.0)] * len(tensors)
    groups: dict[tuple, list[int]] = {}
    for i, x in enumerate(tensors):
        groups.setdefault((x.device, x.dtype), []).append(i)
    for bucket in (
        bucket for group in groups.values() for bucket in _buckets(group, tensors, BUCKET)
    ):
        values = [tensors[i] for i in bucket]
        others = None if minus is None else [minus[i] for i in bucket]
        take = _squares_there if reductions.adds_there(values[0]) else _squares_on_cpu
        for i, of_tensor in zip(bucket, zip(*take(values, others), strict=True), strict=True):
            found[i] = of_tensor
    squares, left_out = zip(*found, strict=True)
    return list(squares), list(left_out)


def cached_together(tensors: Sequence[torch.Tensor]) -> Iterator[list[int]]:
    """Yields the positions of tensors of which a CPU should take all sums before those of others.

    Args:
        tensors: Any tensors.
    """
    if any(map(reductions.adds_there, tensors)):
        yield [*range(len(tensors))]
    else:
        yield from _buckets(range(len(tensors)), tensors, CACHED)


def copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Returns a copy of each tensor.

    Args:
        tensors: Any tensors.
    """
    return list(vars(torch)[MULTIPLY_EACH](list(tensors), 1.0)) if tensors else []


def _buckets(
    group: Sequence[int], tensors: Sequence[torch.Tensor], most: int
) -> Iterator[list[int]]:
    bucket: list[int] = []
    size = 0
    for i in group:
        if bucket and size + tensors[i].numel() > most:
            yield bucket
            bucket, size = [], 0
        bucket.append(i)
        size += tensors[i].numel()
    if bucket:
        yield bucket


def _squares_there(
    tensors: Sequence[torch.Tensor], minus: Sequence[torch.Tensor] | None
) -> tuple[list[Sum], list[Sum]]:
    sizes = [x.numel() for x in tensors]
    values = _side_by_side(tensors)
    if minus is not None:
        values = _wide(values) - _wide(_side_by_side(minus))
    finite = reductions.zero_if_nonfinite(values, values.dtype)
    left_out: list[Sum] = [*reductions.lengths((finite != values).float().split(sizes), 1)]
    return reductions.norms(finite.split(sizes)), left_out


def _wide(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _side_by_side(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    if len(tensors) == 1:
        return tensors[0].reshape(-1)
    return torch.cat([x.reshape(-1) for x in tensors])


def _squares_on_cpu(
    tensors: Sequence[torch.Tensor], minus: Sequence[torch.Tensor] | None
) -> tuple[list[Sum], list[Sum]]:
    wide = [*map(_wide, tensors)]
    if minus is not None:
        differences = [*map(_wide, minus)]
        vars(torch)[SUBTRACT_FROM_EACH](differences, wide)
        wide = differences
    found = reductions.squares_on_cpu(wide)
    squares: list[Sum] = found.tolist()
    left_out: list[Sum] = [0.0] * len(wide)
    least = reductions.LEAST_MEAN_SQUARE * np.array([x.numel() for x in wide])
    for i in np.flatnonzero(~(np.isfinite(found) & (found >= least))):
        (squares[i],), (left_out[i],) = reductions.over_finite(Sums(squares=1), [wide[i]])
    return squares, left_out
