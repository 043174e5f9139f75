"""Sums over the values of tensors, computed on their device.

A sum is a number of Python where the tensor is on the host. Elsewhere it stays on the device until
`OnHost` transfers all of a step: nothing waits for a GPU before. `adds_there` alone tells the two
apart.

Sums are those of float64: the square of any normal float32 number, and its fourth power, are within
its range, and sums of many of them are accurate. A CPU, where that takes several times as long,
adds in float32 if the result shows that this is accurate, and in float64 if not. A GPU, which would
have to wait for the result of a test, always adds in float64. One kernel takes all sums of some
tensors there (`gpu_sums`), where Triton is installed; elsewhere few operations do. Apple's GPUs
have no float64: their tensors are copied to the host (not run).
"""

import functools
import importlib.util
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from reszoo.gradients.sums import Sums
from reszoo.keras_internals import NORM_OF_EACH

# Squares whose mean is at least this are summed in float32 with a relative error of 1e-6: squares
# that are too small for float32 are negligible.
LEAST_MEAN_SQUARE = 1e-30
# A sum of squares of two tensors below this shows that their sum is finite in float32.
GREATEST_SQUARES = 1e70
# Number of values whose squares a CPU adds in float32 at once, with a relative error of 1e-6.
ROW = 1024


@dataclass(frozen=True)
class Norm:
    """Square root of a sum of squares, which the host squares.

    Attributes:
        value: A scalar.
    """

    value: torch.Tensor


Scale = float | torch.Tensor
# A sum, or several of them in a vector.
Sum = float | torch.Tensor | Norm
Several = list[Sum] | torch.Tensor


def adds_there(x: torch.Tensor) -> bool:
    """Returns whether a tensor's sums stay on its device, for which the host does not wait.

    Args:
        x: Any tensor.
    """
    return x.device.type != "cpu"


def with_float64(x: torch.Tensor) -> torch.Tensor:
    """Returns a tensor whose device has float64: on the host if its own has not.

    Args:
        x: Any tensor.
    """
    return x.cpu() if x.device.type == "mps" else x


def squares(tensors: Sequence[torch.Tensor]) -> list[Sum]:
    """Returns the sum of the squares of each tensor's values.

    Args:
        tensors: Tensors of any shapes, all of one device and dtype; on a CPU float32 or float64.
    """
    if adds_there(tensors[0]):
        return norms(tensors)
    return squares_on_cpu(tensors).tolist()


def squares_on_cpu(tensors: Sequence[torch.Tensor]) -> np.ndarray:
    """Returns the sum of the squares of each tensor's values.

    Norms of rows take one pass, which writes nothing; those of longer ones would not be accurate.

    Args:
        tensors: Tensors of any shapes, all float32 or all float64, on a CPU.

    Returns:
        Shape `(tensors,)`, float64.
    """
    norms = [torch.linalg.vector_norm(part, dim=1) for x in tensors for part in _rows(x)]
    with np.errstate(over="ignore"):
        squares = np.square(torch.cat(norms).numpy(), dtype=np.float64)
    if len(squares) == len(tensors):
        return squares
    ends = np.cumsum([_number_of_rows(x.numel()) for x in tensors])
    return np.add.reduceat(squares, [0, *ends[:-1]])


def _rows(x: torch.Tensor) -> list[torch.Tensor]:
    """Returns all values as rows, the last of which may be shorter."""
    row = _row(x.numel())
    values = x if x.is_contiguous() else _in_memory_order(x)
    if row:
        return [values.view(-1, row)]
    whole = x.numel() // ROW * ROW
    values = values.view(-1)
    return [values[:whole].view(-1, ROW), values[whole:][None]] if whole else [values[None]]


