"""Sums over the values of tensors, computed on the device.

A sum is a float64 scalar: the square of any normal float32 number, and its fourth power, are within
float64's range, and sums of many of them are accurate. XLA adds in float64. Without it, float32 is
used if the result shows that this is accurate, and float64 if not: it takes nine times as long on a
CPU, and has a GPU write and read larger tensors.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from reszoo.keras_internals import function_of_one_node, is_traced_for_xla

# Number of rows, a power of two, that XLA adds in parallel, and number of values in each.
ROWS = 8
ROW_VALUES = 16
# Number of pieces in which two tensors are multiplied on a CPU without XLA.
PIECES = 8
# Squares whose mean is at least this are summed in float32 with a relative error of 1e-6: squares
# that are too small for float32 are negligible.
LEAST_MEAN_SQUARE = 1e-30


def squares(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the sum of the squares of each tensor's values.

    Args:
        tensors: Tensors of any shapes, all float32 or all float64.

    Returns:
        Shape `(tensors,)`, of their dtype.
    """
    if is_traced_for_xla():
        return tf.stack([total(x * x) for x in tensors])
    # Without XLA this kernel makes a single pass too, without a temporary tensor.
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
        return total(x * y)
    # The whole product would be a tensor larger than the caches, in memory that the system has to
    # allocate again in every step.
    examples = (tf.shape(x)[0] + tf.range(PIECES)) // PIECES
    pieces = zip(*(tf.split(tensor, examples, num=PIECES) for tensor in (x, y)), strict=True)
    return tf.add_n([total(x * y) for x, y in pieces])


def total(x: tf.Tensor) -> tf.Tensor:
    """Returns the sum of a tensor's values.

    Args:
        x: Any shape.

    Returns:
        A scalar of its dtype.
    """
    return _sum_of_parts(_parts(x)) if is_traced_for_xla() else tf.reduce_sum(x)


