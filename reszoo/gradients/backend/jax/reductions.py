"""Sums over the values of tensors, computed on the device.

A sum is a float64 scalar: the square of any normal float32 number, and its fourth power, are within
float64's range, and sums of many of them are accurate. On a CPU those of blocks are added in
float32 if the result shows that this is accurate, and in float64 if not; those of weights in
float64. A GPU adds in float64, since it would have to wait for the result of a test, and takes all
sums of some tensors in one reduction.

JAX makes no float64 by itself; `in_double` is the context in which these functions are called.
"""

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reszoo.gradients.sums import Sums

Tensor = Any

# Squares whose mean is at least this are summed in float32 with a relative error of 1e-6: squares
# that are too small for float32 are negligible.
LEAST_MEAN_SQUARE = 1e-30


def in_double() -> Any:
    """Returns a context in which JAX keeps float64."""
    return jax.enable_x64(True)


def squares(tensors: Sequence[Tensor]) -> Tensor:
    """Returns the sum of the squares of each tensor's values.

    Args:
        tensors: Tensors of any shapes, all float32 or all float64.

    Returns:
        Shape `(tensors,)`, float64.
    """
    return jnp.stack([total(x * x) for x in tensors])


def in_one_pass(
    sums: Sums, tensors: Sequence[Tensor], axes: Sequence[int]
) -> tuple[list[Tensor], list[Tensor]]:
    """Returns sums over the finite values, and the numbers of others, by one reduction.

    Args:
        sums: The sums.
        tensors: Tensors of one shape and any float dtypes.
        axes: The axes that are summed over.

    Returns:
        The sums, and the number of each tensor, all float64 and of the shape that is left.
    """
    are_finite = [jnp.isfinite(x) for x in tensors]
    pairs = zip(are_finite, tensors, strict=True)
    values = [jnp.where(is_finite, x.astype(jnp.float64), 0.0) for is_finite, x in pairs]
    terms = [x * x for x in values[: sums.squares]]
    terms += [values[0] * values[1]] if sums.products else []
    terms += values[: sums.totals] + [(~x).astype(jnp.float64) for x in are_finite]
    nothing = [jnp.zeros((), jnp.float64)] * len(terms)

    def add(one: Sequence[Tensor], other: Sequence[Tensor]) -> list[Tensor]:
        return [x + y for x, y in zip(one, other, strict=True)]

    taken = jax.lax.reduce(terms, nothing, add, tuple(axes))
    return taken[: -len(tensors)], taken[-len(tensors) :]


