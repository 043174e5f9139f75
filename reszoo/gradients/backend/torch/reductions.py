"""Sums over the values of tensors, computed on their device.

A sum is a float64 scalar: the square of any normal float32 number, and its fourth power, are within
float64's range, and sums of many of them are accurate. A CPU, where that takes several times as
long, adds in float32 if the result shows that this is accurate, and in float64 if not. A GPU always
adds in float64: it would have to wait for the result of a test. One kernel takes all sums of some
tensors there (`gpu_sums`), where Triton is installed.
"""

import functools
import importlib.util
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch

from reszoo.gradients.sums import Sums

# Squares whose mean is at least this are summed in float32 with a relative error of 1e-6: squares
# that are too small for float32 are negligible.
LEAST_MEAN_SQUARE = 1e-30


def squares(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Returns the sum of the squares of each tensor's values.

    Args:
        tensors: Tensors of any shapes, all float32 or all float64.

    Returns:
        Shape `(tensors,)`, of their dtype.
    """
    return torch.stack([(x * x).sum() for x in tensors])


def products(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Returns the sum of the products of two tensors' values.

    Args:
        x: Any shape, float32 or float64.
        y: The same shape and dtype.

    Returns:
        A scalar of their dtype.
    """
    return (x * y).sum()  # a matrix product would round its factors on a GPU


def total(x: torch.Tensor) -> torch.Tensor:
    """Returns the sum of a tensor's values.

    Args:
        x: Any shape.

    Returns:
        A scalar of its dtype.
    """
    return x.sum()


def squares_of_sum(x: torch.Tensor) -> torch.Tensor:
    """Returns the sum of the squares of a tensor's finite values.

    Args:
        x: Any shape, any float dtype.

    Returns:
        A float64 scalar.
    """
    return over_finite(Sums(squares=1), [x])[0][0]


def zeros(x: torch.Tensor) -> torch.Tensor:
    """Returns the number of a tensor's values that are exactly zero, a float64 scalar.

    Args:
        x: Any shape.
    """
    return (x == 0).sum().double()


def largest(x: torch.Tensor) -> torch.Tensor:
    """Returns the largest magnitude of a tensor's finite values, a float64 scalar.

    Args:
        x: Any shape, any float dtype.
    """
    if x.numel() == 0:
        return _scalar(0, x)
    return zero_if_nonfinite(x, x.dtype).abs().amax().double()


def joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Returns scalars and vectors as one vector.

    Args:
        parts: Tensors of at most one dimension, of one dtype.
    """
    return torch.cat([part.reshape(-1) for part in parts])


def elements(x: torch.Tensor) -> torch.Tensor:
    """Returns the number of a tensor's values, a float64 scalar.

    Args:
        x: Any shape.
    """
    return _scalar(x.numel(), x)


def examples(x: torch.Tensor) -> torch.Tensor:
    """Returns the number of examples in a batch, a float64 scalar.

    Args:
        x: Shape `(batch, ...)`.
    """
    return _scalar(x.shape[0], x)


def counts_by_exponent(x: torch.Tensor, first: int, bins: int) -> torch.Tensor:
    """Returns numbers of a tensor's finite values by the power of two below their magnitude.

    Args:
        x: Any shape, any float dtype.
        first: The exponent of the lowest bin, which also counts smaller values.
        bins: Number of bins. The highest also counts larger values.

    Returns:
        Shape `(1 + bins,)`, float64: first the number of exact zeros.
    """
    x = x.reshape(-1).double()
    # The exponent is read from its bits, since a logarithm would round.
    exponent = (x.abs().view(torch.int64) >> 52) - 1023
    position = torch.where(x == 0, 0, 1 + (exponent - first).clamp(0, bins - 1))
    counts = torch.zeros(bins + 1, dtype=torch.float64, device=x.device)
    return counts.scatter_add_(0, position, torch.isfinite(x).double())


def zero_if_nonfinite(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Returns a tensor with zero in place of values that are not finite.

    Args:
        x: Any shape, any float dtype.
        dtype: Dtype of the result.

    Returns:
        The same shape.
    """
    return torch.where(torch.isfinite(x), x.to(dtype), 0)


def squares_suffice(sums: torch.Tensor, tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    """Returns whether sums of squares in float32 are accurate.

    Args:
        sums: Shape `(sums,)`, first a sum of squares for each of the tensors.
        tensors: The tensors, of any shapes.

    Returns:
        A boolean scalar: false where the squares are too small for float32, which may make the sum
        zero; true where all values are zero.
    """
    # Numbers of Python: each operation on a tensor takes longer than all tests of them.
    pairs = zip(sums[: len(tensors)].tolist(), tensors, strict=True)
    return torch.tensor(all(_suffices(s, x) for s, x in pairs))


def over_finite(
    sums: Callable[..., torch.Tensor],
    tensors: Sequence[torch.Tensor],
    suffice: Callable[[torch.Tensor, Sequence[torch.Tensor]], torch.Tensor] = squares_suffice,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns sums over the finite values, and the number of non-finite values of each tensor.

    On a CPU a second pass is made only where the sums of the first are not finite, which shows
    values that are not, or not accurate.

    Args:
        sums: Takes the tensors, in float32 or float64, and returns sums of shape `(sums,)`, of
            the same dtype; they must not be finite if a value is not.
        tensors: Tensors of any shapes and any float dtypes.
        suffice: Takes the sums and the tensors, and returns whether the sums are accurate.

    Returns:
        The sums, and the numbers, of shape `(tensors,)`, both float64.
    """
    kernels = _kernels(tensors) if isinstance(sums, Sums) else None
    if kernels:
        return kernels.over_finite(sums, tensors)
    if all(x.device.type == "cpu" for x in tensors):
        wide = torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32
        cast = [x.to(wide) for x in tensors]
        cheap = sums(*cast)
        if all(map(math.isfinite, cheap.tolist())) and suffice(cheap, cast):
            return cheap.double(), torch.zeros(len(tensors), dtype=torch.float64)
    left_out = torch.stack([(~torch.isfinite(x)).sum().double() for x in tensors])
    return sums(*(zero_if_nonfinite(x, torch.float64) for x in tensors)), left_out


def _kernels(tensors: Sequence[torch.Tensor]) -> Any:
    """Returns the module of sums by one kernel; `None` where tensors are not on one GPU."""
    devices = {x.device for x in tensors}
    return _kernels_on(devices.pop()) if len(devices) == 1 else None


@functools.cache
def _kernels_on(device: torch.device) -> Any:
    """Returns the module of sums by one kernel, if Triton can build it for a device."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return None
    from reszoo.gradients.backend.torch import gpu_sums

    try:
        gpu_sums.over_finite(Sums(squares=1), [torch.ones(1, device=device)])
    except Exception as error:  # of a compiler or a driver, of any kind
        warnings.warn(
            f"Triton cannot build a kernel for {device}: {error} Recorded steps take longer, since "
            "their sums are computed operation by operation; the values are the same.",
            stacklevel=2,
        )
        return None
    return gpu_sums


def squares_of_each(
    tensors: Sequence[torch.Tensor], minus: Sequence[torch.Tensor] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the sum of squares over the finite values of each tensor, and those left out.

    It is `over_finite` of each by itself, with few operations for many small tensors.

    Args:
        tensors: Tensors of any shapes and any float dtypes, on any devices.
        minus: What is subtracted from each first, of the same shapes and dtypes.

    Returns:
        The sums, and the numbers of values that are not finite, both of shape `(tensors,)`,
        float64, on a GPU if a tensor is.
    """
    kernels = _kernels(tensors)
    if kernels:
        return kernels.squares_of_each(tensors, minus)
    differences = tensors if minus is None else map(torch.sub, tensors, minus)
    rows = [_squares_and_left_out(x) for x in differences]
    device = next((row.device for row in rows if isinstance(row, torch.Tensor)), None)
    if device is not None:
        rows = [torch.as_tensor(row, dtype=torch.float64, device=device) for row in rows]
        table = torch.stack(rows)
    else:
        table = torch.tensor(rows, dtype=torch.float64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def _squares_and_left_out(x: torch.Tensor) -> torch.Tensor | tuple[float, ...]:
    """Returns the sum of squares and the number of values left out; numbers of Python on a CPU."""
    is_on_cpu = x.device.type == "cpu"
    if is_on_cpu:
        wide = x if x.dtype == torch.float64 else x.float()
        found = (wide * wide).sum().item()
        if math.isfinite(found) and _suffices(found, wide):
            return found, 0.0
    of_one = torch.cat(over_finite(lambda x: squares([x]), [x]))
    return tuple(of_one.tolist()) if is_on_cpu else of_one


def _suffices(squares: float, x: torch.Tensor) -> bool:
    """Returns whether a sum of squares in the tensor's dtype is accurate."""
    is_large = squares >= LEAST_MEAN_SQUARE * x.numel()
    return x.dtype == torch.float64 or is_large or not x.any()


def _scalar(value: int, like: torch.Tensor) -> torch.Tensor:
    return torch.full((), value, dtype=torch.float64, device=like.device)
