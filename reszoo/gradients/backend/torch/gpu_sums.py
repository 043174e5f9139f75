"""Sums of tensors on a GPU, by one kernel that reads each value once.

Operation by operation, sums in float64 write several tensors of float64 to the memory of the GPU
and read them again. This kernel keeps them in registers. It is written in Triton, which comes with
PyTorch's builds for GPUs.
"""

# Triton's functions have types of their own, and options that their signatures do not name.
# pyright: reportMissingParameterType=false, reportCallIssue=false, reportIndexIssue=false

import functools
from collections.abc import Sequence

import torch
import triton
import triton.language as tl

from reszoo.gradients.sums import Sums

# Chosen on an H200, of six combinations that were tried.
BLOCK = 1024  # values that a program reads at once
WARPS = 8
PROGRAMS = 8  # of each multiprocessor
MOST_TENSORS = 3


def over_finite(sums: Sums, tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns sums over the finite values, and the number of non-finite values of each tensor.

    Args:
        sums: The sums.
        tensors: At most three tensors of one shape and any float dtypes, on one GPU.

    Returns:
        The sums, and the numbers, of shape `(tensors,)`, both float64.
    """
    tensors = _in_one_order(tensors)
    first, number = tensors[0], len(tensors)
    columns = sums.squares + sums.products + sums.totals
    blocks = max(-(-first.numel() // BLOCK), 1)
    programs = min(blocks, PROGRAMS * _multiprocessors(first.device))
    parts = first.new_empty((programs, columns + number), dtype=torch.float64)
    with torch.cuda.device_of(first):
        _kernel[(programs,)](
            *(tensors + [first] * (MOST_TENSORS - number)),
            parts,
            first.numel(),
            number,
            sums.squares,
            sums.products,
            sums.totals,
            BLOCK,
            num_warps=WARPS,
        )
    found = parts.sum(dim=0)
    return found[:columns], found[columns:]


def squares_of_each(
    tensors: Sequence[torch.Tensor], minus: Sequence[torch.Tensor] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the sum of squares over the finite values of each tensor, and those left out.

    Args:
        tensors: Tensors of any shapes and any float dtypes, on one GPU.
        minus: What is subtracted from each first, of the same shapes and dtypes.

    Returns:
        The sums, and the numbers of values that are not finite, both of shape `(tensors,)`,
        float64.
    """
    groups = [_in_one_order(pair) for pair in zip(tensors, minus or tensors, strict=True)]
    dtypes = {x.dtype for x in tensors}
    if len(dtypes) == 1:
        found = _squares_of_pairs(groups, minus is not None)
        return found[:, 0], found[:, 1]
    found = tensors[0].new_zeros((len(groups), 2), dtype=torch.float64)
    for dtype in dtypes:
        rows = [row for row, (x, _) in enumerate(groups) if x.dtype == dtype]
        found[rows] = _squares_of_pairs([groups[row] for row in rows], minus is not None)
    return found[:, 0], found[:, 1]


def _squares_of_pairs(pairs: Sequence[Sequence[torch.Tensor]], subtracts: bool) -> torch.Tensor:
    """Returns the sum of squares, and the number of values left out, of each of some tensors.

    Args:
        pairs: Each tensor, and what is subtracted from it.
        subtracts: Whether it is.

    Returns:
        Shape `(tensors, 2)`, float64.
    """
    first = pairs[0][0]
    table = [[x.data_ptr(), y.data_ptr(), x.numel()] for x, y in pairs]
    is_on_gpu = first.device.type == "cuda"
    of_each = torch.tensor(table, dtype=torch.int64, device="cpu", pin_memory=is_on_gpu)
    of_each = of_each.to(first.device, non_blocking=True)
    programs = _multiprocessors(first.device)
    parts = first.new_empty((len(pairs), programs, 2), dtype=torch.float64)
    with torch.cuda.device_of(first):
        _kernel_of_each[(len(pairs), programs)](
            of_each, parts, first.new_empty(0), subtracts, BLOCK, num_warps=WARPS
        )
    return parts.sum(dim=1)


@functools.cache
def _multiprocessors(device: torch.device) -> int:
    if device.type != "cuda":  # Triton's interpreter
        return 1
    return torch.cuda.get_device_properties(device).multi_processor_count


def _in_one_order(tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Returns tensors whose values are in the same order in memory, without gaps."""
    if all(x.is_contiguous() for x in tensors):
        return list(tensors)
    orders = {x.stride() for x in tensors}
    if len(orders) == 1 and _has_no_gaps(tensors[0]):
        return list(tensors)
    return [x.contiguous() for x in tensors]


def _has_no_gaps(x: torch.Tensor) -> bool:
    axes = sorted(range(x.ndim), key=lambda axis: x.stride(axis), reverse=True)
    return x.permute(axes).is_contiguous()


@triton.jit
def _read(pointer, at, inside):
    """Returns finite values of a tensor, and the others as ones."""
    return _finite(_wide(tl.load(pointer + at, inside, 0.0)))


@triton.jit
def _wide(values):
    """Returns values in float32, or in float64 if they are."""
    if values.dtype != tl.float64:
        values = values.to(tl.float32)
    return values


@triton.jit
def _finite(values):
    """Returns values in float64, zero in place of those that are not finite, and these as ones."""
    is_finite = tl.abs(values) < float("inf")
    return tl.where(is_finite, values, 0.0).to(tl.float64), tl.where(is_finite, 0, 1)


@triton.jit
def _kernel(  # noqa: PLR0913
    x_pointer,
    y_pointer,
    z_pointer,
    parts_pointer,
    size,
    tensors: tl.constexpr,
    squares: tl.constexpr,
    with_products: tl.constexpr,
    totals: tl.constexpr,
    block: tl.constexpr,
):
    """Writes a row of sums for each program, which reads every so many blocks.

    A kernel takes pointers and numbers one by one.
    """
    program = tl.program_id(0).to(tl.int64)
    zeros, no_others = tl.zeros((block,), tl.float64), tl.zeros((block,), tl.int32)
    x_squares, y_squares, z_squares, products = zeros, zeros, zeros, zeros
    x_total, y_total, z_total = zeros, zeros, zeros
    x_others, y_others, z_others = no_others, no_others, no_others
    for start in range(program * block, size, tl.num_programs(0) * block):
        at = start + tl.arange(0, block)
        x, others = _read(x_pointer, at, at < size)
        x_squares += x * x
        x_total += x
        x_others += others
        if tensors >= 2:
            y, others = _read(y_pointer, at, at < size)
            y_squares += y * y
            y_total += y
            products += x * y
            y_others += others
        if tensors >= 3:
            z, others = _read(z_pointer, at, at < size)
            z_squares += z * z
            z_total += z
            z_others += others
    # Sums that are not stored are not computed.
    row = parts_pointer + program * (squares + with_products + totals + tensors)
    _store(row, x_squares, y_squares, z_squares, squares)
    _store(row + squares, products, products, products, with_products)
    _store(row + squares + with_products, x_total, y_total, z_total, totals)
    _store(row + squares + with_products + totals, x_others, y_others, z_others, tensors)


@triton.jit
def _kernel_of_each(table, parts, like, subtracts: tl.constexpr, block: tl.constexpr):
    """Writes the sums of one tensor's blocks, of which a program reads every so many."""
    tensor, program = tl.program_id(0), tl.program_id(1).to(tl.int64)
    x_pointer = tl.load(table + 3 * tensor).to(like.dtype)
    y_pointer = tl.load(table + 3 * tensor + 1).to(like.dtype)
    size = tl.load(table + 3 * tensor + 2)
    squares, left_out = tl.zeros((block,), tl.float64), tl.zeros((block,), tl.int32)
    for start in range(program * block, size, tl.num_programs(1) * block):
        at = start + tl.arange(0, block)
        values = _wide(tl.load(x_pointer + at, at < size, 0.0))
        if subtracts:
            values -= _wide(tl.load(y_pointer + at, at < size, 0.0))
        values, others = _finite(values)
        squares += values * values
        left_out += others
    row = parts + 2 * (tensor * tl.num_programs(1) + program)
    tl.store(row, tl.sum(squares))
    tl.store(row + 1, tl.sum(left_out))


@triton.jit
def _store(row, of_x, of_y, of_z, number: tl.constexpr):
    """Stores the first sums of three."""
    if number >= 1:
        tl.store(row, tl.sum(of_x))
    if number >= 2:
        tl.store(row + 1, tl.sum(of_y))
    if number >= 3:
        tl.store(row + 2, tl.sum(of_z))
