"""The sums of `statistics`, taken of tensors on the device.

Each is one pass over its tensors, in float32 whatever the compute dtype. Values that are not
finite are found by their mark on the sums: only then is a second pass made that counts them and
leaves them out. XLA counts them in the same pass.
"""

from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow.python.ops import control_flow_util  # there is no public way to ask for XLA

from reszoo.gradients.statistics import FOURTH_POWER_MULTIPLE, HISTOGRAM_EXPONENTS

# XLA adds up so many parts of a tensor side by side; a power of two.
PARTS = 8


def fork_sums(skip: tf.Tensor, branch: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `FORK_SUMS`.

    Args:
        skip: The gradient that came back through the skip, of any shape.
        branch: The gradient that came back through the branch, of the same shape.
        total: Their sum.

    Returns:
        Shape `(8,)`, float32.
    """

    def sums(skip, branch, total):
        return [squares(skip), squares(branch), squares(total), products(skip, branch)]

    sums, nonfinite = _finite(sums, [skip, branch, total])
    sizes = tf.cast([tf.size(skip), tf.shape(skip)[0]], tf.float32)
    return tf.concat([sums, sizes, nonfinite[:2]], axis=0)


def merge_sums(gradient: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `MERGE_SUMS`.

    Args:
        gradient: The gradient that reached the sum of the two paths, of any shape.

    Returns:
        Shape `(3,)`, float32.
    """
    sums, nonfinite = _finite(lambda gradient: [squares(gradient)], [gradient])
    return tf.concat([sums, [tf.cast(tf.size(gradient), tf.float32)], nonfinite], axis=0)


def distribution_sums(skip: tf.Tensor, branch: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `DISTRIBUTION_SUMS`.

    Args:
        skip: The gradient that came back through the skip, of any shape.
        branch: The gradient that came back through the branch, of the same shape.
        total: Their sum, not used.

    Returns:
        Shape `(4,)`, float32.
    """
    del total
    paths = [_kept(path) for path in (skip, branch)]
    zeros = [sum_of(tf.cast(path == 0, tf.float32)) for path in (skip, branch)]
    return tf.stack([*zeros, *(squares(tf.square(path * FOURTH_POWER_MULTIPLE)) for path in paths)])


def distribution_maxima(skip: tf.Tensor, branch: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
    """Returns the maxima of `DISTRIBUTION_MAXIMA`.

    Args:
        skip: The gradient that came back through the skip, of any shape.
        branch: The gradient that came back through the branch, of the same shape.
        total: Their sum, not used.

    Returns:
        Shape `(2,)`, float32.
    """
    del total
    return tf.stack([tf.reduce_max(tf.abs(_kept(path))) for path in (skip, branch)])


def histogram_counts(skip: tf.Tensor, branch: tf.Tensor, total: tf.Tensor) -> tf.Tensor:
    """Returns how many values of each path lie in each bin of `HISTOGRAM_COUNTS`.

    Args:
        skip: The gradient that came back through the skip, of any shape.
        branch: The gradient that came back through the branch, of the same shape.
        total: Their sum, not used.

    Returns:
        Shape `(2 * bins,)`, float32. Values that are not finite are in no bin.
    """
    del total
    return tf.concat([_counts(path) for path in (skip, branch)], axis=0)


def _counts(x):
    x = tf.reshape(tf.cast(x, tf.float32), [-1])
    first, bins = HISTOGRAM_EXPONENTS[0], len(HISTOGRAM_EXPONENTS)
    # The exponent by its bits, exactly, where a logarithm would round.
    exponent = tf.bitwise.right_shift(tf.bitcast(tf.abs(x), tf.int32), 23) - 127
    position = tf.where(x == 0, 0, 1 + tf.clip_by_value(exponent - first, 0, bins - 1))
    counted = tf.cast(tf.math.is_finite(x), tf.float32)
    return tf.math.unsorted_segment_sum(counted, position, bins + 1)


def forward_sums(skip: tf.Tensor, branch: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `FORWARD_SUMS`.

    Args:
        skip: The shortcut's output, of any shape.
        branch: The branch's output, of the same shape.
        y: Their sum.

    Returns:
        Shape `(6,)`, float32.
    """
    skip, branch, y = (_kept(tensor) for tensor in (skip, branch, y))
    means = [sum_of(skip), sum_of(branch)]
    elements = tf.cast(tf.size(y), tf.float32)
    return tf.stack([*means, squares(skip), squares(branch), squares(y), elements])


def activation_sums(y: tf.Tensor) -> tf.Tensor:
    """Returns the sums of `ACTIVATION_SUMS`.

    Args:
        y: The block's output, of any shape.

    Returns:
        Shape `(3,)`, float32.
    """
    zeros = sum_of(tf.cast(y == 0, tf.float32))
    return tf.stack([sum_of(_kept(y)), zeros, tf.cast(tf.size(y), tf.float32)])


def gradient_sums(gradients: Sequence[tf.Tensor | tf.IndexedSlices | None]) -> tf.Tensor:
    """Returns the sums of squares and the counts of non-finite values of weights' gradients.

    Args:
        gradients: One per weight; `None` counts as zero.

    Returns:
        Shape `(weights, 2)`, float32.
    """
    dense = [tf.zeros(1) if g is None else tf.convert_to_tensor(g) for g in gradients]
    return tf.stack(_finite(lambda *dense: [squares(g) for g in dense], dense), axis=1)


def squares(x: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the squares of a tensor's values.

    Args:
        x: Any shape, any float dtype.

    Returns:
        A float32 scalar.
    """
    x = tf.cast(x, tf.float32)
    # Where XLA does not make one pass of it, this kernel does, without a temporary tensor.
    return sum_of(x * x) if _in_xla() else 2.0 * tf.nn.l2_loss(x)


def products(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the products of two tensors' values.

    Args:
        x: Any shape, any float dtype.
        y: The same shape.

    Returns:
        A float32 scalar.
    """
    # A matrix product would round its factors on GPUs and TPUs, and is slower on a CPU.
    return sum_of(tf.cast(x, tf.float32) * tf.cast(y, tf.float32))


def sum_of(x: tf.Tensor) -> tf.Tensor:
    """Returns the sum of a tensor's values.

    Args:
        x: Any shape.

    Returns:
        A scalar of its dtype.
    """
    elements = x.shape.num_elements()
    if not _in_xla() or not elements or elements % PARTS:
        return tf.reduce_sum(x)
    # On a CPU XLA adds one value after the other, but vectors at once where parts are added up.
    parts = tf.unstack(tf.reshape(x, (PARTS, -1)))
    while len(parts) > 1:
        parts = [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)]
    return tf.reduce_sum(parts[0])


def _in_xla():
    """Returns whether what is being traced will be compiled by XLA."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def _kept(x):
    """Returns a tensor in float32, with zero for what is not finite."""
    x = tf.cast(x, tf.float32)
    return tf.where(tf.math.is_finite(x), x, 0.0)


def _finite(sums: Callable, tensors: Sequence[tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns sums over the finite values, and how many values of each tensor are not finite."""
    if _in_xla():
        return _without_nonfinite(sums, tensors)
    cheap = tf.stack(sums(*tensors))
    finite = tf.reduce_all(tf.math.is_finite(cheap))
    # All of each tensor or nothing of it, for a condition in the graph costs memory everywhere: it
    # has TensorFlow run the whole graph in another order.
    again = tf.cast(~finite, tf.int32)
    parts = [tf.reshape(tensor, [-1])[: again * tf.size(tensor)] for tensor in tensors]
    kept, left_out = _without_nonfinite(sums, parts)
    return tf.where(finite, cheap, kept), left_out


def _without_nonfinite(sums, tensors):
    finite = [tf.math.is_finite(tensor) for tensor in tensors]
    kept = [
        tf.where(mask, tensor, tf.zeros_like(tensor))
        for mask, tensor in zip(finite, tensors, strict=True)
    ]
    left_out = [sum_of(tf.cast(~mask, tf.float32)) for mask in finite]
    return tf.stack(sums(*kept)), tf.stack(left_out)
