"""Sums of the tensors at a place of a block, computed on the device in one pass over each tensor.

Next to each function are the names of its sums, in their order, each with its power of the
gradient's unit: a loss scale is removed by dividing by it to that power. All sums are float64 for
any dtype of the tensors: see `reductions`.
"""

import itertools
from collections.abc import Sequence

import tensorflow as tf

from reszoo.gradients.reductions import (
    over_finite,
    products,
    squares,
    squares_of_sum,
    squares_suffice,
    sum_of,
    traced_once,
    zero_if_nonfinite,
)
from reszoo.keras_internals import is_traced_for_xla

# Fourth powers of small gradients underflow in float32, so gradients are multiplied by this first.
FOURTH_POWER_MULTIPLE = 2.0**16
# Where the variance is a smaller fraction of the mean square, the difference of mean square and
# squared mean is not accurate in float32.
LEAST_VARIANCE = 1 / 32


FORK_SUMS = {
    "skip_gradient_squares": 2,
    "branch_gradient_squares": 2,
    "skip_branch_products": 2,
    "input_elements": 0,
    "examples": 0,
    "skip_gradient_nonfinite": 0,
    "branch_gradient_nonfinite": 0,
}


@traced_once
def fork_sums(skip: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `FORK_SUMS`.

    Args:
        skip: The gradient that came back through the skip, of shape `(batch, ...)`.
        branch: The gradient that came back through the branch, of the same shape.

    Returns:
        Shape `(7,)`, float64.
    """

    def of_both(skip: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
        return tf.concat([squares([skip, branch]), [products(skip, branch)]], axis=0)

    sums, nonfinite = over_finite(of_both, [skip, branch])
    sizes = tf.cast([tf.size(skip), tf.shape(skip)[0]], tf.float64)
    return tf.concat([sums, sizes, nonfinite], axis=0)


INPUT_SUMS = {"input_gradient_squares": 2}


@traced_once
def input_sums(*gradients: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `INPUT_SUMS`.

    Args:
        gradients: The gradient that leaves the block, of any shape; under XLA those of both paths,
            whose sum it is.

    Returns:
        Shape `(1,)`, float64.
    """
    if is_traced_for_xla():
        return squares_of_sum(*gradients)[None]
    return over_finite(_squares, gradients)[0]


MERGE_SUMS = {
    "output_gradient_squares": 2,
    "output_elements": 0,
    "output_gradient_nonfinite": 0,
}


@traced_once
def merge_sums(gradient: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `MERGE_SUMS`.

    Args:
        gradient: The gradient that reached the sum of the two paths, of any shape.

    Returns:
        Shape `(3,)`, float64.
    """
    sums, nonfinite = over_finite(_squares, [gradient])
    return tf.concat([sums, [_elements(gradient)], nonfinite], axis=0)


DISTRIBUTION_SUMS = {
    "skip_gradient_zeros": 0,
    "branch_gradient_zeros": 0,
    "skip_gradient_fourth_powers": 4,
    "branch_gradient_fourth_powers": 4,
}


@traced_once
def distribution_sums(skip: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `DISTRIBUTION_SUMS`.

    Args:
        skip: The gradient that came back through the skip, of any shape.
        branch: The gradient that came back through the branch, of the same shape.

    Returns:
        Shape `(4,)`, float64.
    """

    def fourth_powers(*paths: tf.Tensor) -> tf.Tensor:
        return squares([tf.square(path * FOURTH_POWER_MULTIPLE) for path in paths])

    of_multiples, _ = over_finite(fourth_powers, [skip, branch])
    zeros = [_zeros(path) for path in (skip, branch)]
    return tf.concat([zeros, of_multiples / FOURTH_POWER_MULTIPLE**4], axis=0)


DISTRIBUTION_MAXIMA = {
    "skip_gradient_largest": 1,
    "branch_gradient_largest": 1,
}


@traced_once
def distribution_maxima(skip: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
    """Returns the maxima of `DISTRIBUTION_MAXIMA`.

    Args:
        skip: The gradient that came back through the skip, of any shape.
        branch: The gradient that came back through the branch, of the same shape.

    Returns:
        Shape `(2,)`, float64.
    """
    largest = [
        tf.reduce_max(tf.abs(zero_if_nonfinite(path, path.dtype))) for path in (skip, branch)
    ]
    return tf.cast(tf.stack(largest), tf.float64)


# The bins: exact zeros, then one from every power of two. The first and the last of these also
# count the values beyond them.
HISTOGRAM_EXPONENTS = tuple(range(-48, 16))
HISTOGRAM_COUNTS = {
    f"{path} {edge!r}": 0
    for path in ("skip", "branch")
    for edge in (0.0, *(2.0**exponent for exponent in HISTOGRAM_EXPONENTS))
}


@traced_once
def histogram_counts(skip: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
    """Returns the number of values of each path in each bin of `HISTOGRAM_COUNTS`.

    Args:
        skip: The gradient that came back through the skip, of any shape.
        branch: The gradient that came back through the branch, of the same shape.

    Returns:
        Shape `(2 * bins,)`, float32. Values that are not finite are in no bin.
    """
    return tf.concat([_counts(path) for path in (skip, branch)], axis=0)


def _counts(x: tf.Tensor) -> tf.Tensor:
    x = tf.reshape(tf.cast(x, tf.float64), [-1])
    first, bins = HISTOGRAM_EXPONENTS[0], len(HISTOGRAM_EXPONENTS)
    # The exponent is read from its bits, since a logarithm would round.
    exponent = tf.bitwise.right_shift(tf.bitcast(tf.abs(x), tf.int64), 52) - 1023
    position = tf.where(
        x == 0, tf.zeros((), tf.int64), 1 + tf.clip_by_value(exponent - first, 0, bins - 1)
    )
    # Counts are exact up to 2**53; float32 would stop at 2**24.
    counted = tf.cast(tf.math.is_finite(x), tf.float64)
    return tf.math.unsorted_segment_sum(counted, position, bins + 1)


FORWARD_SUMS = {
    "skip_output_sum": 0,
    "branch_output_sum": 0,
    "skip_output_squares": 0,
    "branch_output_squares": 0,
    "sum_squares": 0,
    "forward_elements": 0,
}


@traced_once
def forward_sums(skip: tf.Tensor, branch: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `FORWARD_SUMS`.

    Args:
        skip: The shortcut's output, of any shape.
        branch: The branch's output, of the same shape.
        y: Their sum.

    Returns:
        Shape `(6,)`, float64.
    """

    def of_all(skip: tf.Tensor, branch: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        return tf.concat([squares([skip, branch, y]), [sum_of(skip), sum_of(branch)]], axis=0)

    def suffice(sums: tf.Tensor, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
        of_squares, totals = sums[:2] * tf.cast(tf.size(y), sums.dtype), sums[3:]
        spread = of_squares - totals**2 >= LEAST_VARIANCE * of_squares
        return squares_suffice(sums, tensors) & tf.reduce_all(spread)

    sums, _ = over_finite(of_all, [skip, branch, y], suffice)
    return tf.concat([sums[3:], sums[:3], [_elements(y)]], axis=0)


ACTIVATION_SUMS = {
    "activation_sum": 0,
    "activation_zeros": 0,
    "activation_elements": 0,
}


@traced_once
def activation_sums(y: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `ACTIVATION_SUMS`.

    Args:
        y: The block's output, of any shape.

    Returns:
        Shape `(3,)`, float64.
    """
    total, _ = over_finite(lambda y: sum_of(y)[None], [y], lambda sums, tensors: tf.constant(True))
    return tf.stack([total[0], _zeros(y), _elements(y)])


def gradient_sums(gradients: Sequence[tf.Tensor], stack_sizes: Sequence[int]) -> tf.Tensor:
    """Returns the sums of squares and the counts of non-finite values of weights' gradients.

    Args:
        gradients: One per weight, of any shapes.
        stack_sizes: The number of weights in each stack, in their order: 1 for a weight that is
            summed by itself, more for vectors of one shape that are summed as a matrix. A model has
            so many vectors that separate sums would make up half of the graph.

    Returns:
        Shape `(weights, 2)`, float64.
    """
    alone, stacks = _stacked(gradients, stack_sizes)
    parts = [_gradient_sums(x)[None] for x in alone]
    for stack in stacks:
        left_out = tf.cast(~tf.math.is_finite(stack), tf.float64)
        sums = [
            _squares_of_rows(zero_if_nonfinite(stack, tf.float64)),
            tf.reduce_sum(left_out, axis=1),
        ]
        parts.append(tf.stack(sums, axis=1))
    return tf.concat(parts, axis=0)


@traced_once
def _gradient_sums(gradient: tf.Tensor) -> tf.Tensor:
    return tf.concat(over_finite(_squares, [gradient]), axis=0)


def update_sums(
    before: Sequence[tf.Tensor], after: Sequence[tf.Tensor], stack_sizes: Sequence[int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sums of squares of weights before an update, and those of the update.

    Args:
        before: The weights before the update.
        after: The weights after the update, in the same order.
        stack_sizes: As in `gradient_sums`.

    Returns:
        Two tensors of shape `(weights,)`, float64.
    """
    (alone, stacks), (alone_after, stacks_after) = (
        _stacked(weights, stack_sizes) for weights in (before, after)
    )
    parts = [_update_sums(*pair)[None] for pair in zip(alone, alone_after, strict=True)]
    for old, new in zip(stacks, stacks_after, strict=True):
        sums = [_squares_of_rows(tf.cast(x, tf.float64)) for x in (old, new - old)]
        parts.append(tf.stack(sums, axis=1))
    return tuple(tf.unstack(tf.concat(parts, axis=0), axis=1))


@traced_once
def _update_sums(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    sums, left_out = over_finite(_squares, [before, after - before])
    # Non-finite values of weights are not counted, so they are not left out either: the sum is NaN.
    return tf.where(left_out > 0, tf.constant(float("nan"), tf.float64), sums)


def _stacked(
    tensors: Sequence[tf.Tensor], stack_sizes: Sequence[int]
) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """Returns the tensors that are summed by themselves, and a matrix for each stack of others."""
    ends = itertools.accumulate(stack_sizes)
    tensors = [tf.convert_to_tensor(x) for x in tensors]
    parts = [tensors[end - size : end] for size, end in zip(stack_sizes, ends, strict=True)]
    alone = [part[0] for part in parts if len(part) == 1]
    alone = [tf.reshape(x, [1]) if x.shape.rank == 0 else x for x in alone]
    return alone, [tf.stack(part) for part in parts if len(part) > 1]


def _elements(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.size(x), tf.float64)


def _zeros(x: tf.Tensor) -> tf.Tensor:
    return tf.cast(sum_of(tf.cast(x == 0, tf.float32)), tf.float64)


def _squares_of_rows(matrix: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(matrix * matrix, axis=1)


def _squares(*tensors: tf.Tensor) -> tf.Tensor:
    return squares(tensors)
