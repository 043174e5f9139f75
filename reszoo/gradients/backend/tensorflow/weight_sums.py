"""Sums of all weights of a model, their gradients and updates."""

import itertools
from collections.abc import Sequence

import tensorflow as tf

from reszoo.gradients.backend.tensorflow.reductions import (
    joined,
    over_finite,
    squares,
    traced_once,
    zero_if_nonfinite,
)
from reszoo.keras_internals import is_traced_for_xla


def gradient_sums(gradients: Sequence[tf.Tensor], stack_sizes: Sequence[int]) -> tf.Tensor:
    """Returns sums of squares and numbers of non-finite values of weights' gradients.

    Args:
        gradients: One per weight, of any shapes.
        stack_sizes: The number of weights in each stack, in their order: 1 for a weight that is
            summed by itself, more for vectors of one shape that are summed as a matrix. A model has
            so many vectors that separate sums would make up half of the graph.

    Returns:
        Shape `(weights, 2)`, float64.
    """
    alone, stacks = _stacked(gradients, stack_sizes)
    parts = [traced_once(_gradient_sums)(x)[None] for x in alone]
    for stack in stacks:
        left_out = tf.cast(~tf.math.is_finite(stack), tf.float64)
        sums = [
            _squares_of_rows(zero_if_nonfinite(stack, tf.float64)),
            tf.reduce_sum(left_out, axis=1),
        ]
        parts.append(tf.stack(sums, axis=1))
    return tf.concat(parts, axis=0)


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
    sums_of = _update_sums_under_xla if is_traced_for_xla() else traced_once(_update_sums)
    parts = [sums_of(*pair)[None] for pair in zip(alone, alone_after, strict=True)]
    for old, new in zip(stacks, stacks_after, strict=True):
        sums = [_squares_of_rows(tf.cast(x, tf.float64)) for x in (old, new - old)]
        parts.append(tf.stack(sums, axis=1))
    return tuple(tf.unstack(tf.concat(parts, axis=0), axis=1))


def _gradient_sums(gradient: tf.Tensor) -> tf.Tensor:
    """Returns the sum of squares of a weight's gradient, and the number of values left out."""
    return joined(over_finite(_squares, [gradient]))


def _update_sums(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """Returns the sums of squares of a weight before an update, and of the update."""
    sums, left_out = over_finite(_squares, [before, after - before])
    # Non-finite values of weights are not counted, so they are not left out either: the sum is NaN.
    return tf.where(left_out > 0, tf.constant(float("nan"), tf.float64), sums)


def _squares(*tensors: tf.Tensor) -> tf.Tensor:
    return squares(tensors)


def _update_sums_under_xla(before: tf.Tensor, after: tf.Tensor) -> tf.Tensor:
    """Returns what `_update_sums` does, without counting values that are not finite.

    In float64 no square overflows, so that a sum is not finite only where a value is not.
    """
    before, after = tf.cast(before, tf.float64), tf.cast(after, tf.float64)
    sums = squares([before, after - before])
    return tf.where(tf.math.is_finite(sums), sums, tf.constant(float("nan"), tf.float64))


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


def _squares_of_rows(matrix: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(matrix * matrix, axis=1)