@functools.cache
def _row(size: int) -> int:
    """Returns a length of rows without a rest, if there is a long one; 0 if not."""
    return next((row for row in range(min(size, ROW), ROW // 4, -1) if size % row == 0), 0)


def _number_of_rows(size: int) -> int:
    return size // _row(size) if _row(size) else max(-(-size // ROW), 1)


def _in_memory_order(x: torch.Tensor) -> torch.Tensor:
    """Returns all values as a vector, in any order, if possible without copying them."""
    if not x.is_contiguous():
        x = x.permute(sorted(range(x.ndim), key=x.stride, reverse=True))
    return x.reshape(-1)


def norms(tensors: Sequence[torch.Tensor]) -> list[Sum]:
    """Returns the sum of the squares of each tensor's values, in a few launches for all of them.

    Args:
        tensors: Tensors of any shapes and any float dtypes.
    """
    return [Norm(value) for value in lengths(tensors, 2)]


def lengths(tensors: Sequence[torch.Tensor], order: float) -> list[torch.Tensor]:
    """Returns the norm of each tensor, a float64 scalar, in a few launches for all of them.

    Args:
        tensors: Tensors of any shapes and any float dtypes.
        order: Order of the norm.
    """
    return vars(torch)[NORM_OF_EACH](list(tensors), order, dtype=torch.float64)


def products(x: torch.Tensor, y: torch.Tensor) -> Sum:
    """Returns the sum of the products of two tensors' values.

    Args:
        x: Any shape, float32 or float64; any float dtype on a GPU.
        y: The same shape and dtype.
    """
    if not adds_there(x):
        return (x * y).sum().item()
    # One launch makes float64 products; a matrix product would round its factors.
    return torch.addcmul(_zero(x.ndim, x.device), x, y).sum()


def total(x: torch.Tensor) -> Sum:
    """Returns the sum of a tensor's values.

    Args:
        x: Any shape.
    """
    return x.sum(dtype=torch.float64) if adds_there(x) else x.sum().item()


def squares_of_sum(x: torch.Tensor) -> Several:
    """Returns the sum of the squares of a tensor's finite values.

    Args:
        x: Any shape, any float dtype.
    """
    return over_finite(Sums(squares=1), [x])[0][:1]


def squares_of_sum_by(of_both: Sequence[Sum], dtype: torch.dtype) -> float | None:
    """Returns the sum of the squares of the sum of two tensors, by the sums of both.

    Args:
        of_both: The sums of `measures.FORK`: both sums of squares, that of products, and last the
            numbers of values that are not finite.
        dtype: The dtype of the tensors.

    Returns:
        `None` where the sum itself has to be computed: on a GPU, and where the difference of these
        sums, or the sum in this dtype, is not accurate or not finite.
    """
    on_cpu = [x for x in of_both if isinstance(x, float)]
    if len(on_cpu) < len(of_both) or dtype not in (torch.float32, torch.float64):
        return None
    of_x, of_y, products, *_, x_left_out, y_left_out = on_cpu
    both, found = of_x + of_y, of_x + of_y + 2 * products
    is_accurate = both / 4 <= found < GREATEST_SQUARES
    return found if is_accurate and not x_left_out and not y_left_out else None


def zeros(x: torch.Tensor) -> Sum:
    """Returns the number of a tensor's values that are exactly zero.

    Args:
        x: Any shape.
    """
    return _counted(x == 0)


def largest(x: torch.Tensor) -> Sum:
    """Returns the largest magnitude of a tensor's finite values.

    Args:
        x: Any shape, any float dtype.
    """
    if x.numel() == 0:
        return 0.0
    magnitude = torch.linalg.vector_norm(zero_if_nonfinite(x, x.dtype), math.inf)
    return magnitude if adds_there(x) else magnitude.item()


def joined(parts: Iterable[Sum | Several]) -> list[Sum]:
    """Returns sums and lists of them as one list.

    Args:
        parts: Sums, and lists of sums.
    """
    found: list[Sum] = []
    for part in parts:
        if isinstance(part, list):
            found.extend(part)
        else:
            found.append(part)
    return found


def multiplied(sums: Sequence[Sum], factor: float) -> list[Sum]:
    """Returns multiples of sums.

    Args:
        sums: The sums.
        factor: A positive number.
    """
    return [Norm(x.value * math.sqrt(factor)) if isinstance(x, Norm) else x * factor for x in sums]


def elements(x: torch.Tensor) -> float:
    """Returns the number of a tensor's values.

    Args:
        x: Any shape.
    """
    return float(x.numel())


def examples(x: torch.Tensor) -> float:
    """Returns the number of examples in a batch.

    Args:
        x: Shape `(batch, ...)`.
    """
    return float(x.shape[0])


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


def fourth_powers(tensors: Sequence[torch.Tensor], multiple: float) -> list[Sum]:
    """Returns the sum of the fourth powers of the multiples of each tensor's values.

    Args:
        tensors: As `squares` takes them.
        multiple: A number by which the values are multiplied first.
    """
    wide = [x.double() if adds_there(x) else x for x in tensors]
    return squares([torch.square(x * multiple) for x in wide])


def zero_if_nonfinite(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Returns a tensor with zero in place of values that are not finite.

    Args:
        x: Any shape, any float dtype.
        dtype: Dtype of the result.

    Returns:
        The same shape.
    """
    return torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0).to(dtype)


def suffices(squares: float, x: torch.Tensor) -> bool:
    """Returns whether a sum of squares in the tensor's dtype is accurate.

    Args:
        squares: The sum, finite.
        x: The tensor, float32 or float64, on a CPU.
    """
    is_large = squares >= LEAST_MEAN_SQUARE * x.numel()
    return x.dtype == torch.float64 or is_large or not x.any()


def squares_suffice(sums: Iterable[Any], tensors: Sequence[torch.Tensor]) -> bool:
    """Returns whether sums of squares in float32 are accurate.

    Args:
        sums: Sums on a CPU, first a sum of squares for each of the tensors.
        tensors: The tensors, of any shapes.

    Returns:
        False where the squares are too small for float32, which may make the sum zero; true where
        all values are zero.
    """
    return all(map(suffices, sums, tensors))


def over_finite(
    sums: Callable[..., list[Sum]],
    tensors: Sequence[torch.Tensor],
    suffice: Callable[[Any, Sequence[torch.Tensor]], Any] = squares_suffice,
) -> tuple[Several, Several]:
    """Returns sums over the finite values, and the number of non-finite values of each tensor.

    On a CPU a second pass is made only where the sums of the first are not finite, which shows
    values that are not, or not accurate.

    Args:
        sums: Takes the tensors, on a CPU in float32 or float64, and returns sums; they must not be
            finite if a value is not. Only `Sums` are taken by one kernel.
        tensors: Tensors of any shapes and any float dtypes, on one device.
        suffice: Takes the sums, a vector, and the tensors, and returns whether the sums are
            accurate. Only a CPU asks.

    Returns:
        The sums, and the numbers.
    """
    one_kernel = kernels(tensors) if isinstance(sums, Sums) else None
    if one_kernel:
        return one_kernel.over_finite(sums, tensors)
    if adds_there(tensors[0]):
        finite = [zero_if_nonfinite(x, x.dtype) for x in tensors]
        return sums(*finite), [_counted(x != y) for x, y in zip(tensors, finite, strict=True)]
    wide = torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32
    cast = [x.to(wide) for x in tensors]
    cheap: Any = sums(*cast)
    nothing: list[Sum] = [0.0] * len(tensors)
    # A list takes no time to make, but has no arithmetic.
    given = cheap if suffice is squares_suffice else _on_cpu(cheap)
    if all(map(math.isfinite, cheap)) and suffice(given, cast):
        return cheap, nothing
    left_out = [_counted(~torch.isfinite(x)) for x in tensors]
    return sums(*(zero_if_nonfinite(x, torch.float64) for x in tensors)), left_out


def _on_cpu(values: Sequence[float]) -> torch.Tensor:
    # Whatever the device that PyTorch or Keras creates tensors on.
    return torch.tensor(values, dtype=torch.float64, device="cpu")


def kernels(tensors: Sequence[torch.Tensor]) -> Any:
    """Returns the module of sums by one kernel; `None` where tensors are not on one GPU.

    Args:
        tensors: Tensors on any devices.
    """
    devices = {x.device for x in tensors}
    return _kernels_on(devices.pop()) if len(devices) == 1 else None


@functools.cache
def _kernels_on(device: torch.device) -> Any:
    """Returns the module of sums by one kernel, if Triton can build it for a device."""
    if device.type != "cuda" or importlib.util.find_spec("triton") is None:
        return None
    if "tensorflow" in sys.modules and "triton" not in sys.modules:
        warnings.warn(
            "Recorded steps take longer on the GPU, since their sums are computed operation by "
            "operation: Triton, whose kernel would take them, cannot be loaded into a process that "
            "has loaded TensorFlow. The values are the same.",
            stacklevel=2,
        )
        return None
    try:
        from reszoo.gradients.backend.torch import gpu_sums

        one = torch.ones(1, device=device)
        gpu_sums.over_finite(Sums(squares=1), [one])
        gpu_sums.squares_of_each([one], [one])
    except Exception as error:  # of a compiler or a driver, of any kind
        warnings.warn(
            f"Triton cannot build a kernel for {device}: {error} Recorded steps take longer, since "
            "their sums are computed operation by operation; the values are the same.",
            stacklevel=2,
        )
        return None
    return gpu_sums


class OnHost:
    """Values of sums, all of a device transferred at once.

    Args:
        sums: The sums.

    Attributes:
        device: The device of the sums, or of some of them; the host's if all are there.
    """

    def __init__(self, sums: Iterable[Sum]):
        self._sums = list(sums)  # alive, since values are found by their identity
        tensors = [x for x in map(_value, self._sums) if isinstance(x, torch.Tensor)]
        self.device = next((x.device for x in tensors if adds_there(x)), torch.device("cpu"))
        self._values: dict[int, np.ndarray] = {}
        for device in {x.device for x in tensors}:
            self._transfer([x for x in tensors if x.device == device])

    def _transfer(self, tensors: Sequence[torch.Tensor]) -> None:
        of_dtypes = [[x for x in tensors if x.dtype == d] for d in {x.dtype for x in tensors}]
        vectors = [with_float64(_vector(group)).double() for group in of_dtypes]
        table = torch.cat(vectors).cpu().numpy()
        ordered = [x for group in of_dtypes for x in group]
        ends = np.cumsum([x.numel() for x in ordered])[:-1]
        self._values |= dict(zip(map(id, ordered), np.split(table, ends), strict=True))

    def __call__(self, sums: Sequence[Sum]) -> np.ndarray:
        """Returns the values of some of the sums.

        Args:
            sums: The sums.

        Returns:
            A vector of float64.
        """
        if not self._values or not sums:
            return np.array(sums, float)
        return np.concatenate([self._value(x) for x in sums])

    def _value(self, x: Sum) -> np.ndarray:
        if isinstance(x, Norm):
            return self._values[id(x.value)] ** 2
        return self._values[id(x)] if isinstance(x, torch.Tensor) else np.array([x])


def _vector(tensors: Sequence[torch.Tensor]) -> torch.Tensor:
    if all(x.ndim == 0 for x in tensors):
        return torch.stack(list(tensors))
    return torch.cat([x if x.ndim else x[None] for x in tensors])


def _value(x: Sum) -> float | torch.Tensor:
    return x.value if isinstance(x, Norm) else x


@functools.cache
def _zero(dimensions: int, device: torch.device) -> torch.Tensor:
    return torch.zeros((1,) * dimensions, dtype=torch.float64, device=device)


def _counted(is_counted: torch.Tensor) -> Sum:
    number = is_counted.sum()
    return number if adds_there(is_counted) else float(number.item())
