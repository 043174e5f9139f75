"""Sums over the values of tensors, taken on the device, in float32 whatever the compute dtype."""

import functools
from collections.abc import Callable, Sequence

import tensorflow as tf
from tensorflow.python.ops import control_flow_util  # there is no public way to ask for XLA

# XLA adds up so many rows side by side, a power of two, each of so many values.
ROWS = 8
ROW_VALUES = 16
# On a CPU without XLA, two tensors are multiplied in so many pieces.
PIECES = 8


def squares(tensors: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the sum of the squares of each tensor's values.

    Args:
        tensors: Any shapes, any float dtypes.

    Returns:
        Shape `(tensors,)`, float32.
    """
    tensors = [tf.cast(x, tf.float32) for x in tensors]
    if not tensors:
        return tf.zeros(0)
    if in_xla():
        return tf.stack([sum_of(x * x) for x in tensors])
    # Where XLA does not make one pass of it, this kernel does, without a temporary tensor.
    return 2.0 * tf.stack([tf.nn.l2_loss(x) for x in tensors])


def products(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns the sum of the products of two tensors' values.

    Args:
        x: Shape `(batch, ...)`, any float dtype.
        y: The same shape.

    Returns:
        A float32 scalar.
    """
    # A matrix product would round its factors on GPUs and TPUs, and is slower on a CPU.
    if in_xla() or has_gpu():
        return _product_sum(x, y)
    # Their product as a whole would be a tensor that no cache holds, in memory that the system has
    # to hand out anew in every step.
    examples = (tf.shape(x)[0] + tf.range(PIECES)) // PIECES
    pieces = zip(*(tf.split(tensor, examples, num=PIECES) for tensor in (x, y)), strict=True)
    return tf.add_n([_product_sum(*piece) for piece in pieces])


def _product_sum(x, y):
    return sum_of(tf.cast(x, tf.float32) * tf.cast(y, tf.float32))


def sum_of(x: tf.Tensor) -> tf.Tensor:
    """Returns the sum of a tensor's values.

    Args:
        x: Any shape.

    Returns:
        A scalar of its dtype.
    """
    elements = x.shape.num_elements()
    if not in_xla() or not elements:
        return tf.reduce_sum(x)
    values = tf.reshape(x, [-1])
    left_over = elements % (ROWS * ROW_VALUES)
    if left_over == elements:
        return tf.reduce_sum(values)
    if left_over:
        return _sum_of_rows(values[left_over:]) + tf.reduce_sum(values[:left_over])
    return _sum_of_rows(values)


def _sum_of_rows(values):
    # On a CPU XLA adds one value after the other, but vectors at once where rows are added up.
    # These lie beside each other: far ones push each other out of the cache.
    sums = tf.unstack(tf.reshape(values, (-1, ROWS, ROW_VALUES)), axis=1)
    while len(sums) > 1:
        sums = [a + b for a, b in zip(sums[::2], sums[1::2], strict=True)]
    return tf.reduce_sum(sums[0])


def kept(x: tf.Tensor) -> tf.Tensor:
    """Returns a tensor in float32, with zero in the place of values that are not finite.

    Args:
        x: Any shape, any float dtype.

    Returns:
        The same shape, float32.
    """
    x = tf.cast(x, tf.float32)
    return tf.where(tf.math.is_finite(x), x, 0.0)


def over_finite(
    sums: Callable[..., tf.Tensor], tensors: Sequence[tf.Tensor]
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns sums over the finite values, and how many values of each tensor are not finite.

    On a CPU such values are found by their mark on the sums: only then is a second pass made that
    counts them and leaves them out. XLA counts them in the same pass, and a GPU always, since
    asking for the mark would have it wait.

    Args:
        sums: Takes the tensors and returns sums of the form `(sums,)` that a value that is not
            finite makes not finite.
        tensors: Any shapes, any float dtypes.

    Returns:
        The sums, and shape `(tensors,)`, float32.
    """
    if in_xla() or has_gpu():
        return _without_nonfinite(sums, tensors)
    cheap = sums(*tensors)
    finite = tf.reduce_all(tf.math.is_finite(cheap))
    # All of each tensor or nothing of it, for a condition in the graph costs memory everywhere: it
    # has TensorFlow run the whole graph in another order.
    end, begin, stride = tf.where(finite, [0], [tf.int32.max]), tf.constant([0]), tf.constant([1])
    vectors = [tf.reshape(x, [1]) if x.shape.rank == 0 else x for x in tensors]
    again = [tf.strided_slice(x, begin, end, stride) for x in vectors]
    without, left_out = _without_nonfinite(sums, again)
    return tf.where(finite, cheap, without), left_out


def traced_once(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Returns a function that adds a single node to a graph, wherever it is called.

    What it does is in a graph of its own, for tensors of any shape. For every block anew it would
    make the graph of a training step, and what that takes of memory, larger by half. Under XLA,
    which has to know the shapes, it is as it was.

    Args:
        function: Takes tensors, of at least one dimension, and returns one.

    Returns:
        A function that takes and returns the same.
    """

    @functools.cache
    def graph_of(*dtypes):
        # Otherwise TensorFlow would put the nodes back where the call is.
        apart = tf.function(function, autograph=False, experimental_attributes={"_noinline": True})
        with tf.init_scope():
            return apart.get_concrete_function(*(tf.TensorSpec(None, dtype) for dtype in dtypes))

    @functools.wraps(function)
    def call(*tensors):
        if tf.executing_eagerly() or in_xla():
            return function(*tensors)
        return graph_of(*(tensor.dtype for tensor in tensors))(*tensors)

    return call


def in_xla() -> bool:
    """Returns whether what is being traced will be compiled by XLA."""
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


def has_gpu() -> bool:
    """Returns whether a GPU is there, so that what runs without XLA runs on it."""
    return bool(tf.config.list_logical_devices("GPU"))


def _without_nonfinite(sums, tensors):
    left_out = squares([tf.cast(~tf.math.is_finite(x), tf.float32) for x in tensors])
    return sums(*map(kept, tensors)), left_out
