"""The sums of `statistics`, taken of tensors on the device, each in one pass over its tensors."""

import itertools
from collections.abc import Sequence

import tensorflow as tf

from reszoo.gradients.reductions import kept, over_finite, products, squares, sum_of, traced_once
from reszoo.gradients.statistics import FOURTH_POWER_MULTIPLE, HISTOGRAM_EXPONENTS


@traced_once
def fork_sums(skip: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `FORK_SUMS`.

    Args:
        skip: The gradient that came back through the skip, of shape `(batch, ...)`.
        branch: The gradient that came back through the branch, of the same shape.

    Returns:
        Shape `(7,)`, float32.
    """

    def sums(skip, branch):
        return tf.concat([squares([skip, branch]), [products(skip, branch)]], axis=0)

    sums, nonfinite = over_finite(sums, [skip, branch])
    sizes = tf.cast([tf.size(skip), tf.shape(skip)[0]], tf.float32)
    return tf.concat([sums, sizes, nonfinite], axis=0)


@traced_once
def input_sums(total: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `INPUT_SUMS`.

    Args:
        total: The gradient that leaves the block, the sum of both paths', of any shape.

    Returns:
        Shape `(1,)`, float32.
    """
    return over_finite(_squares, [total])[0]


@traced_once
def merge_sums(gradient: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `MERGE_SUMS`.

    Args:
        gradient: The gradient that reached the sum of the two paths, of any shape.

    Returns:
        Shape `(3,)`, float32.
    """
    sums, nonfinite = over_finite(_squares, [gradient])
    return tf.concat([sums, [tf.cast(tf.size(gradient), tf.float32)], nonfinite], axis=0)


@traced_once
def distribution_sums(skip: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `DISTRIBUTION_SUMS`.

    Args:
        skip: The gradient that came back through the skip, of any shape.
        branch: The gradient that came back through the branch, of the same shape.

    Returns:
        Shape `(4,)`, float32.
    """
    paths = [kept(path) for path in (skip, branch)]
    zeros = [sum_of(tf.cast(path == 0, tf.float32)) for path in (skip, branch)]
    fourth_powers = squares([tf.square(path * FOURTH_POWER_MULTIPLE) for path in paths])
    return tf.concat([zeros, fourth_powers], axis=0)


@traced_once
def distribution_maxima(skip: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
    """Returns the maxima of `DISTRIBUTION_MAXIMA`.

    Args:
        skip: The gradient that came back through the skip, of any shape.
        branch: The gradient that came back through the branch, of the same shape.

    Returns:
        Shape `(2,)`, float32.
    """
    return tf.stack([tf.reduce_max(tf.abs(kept(path))) for path in (skip, branch)])


@traced_once
def histogram_counts(skip: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
    """Returns how many values of each path lie in each bin of `HISTOGRAM_COUNTS`.

    Args:
        skip: The gradient that came back through the skip, of any shape.
        branch: The gradient that came back through the branch, of the same shape.

    Returns:
        Shape `(2 * bins,)`, float32. Values that are not finite are in no bin.
    """
    return tf.concat([_counts(path) for path in (skip, branch)], axis=0)


def _counts(x):
    x = tf.reshape(tf.cast(x, tf.float32), [-1])
    first, bins = HISTOGRAM_EXPONENTS[0], len(HISTOGRAM_EXPONENTS)
    # The exponent by its bits, exactly, where a logarithm would round.
    exponent = tf.bitwise.right_shift(tf.bitcast(tf.abs(x), tf.int32), 23) - 127
    position = tf.where(x == 0, 0, 1 + tf.clip_by_value(exponent - first, 0, bins - 1))
    counted = tf.cast(tf.math.is_finite(x), tf.float32)
    return tf.math.unsorted_segment_sum(counted, position, bins + 1)


@traced_once
def forward_sums(skip: tf.Tensor, branch: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `FORWARD_SUMS`.

    Args:
        skip: The shortcut's output, of any shape.
        branch: The branch's output, of the same shape.
        y: Their sum.

    Returns:
        Shape `(6,)`, float32.
    """
    skip, branch, y = (kept(tensor) for tensor in (skip, branch, y))
    means = [sum_of(skip), sum_of(branch)]
    elements = [tf.cast(tf.size(y), tf.float32)]
    return tf.concat([means, squares([skip, branch, y]), elements], axis=0)


@traced_once
def activation_sums(y: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `ACTIVATION_SUMS`.

    Args:
        y: The block's output, of any shape.

    Returns:
        Shape `(3,)`, float32.
    """
    zeros = sum_of(tf.cast(y == 0, tf.float32))
    return tf.stack([sum_of(kept(y)), zeros, tf.cast(tf.size(y), tf.float32)])


def gradient_sums(gradients: Sequence[tf.Tensor], groups: Sequence[int]) -> tf.Tensor:
    """Returns the sums of squares and the counts of non-finite values of weights' gradients.

    Args:
        gradients: One per weight.
        groups: How many of them belong together, of the same shape: one and one and so on, then
            several vectors and several more. A model has so many vectors that each by itself would
            make up half of the graph.

    Returns:
        Shape `(weights, 2)`, float32.
    """
    alone, stacks = _stacked(gradients, groups)
    parts = [over_finite(_squares, alone)]
    for stack in stacks:
        left_out = tf.cast(~tf.math.is_finite(stack), tf.float32)
        parts.append((_squares_of_rows(kept(stack)), tf.reduce_sum(left_out, axis=1)))
    return tf.stack([tf.concat(sums, axis=0) for sums in zip(*parts, strict=True)], axis=1)


def update_sums(
    before: Sequence[tf.Tensor], after: Sequence[tf.Tensor], groups: Sequence[int]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the sums of squares of weights before an update, and those of the update.

    Args:
        before: The weights before it.
        after: The weights after it.
        groups: As those of `gradient_sums`.

    Returns:
        Two tensors of shape `(weights,)`, float32.
    """
    (alone, stacks), (alone_after, stacks_after) = (
        _stacked(weights, groups) for weights in (before, after)
    )
    updates = [new - old for old, new in zip(alone, alone_after, strict=True)]
    rows = [new - old for old, new in zip(stacks, stacks_after, strict=True)]
    return tuple(
        tf.concat([squares(tensors), *map(_squares_of_rows, matrices)], axis=0)
        for tensors, matrices in ((alone, stacks), (updates, rows))
    )


def _stacked(tensors, groups):
    """Returns the tensors that are groups by themselves, and for each other group a matrix."""
    ends = itertools.accumulate(groups)
    parts = [tensors[end - size : end] for size, end in zip(groups, ends, strict=True)]
    alone = [part[0] for part in parts if len(part) == 1]
    return alone, [tf.cast(tf.stack(part), tf.float32) for part in parts if len(part) > 1]


def _squares_of_rows(matrix):
    return tf.reduce_sum(matrix * matrix, axis=1)


def _squares(*tensors):
    return squares(tensors)
