"""Sums over the values of tensors, taken on the device.

A sum is a float64 scalar: the square of any normal float32 number, and its fourth power, are within
float64's range, and the sum of many such is accurate. XLA and GPUs add up in float64. A CPU without
XLA, where that takes nine times as long, adds up in float32 where that suffices, which it sees of
the sum, and in float64 where it does not.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from reszoo.keras_internals import function_of_one_node, is_traced_for_xla

# XLA adds up so many rows side by side, a power of two, each of so many values.
ROWS = 8
ROW_VALUES = 16
# On a CPU without XLA, two tensors are multiplied in so many pieces.
PIECES = 8
# Squares whose mean is at least this are summed in float32 with a relative error of 1e-6: those of
# them that are too small for float32 do not count.
LEAST_MEAN_SQUARE = 1e-30


def squares(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the sum of the squares of each tensor's values.

    Args:
        tensors: Any shapes, float32 or all float64.

    Returns:
        Shape `(tensors,)`, of their dtype.
    """
    if is_traced_for_xla():
        return tf.stack([sum_of(x * x) for x in tensors])
    # Where XLA does not make one pass of it, this kernel does, without a temporary tensor.
    return 2 * tf.stack([tf.nn.l2_loss(x) for x in tensors])


def products(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the products of two tensors' values.

    Args:
        x: Shape `(batch, ...)`, float32 or float64.
        y: The same shape and dtype.

    Returns:
        A scalar of their dtype.
    """
    # A matrix product would round its factors on GPUs and TPUs, and is slower on a CPU.
    if is_traced_for_xla() or has_gpu():
        return sum_of(x * y)
    # Their product as a whole would be a tensor that no cache holds, in memory that the system has
    # to hand out anew in every step.
    examples = (tf.shape(x)[0] + tf.range(PIECES)) // PIECES
    pieces = zip(*(tf.split(tensor, examples, num=PIECES) for tensor in (x, y)), strict=True)
    return tf.add_n([sum_of(x * y) for x, y in pieces])


def sum_of(x: tf.Tensor) -> tf.Tensor:
    """Returns the sum of a tensor's values.

    Args:
        x: Any shape.

    Returns:
        A scalar of its dtype.
    """
    return _sum_of_parts(_parts(x)) if is_traced_for_xla() else tf.reduce_sum(x)


def squares_of_sum(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the squares of the finite values of `x + y`, under XLA.

    The two are added up part by part. Were their sum as a whole among what is looked at, XLA would
    keep it in memory, and then compute what follows from it in another order than it does where
    nothing is looked at: the last bits of an update would differ.

    Args:
        x: Any shape, any float dtype.
        y: The same shape and dtype.

    Returns:
        A float64 scalar.
    """
    pairs = zip(_parts(x), _parts(y), strict=True)
    return _sum_of_parts([tf.square(zero_if_nonfinite(x + y, tf.float64)) for x, y in pairs])


def _parts(x: tf.Tensor) -> list[tf.Tensor]:
    """Returns rows of a tensor's values, a power of two or none, and the values that are left.

    On a CPU XLA adds one value after the other, but vectors at once where rows are added up. These
    lie beside each other: far ones push each other out of the cache.
    """
    values = tf.reshape(x, [-1])
    left_over = (x.shape.num_elements() or 0) % (ROWS * ROW_VALUES)
    if not x.shape.num_elements() or left_over == x.shape.num_elements():
        return [values]
    rows = tf.reshape(values[left_over:], (-1, ROWS, ROW_VALUES))
    return [*tf.unstack(rows, axis=1), *([values[:left_over]] if left_over else [])]


def _sum_of_parts(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    rows, rest = parts[:ROWS], parts[ROWS:]
    if len(parts) < ROWS:
        return tf.reduce_sum(parts[0])
    while len(rows) > 1:
        rows = [a + b for a, b in zip(rows[::2], rows[1::2], strict=True)]
    return tf.add_n([tf.reduce_sum(part) for part in (*rows, *rest)])


def zero_if_nonfinite(x: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Returns a tensor with zero in the place of values that are not finite.

    Args:
        x: Any shape, any float dtype.
        dtype: That of the result.

    Returns:
        The same shape.
    """
    return tf.where(tf.math.is_finite(x), tf.cast(x, dtype), tf.zeros((), dtype))


def squares_suffice(sums: tf.Tensor, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns whether sums of squares in float32 are those of the values.

    Args:
        sums: Shape `(sums,)`, first a sum of squares for each of the tensors.
        tensors: The tensors, of at least one dimension.

    Returns:
        A boolean scalar: not where the squares are too small for float32, which may make the sum
        zero. Where all values are zero it is true.
    """
    if tensors[0].dtype == tf.float64:
        return tf.constant(True)
    of_squares = sums[: len(tensors)]
    elements = tf.stack([tf.size(x) for x in tensors])
    large = of_squares >= LEAST_MEAN_SQUARE * tf.cast(elements, of_squares.dtype)
    looked_at = [
        _all_or_nothing(x, square == 0)
        for x, square in zip(tensors, tf.unstack(of_squares, len(tensors)), strict=True)
    ]
    # Two passes, but no tensor of the magnitudes.
    ends = [tf.stack([tf.reduce_max(x), tf.reduce_min(x)]) for x in looked_at]
    return tf.reduce_all(large | tf.reduce_all(tf.stack(ends) == 0, axis=1))


def over_finite(
    sums: Callable[..., tf.Tensor],
    tensors: Sequence[tf.Tensor],
    suffice: Callable[[tf.Tensor, Sequence[tf.Tensor]], tf.Tensor] = squares_suffice,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns sums over the finite values, and how many values of each tensor are not finite.

    On a CPU a second pass is made only where the sums of the first are not finite, as those of such
    values are, or do not suffice. XLA counts them in the same pass, and a GPU always, since asking
    for the mark would have it wait.

    Args:
        sums: Takes the tensors, in float32 or float64, and returns sums of shape `(sums,)`, of
            the same dtype, that a value that is not finite makes not finite.
        tensors: Any shapes, any float dtypes.
        suffice: Takes sums in float32 and the tensors, and returns whether that is accurate.

    Returns:
        The sums, and shape `(tensors,)`, both float64.
    """
    if is_traced_for_xla() or has_gpu():
        return _without_nonfinite(sums, tensors)
    tensors = [tf.reshape(x, [1]) if x.shape.rank == 0 else x for x in tensors]
    wide = tf.float64 if any(x.dtype == tf.float64 for x in tensors) else tf.float32
    tensors = [tf.cast(x, wide) for x in tensors]
    cheap = sums(*tensors)
    enough = tf.reduce_all(tf.math.is_finite(cheap)) & suffice(cheap, tensors)
    again = [_all_or_nothing(x, ~enough) for x in tensors]
    without, left_out = _without_nonfinite(sums, again)
    return tf.where(enough, tf.cast(cheap, tf.float64), without), left_out


def traced_once(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Returns a function that adds a single node to a graph, wherever it is called.

    What it does is in a graph of its own, for tensors of any shape. For every block anew it would
    make the graph of a training step, and what that takes of memory, larger by half. Under XLA,
    which must know the shapes, the function is called as it is.

    Args:
        function: Takes tensors, of at least one dimension, and returns one.

    Returns:
        A function that takes and returns the same.
    """

    @functools.cache
    def graph_of(*dtypes: tf.DType) -> Any:
        apart = function_of_one_node(function)
        with tf.init_scope():
            any_shape: Any = None
            specs = [tf.TensorSpec(any_shape, dtype) for dtype in dtypes]
            return apart.get_concrete_function(*specs)

    @functools.wraps(function)
    def call(*tensors: tf.Tensor) -> tf.Tensor:
        if tf.executing_eagerly() or is_traced_for_xla():
            return function(*tensors)
        return graph_of(*(tensor.dtype for tensor in tensors))(*tensors)

    return call


def has_gpu() -> bool:
    """Returns whether a GPU is there, so that what runs without XLA runs on it."""
    return bool(tf.config.list_logical_devices("GPU"))


def _all_or_nothing(x: tf.Tensor, condition: tf.Tensor) -> tf.Tensor:
    """Returns a tensor of at least one dimension, or nothing of it.

    A condition in the graph would cost memory everywhere: it has TensorFlow run the whole graph in
    another order.
    """
    end = tf.where(condition, [tf.int32.max], [0])
    return tf.strided_slice(x, tf.constant([0]), end, tf.constant([1]))


def _without_nonfinite(
    sums: Callable[..., tf.Tensor], tensors: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    left_out = squares([tf.cast(~tf.math.is_finite(x), tf.float32) for x in tensors])
    return sums(*(zero_if_nonfinite(x, tf.float64) for x in tensors)), tf.cast(left_out, tf.float64)