def squares_of_each(tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Returns the sum of squares over the finite values of each tensor, and those left out.

    All are added in float64, without a condition: on a CPU, where a tensor is read by a condition,
    XLA keeps it and what is computed from it apart. A GPU takes those of one shape together, since
    a kernel of its own for each small tensor takes longer than reading it.

    Args:
        tensors: Tensors of any shapes and any float dtypes.

    Returns:
        The sums, and the numbers of values that are not finite, both of shape `(tensors,)`,
        float64.
    """
    if not tensors:
        return jnp.zeros(0, jnp.float64), jnp.zeros(0, jnp.float64)
    if not _is_on_gpu():
        # As in `total`, the last axis by itself.
        parts = [in_one_pass(Sums(squares=1), [x], range(x.ndim - 1)) for x in tensors]
        squares, numbers = zip(*parts, strict=True)
        return _stacked_sums(squares), _stacked_sums(numbers)
    return _squares_by_shape(tensors)


def _stacked_sums(parts: Iterable[Sequence[Tensor]]) -> Tensor:
    return jnp.stack([jnp.sum(x) for (x,) in parts])


def squares_or_nan_of_each(tensors: Sequence[Tensor]) -> Tensor:
    """Returns the sum of squares of each tensor; NaN if a value is not finite.

    Args:
        tensors: Tensors of any shapes, all float64.

    Returns:
        Shape `(tensors,)`, float64.
    """
    if not _is_on_gpu():
        sums = squares(tensors)
        return jnp.where(jnp.isfinite(sums), sums, jnp.nan)
    sums, left_out = _squares_by_shape(tensors)
    return jnp.where(left_out > 0, jnp.nan, sums)


def _squares_by_shape(tensors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    groups: dict[Any, list[int]] = {}
    for row, x in enumerate(tensors):
        groups.setdefault((x.shape, x.dtype), []).append(row)
    of_groups = []
    for rows in groups.values():
        stacked = jnp.stack([tensors[row] for row in rows])
        of_groups.append(in_one_pass(Sums(squares=1), [stacked], range(1, stacked.ndim)))
    order = np.argsort([row for rows in groups.values() for row in rows])
    squares, left_out = (jnp.concatenate([x for (x,) in of]) for of in zip(*of_groups, strict=True))
    return squares[order], left_out[order]


def products(x: Tensor, y: Tensor) -> Tensor:
    """Returns the sum of the products of two tensors' values, a float64 scalar.

    Args:
        x: Any shape, float32 or float64.
        y: The same shape and dtype.
    """
    # A matrix product would round its factors on GPUs and TPUs.
    return total(x * y)


def total(x: Tensor) -> Tensor:
    """Returns the sum of a tensor's values, a float64 scalar.

    Args:
        x: Any shape, float32 or float64; added in its dtype, but for the last axis.
    """
    # On a CPU XLA adds vectors along the last axis, but one value after the other within it.
    partial = jnp.sum(x, axis=tuple(range(x.ndim - 1))) if x.ndim > 1 else x
    return jnp.sum(partial.astype(jnp.float64))


def squares_of_sum(*tensors: Tensor) -> Tensor:
    """Returns the sum of the squares of the finite values of a tensor, or of the sum of two.

    Args:
        tensors: One tensor of any shape and any float dtype, or two of the same.

    Returns:
        A float64 scalar.
    """

    # They are added where they are squared: a sum that is read here would be kept in memory, and
    # the operations after it would be computed in another order than without a recorder.
    def added(*tensors: Tensor) -> Tensor:
        return functools.reduce(operator.add, tensors)

    if _is_on_gpu():
        return over_finite(Sums(squares=1), [added(*tensors)])[0][0]

    def single(*tensors: Tensor) -> Tensor:
        return squares([_wide(added(*tensors))])

    def double(*tensors: Tensor) -> Tensor:
        return squares([zero_if_nonfinite(added(*tensors))])

    def suffice(sums: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        return squares_suffice(sums, [added(*tensors)])

    return _in_single_or_double(single, double, tensors, suffice)[0]


def zeros(x: Tensor) -> Tensor:
    """Returns the number of a tensor's values that are exactly zero, a float64 scalar.

    Args:
        x: Any shape.
    """
    return total((x == 0).astype(jnp.float32))


def largest(x: Tensor) -> Tensor:
    """Returns the largest magnitude of a tensor's finite values, a float64 scalar.

    Args:
        x: Any shape, any float dtype.
    """
    return jnp.max(jnp.abs(zero_if_nonfinite(x, x.dtype))).astype(jnp.float64)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Returns scalars and vectors as one vector.

    Args:
        parts: Tensors of at most one dimension, of one dtype.
    """
    return jnp.concatenate([jnp.ravel(part) for part in parts])


def elements(x: Tensor) -> Tensor:
    """Returns the number of a tensor's values, a float64 scalar.

    Args:
        x: Any shape.
    """
    return jnp.asarray(x.size, jnp.float64)


def examples(x: Tensor) -> Tensor:
    """Returns the number of examples in a batch, a float64 scalar.

    Args:
        x: Shape `(batch, ...)`.
    """
    return jnp.asarray(x.shape[0], jnp.float64)


def counts_by_exponent(x: Tensor, first: int, bins: int) -> Tensor:
    """Returns numbers of a tensor's finite values by the power of two below their magnitude.

    Args:
        x: Any shape, any float dtype.
        first: The exponent of the lowest bin, which also counts smaller values.
        bins: Number of bins. The highest also counts larger values.

    Returns:
        Shape `(1 + bins,)`, float64: first the number of exact zeros.
    """
    x = jnp.ravel(x).astype(jnp.float64)
    # The exponent is read from its bits, since a logarithm would round.
    bits = jax.lax.bitcast_convert_type(jnp.abs(x), jnp.int64)
    exponent = (bits >> 52) - 1023
    position = jnp.where(x == 0, 0, 1 + jnp.clip(exponent - first, 0, bins - 1))
    counted = jnp.isfinite(x).astype(jnp.float64)
    return jax.ops.segment_sum(counted, position, bins + 1)


def fourth_powers(tensors: Sequence[Tensor], multiple: float) -> Tensor:
    """Returns the sum of the fourth powers of the multiples of each tensor's values.

    Args:
        tensors: As `squares` takes them.
        multiple: A number by which the values are multiplied first.

    Returns:
        Shape `(tensors,)`, of their dtype.
    """
    return squares([jnp.square(x * multiple) for x in tensors])


def multiplied(sums: Tensor, factor: float) -> Tensor:
    """Returns multiples of sums.

    Args:
        sums: Any shape.
        factor: A positive number.
    """
    return sums * factor


def zero_if_nonfinite(x: Tensor, dtype: Any = jnp.float64) -> Tensor:
    """Returns a tensor with zero in place of values that are not finite.

    Args:
        x: Any shape, any float dtype.
        dtype: Dtype of the result.

    Returns:
        The same shape.
    """
    return jnp.where(jnp.isfinite(x), x.astype(dtype), jnp.zeros((), dtype))


def squares_suffice(sums: Tensor, tensors: Sequence[Tensor]) -> Tensor:
    """Returns whether sums of squares in float32 are accurate.

    Args:
        sums: Shape `(sums,)`, first a sum of squares for each of the tensors.
        tensors: The tensors.

    Returns:
        A boolean scalar: false where the squares are too small for float32, which may make the sum
        zero; true where all values are zero.
    """
    sizes = jnp.asarray([max(x.size, 1) for x in tensors], jnp.float64)
    large = sums[: len(tensors)] >= LEAST_MEAN_SQUARE * sizes

    def large_or_zero() -> Tensor:
        all_zero = jnp.stack([jnp.max(jnp.abs(x), initial=0) == 0 for x in tensors])
        return jnp.all(large | all_zero)

    return jax.lax.cond(jnp.all(large), lambda: jnp.asarray(True), large_or_zero)


def over_finite(
    sums: Callable[..., Tensor],
    tensors: Sequence[Tensor],
    suffice: Callable[[Tensor, Sequence[Tensor]], Tensor | bool] = squares_suffice,
) -> tuple[Tensor, Tensor]:
    """Returns sums over the finite values, and the number of non-finite values of each tensor.

    On a CPU a second pass is made only where the sums of the first are not finite, which shows
    values that are not, or not accurate.

    Args:
        sums: Takes the tensors, in float32 or float64, and returns sums of shape `(sums,)`; they
            must not be finite if a value is not.
        tensors: Tensors of any shapes and any float dtypes.
        suffice: Takes the sums and the tensors, and returns whether the sums are accurate.

    Returns:
        The sums, and the numbers, of shape `(tensors,)`, both float64.
    """
    if isinstance(sums, Sums) and _is_on_gpu():
        taken, left_out = in_one_pass(sums, tensors, range(tensors[0].ndim))
        return jnp.stack(taken), jnp.stack(left_out)

    def single(*tensors: Tensor) -> Tensor:
        nothing = jnp.zeros(len(tensors), jnp.float64)
        return jnp.concatenate([sums(*map(_wide, tensors)).astype(jnp.float64), nothing])

    def double(*tensors: Tensor) -> Tensor:
        left_out = jnp.stack([total((~jnp.isfinite(x)).astype(jnp.float32)) for x in tensors])
        return jnp.concatenate([sums(*map(zero_if_nonfinite, tensors)), left_out])

    def sums_suffice(both: Tensor, tensors: Sequence[Tensor]) -> Tensor | bool:
        return suffice(both[: -len(tensors)], tensors)

    both = _in_single_or_double(single, double, tensors, sums_suffice)
    return both[: -len(tensors)], both[-len(tensors) :]


def _in_single_or_double(
    single: Callable[..., Tensor],
    double: Callable[..., Tensor],
    tensors: Sequence[Tensor],
    suffice: Callable[[Tensor, Sequence[Tensor]], Tensor | bool],
) -> Tensor:
    """Returns the sums of one of two functions of the tensors, both float64."""
    if jax.default_backend() != "cpu":
        return double(*tensors)
    cheap = single(*tensors)
    enough = jnp.all(jnp.isfinite(cheap)) & suffice(cheap, [_wide(x) for x in tensors])
    return jax.lax.cond(enough, lambda: cheap, lambda: double(*tensors))


def _is_on_gpu() -> bool:
    return jax.default_backend() == "gpu"


def _wide(x: Tensor) -> Tensor:
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)
