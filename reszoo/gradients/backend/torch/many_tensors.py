"""Sums over each of many tensors, such as the weights of a model.

A GPU gets them all in a few launches. A CPU takes one after the other, while it is in the cache.
"""

import math
from collections.abc import Iterator, Sequence

import torch

from reszoo.gradients.backend.torch import reductions
from reszoo.gradients.backend.torch.reductions import Sum
from reszoo.gradients.sums import Sums
from reszoo.keras_internals import MULTIPLY_EACH

# Number of values that are copied side by side on a GPU without Triton; a larger tensor is taken by
# itself.
BUCKET = 2**23


def squares_of_each(
    tensors: Sequence[torch.Tensor], minus: Sequence[torch.Tensor] | None = None
) -> tuple[list[Sum], list[Sum]]:
    """Returns the sum of squares over the finite values of each tensor, and those left out.

    Args:
        tensors: Tensors of any shapes and any float dtypes, on any devices.
        minus: What is subtracted from each first, of the same shapes, dtypes and devices.

    Returns:
        The sums, and the numbers of values that are not finite, in the order of the tensors.
    """
    if not tensors:
        return [], []
    kernels = reductions.kernels(tensors)
    if kernels:
        squares, left_out = kernels.squares_of_each(tensors, minus)
        return [squares], [left_out]
    found: list[tuple[Sum, Sum]] = [(0.0, 0.0)] * len(tensors)
    there: dict[tuple, list[int]] = {}
    for i, x in enumerate(tensors):
        if reductions.adds_there(x):
            there.setdefault((x.device, x.dtype), []).append(i)
        else:
            found[i] = _squares_on_cpu(x if minus is None else x - minus[i])
    for bucket in (bucket for group in there.values() for bucket in _buckets(group, tensors)):
        others = None if minus is None else [minus[i] for i in bucket]
        sums = _squares_of_bucket([tensors[i] for i in bucket], others)
        for i, of_tensor in zip(bucket, sums, strict=True):
            found[i] = of_tensor
    squares, left_out = zip(*found, strict=True)
    return list(squares), list(left_out)


def copies(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Returns a copy of each tensor.

    Args:
        tensors: Any tensors.
    """
    return list(vars(torch)[MULTIPLY_EACH](list(tensors), 1.0)) if tensors else []


def _buckets(group: Sequence[int], tensors: Sequence[torch.Tensor]) -> Iterator[list[int]]:
    bucket: list[int] = []
    size = 0
    for i in group:
        if bucket and size + tensors[i].numel() > BUCKET:
            yield bucket
            bucket, size = [], 0
        bucket.append(i)
        size += tensors[i].numel()
    yield bucket


def _squares_of_bucket(
    tensors: Sequence[torch.Tensor], minus: Sequence[torch.Tensor] | None
) -> Iterator[tuple[Sum, Sum]]:
    sizes = [x.numel() for x in tensors]
    values = _side_by_side(tensors)
    if minus is not None:
        values = values - _side_by_side(minus)
    finite = reductions.zero_if_nonfinite(values, values.dtype)
    left_out = reductions.lengths((finite != values).float().split(sizes), 1)
    return zip(reductions.norms(finite.split(sizes)), left_out, strict=True)


def _side_by_side(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    if len(tensors) == 1:
        return tensors[0].reshape(-1)
    return torch.cat([x.reshape(-1) for x in tensors])


def _squares_on_cpu(x: torch.Tensor) -> tuple[Sum, Sum]:
    wide = x if x.dtype == torch.float64 else x.float()
    found = reductions.squares_on_cpu(wide)
    if math.isfinite(found) and reductions.suffices(found, wide):
        return found, 0.0
    (found,), (left_out,) = reductions.over_finite(Sums(squares=1), [x.double()])
    return found, left_out