def squares_of_sum(*tensors: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the squares of the finite values of a tensor, or of the sum of two.

    Under XLA two are summed part by part. If `x + y` as a whole were read here, XLA would keep it
    in memory, and compute the operations after it in another order than without a recorder: the
    last bits of an update would differ.

    Args:
        tensors: One tensor of any shape and any float dtype; under XLA two of the same.

    Returns:
        A float64 scalar.
    """
    if len(tensors) == 1:
        return over_finite(lambda x: squares([x]), tensors)[0][0]
    pairs = zip(*map(_parts, tensors), strict=True)
    return _sum_of_parts([tf.square(zero_if_nonfinite(x + y, tf.float64)) for x, y in pairs])


def _parts(x: tf.Tensor) -> list[tf.Tensor]:
    """Returns rows of a tensor's values, a power of two or none, and the values that are left.

    On a CPU XLA adds one value after the other, but whole vectors where it adds rows. The rows are
    adjacent in memory: distant ones would evict each other from the cache.
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


def zeros(x: tf.Tensor) -> tf.Tensor:
    """Returns the number of a tensor's values that are exactly zero, a float64 scalar.

    Args:
        x: Any shape.
    """
    return tf.cast(total(tf.cast(x == 0, tf.float32)), tf.float64)


def largest(x: tf.Tensor) -> tf.Tensor:
    """Returns the largest magnitude of a tensor's finite values, a float64 scalar.

    Args:
        x: Any shape, any float dtype.
    """
    return tf.cast(tf.reduce_max(tf.abs(zero_if_nonfinite(x, x.dtype))), tf.float64)


def joined(parts: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns scalars and vectors as one vector.

    Args:
        parts: Tensors of at most one dimension, of one dtype.
    """
    return tf.concat([tf.reshape(part, [-1]) for part in parts], axis=0)


def elements(x: tf.Tensor) -> tf.Tensor:
    """Returns the number of a tensor's values, a float64 scalar.

    Args:
        x: Any shape.
    """
    return tf.cast(tf.size(x), tf.float64)


def examples(x: tf.Tensor) -> tf.Tensor:
    """Returns the number of examples in a batch, a float64 scalar.

    Args:
        x: Shape `(batch, ...)`.
    """
    return tf.cast(tf.shape(x)[0], tf.float64)


def counts_by_exponent(x: tf.Tensor, first: int, bins: int) -> tf.Tensor:
    """Returns numbers of a tensor's finite values by the power of two below their magnitude.

    Args:
        x: Any shape, any float dtype.
        first: The exponent of the lowest bin, which also counts smaller values.
        bins: Number of bins. The highest also counts larger values.

    Returns:
        Shape `(1 + bins,)`, float64: first the number of exact zeros.
    """
    x = tf.reshape(tf.cast(x, tf.float64), [-1])
    # The exponent is read from its bits, since a logarithm would round.
    exponent = tf.bitwise.right_shift(tf.bitcast(tf.abs(x), tf.int64), 52) - 1023
    position = tf.where(
        x == 0, tf.zeros((), tf.int64), 1 + tf.clip_by_value(exponent - first, 0, bins - 1)
    )
    # Counts are exact up to 2**53; float32 would stop at 2**24.
    counted = tf.cast(tf.math.is_finite(x), tf.float64)
    return tf.math.unsorted_segment_sum(counted, position, bins + 1)


def fourth_powers(tensors: Sequence[tf.Tensor], multiple: float) -> tf.Tensor:
    """Returns the sum of the fourth powers of the multiples of each tensor's values.

    Args:
        tensors: As `squares` takes them.
        multiple: A number by which the values are multiplied first.

    Returns:
        Shape `(tensors,)`, of their dtype.
    """
    return squares([tf.square(x * multiple) for x in tensors])


def multiplied(sums: tf.Tensor, factor: float) -> tf.Tensor:
    """Returns multiples of sums.

    Args:
        sums: Any shape.
        factor: A positive number.
    """
    return sums * factor


def zero_if_nonfinite(x: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """Returns a tensor with zero in place of values that are not finite.

    Args:
        x: Any shape, any float dtype.
        dtype: Dtype of the result.

    Returns:
        The same shape.
    """
    return tf.where(tf.math.is_finite(x), tf.cast(x, dtype), tf.zeros((), dtype))


def squares_suffice(sums: tf.Tensor, tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns whether sums of squares in float32 are accurate.

    Args:
        sums: Shape `(sums,)`, first a sum of squares for each of the tensors.
        tensors: The tensors, of at least one dimension.

    Returns:
        A boolean scalar: false where the squares are too small for float32, which may make the sum
        zero; true where all values are zero.
    """
    if tensors[0].dtype == tf.float64:
        return tf.constant(True)
    of_squares = sums[: len(tensors)]
    elements = tf.stack([tf.size(x) for x in tensors])
    large = of_squares >= LEAST_MEAN_SQUARE * tf.cast(elements, of_squares.dtype)

    def large_or_zero() -> tf.Tensor:
        # Two passes, but no tensor of the magnitudes.
        ends = [tf.stack([tf.reduce_max(x), tf.reduce_min(x)]) for x in tensors]
        return tf.reduce_all(large | tf.reduce_all(tf.stack(ends) == 0, axis=1))

    return tf.cond(tf.reduce_all(large), lambda: tf.constant(True), large_or_zero)


def over_finite(
    sums: Callable[..., tf.Tensor],
    tensors: Sequence[tf.Tensor],
    suffice: Callable[[tf.Tensor, Sequence[tf.Tensor]], tf.Tensor] = squares_suffice,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns sums over the finite values, and the number of non-finite values of each tensor.

    Without XLA a second pass is made only where the sums of the first are not finite, which shows
    values that are not, or not accurate. XLA counts such values in the same pass.

    Args:
        sums: Takes the tensors, in float32 or float64, and returns sums of shape `(sums,)`, of
            the same dtype; they must not be finite if a value is not.
        tensors: Tensors of any shapes and any float dtypes.
        suffice: Takes the sums and the tensors, and returns whether the sums are accurate.

    Returns:
        The sums, and the numbers, of shape `(tensors,)`, both float64.
    """
    if is_traced_for_xla():
        return _without_nonfinite(sums, tensors)
    tensors = [tf.reshape(x, [1]) if x.shape.rank == 0 else x for x in tensors]
    wide = tf.float64 if any(x.dtype == tf.float64 for x in tensors) else tf.float32
    tensors = [tf.cast(x, wide) for x in tensors]
    cheap = sums(*tensors)
    enough = tf.reduce_all(tf.math.is_finite(cheap)) & suffice(cheap, tensors)
    no_others = tf.zeros(len(tensors), tf.float64)
    return tf.cond(
        enough,
        lambda: (tf.cast(cheap, tf.float64), no_others),
        lambda: _without_nonfinite(sums, tensors),
    )


@functools.cache
def traced_once(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Returns a function that adds a single node to a graph, wherever it is called.

    The function has its own graph, for tensors of any shape. Its operations in every block would
    enlarge the graph of a training step, and its memory, by half. Under XLA, which must know the
    shapes, the function is called directly.

    Args:
        function: Takes tensors, of at least one dimension, and returns one.

    Returns:
        A function with the same arguments and result.
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
    """Returns whether there is a GPU, on which operations without XLA then run."""
    return bool(tf.config.list_logical_devices("GPU"))


def _without_nonfinite(
    sums: Callable[..., tf.Tensor], tensors: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    left_out = squares([tf.cast(~tf.math.is_finite(x), tf.float32) for x in tensors])
    return sums(*(zero_if_nonfinite(x, tf.float64) for x in tensors)), tf.cast(left_out, tf.float64)
