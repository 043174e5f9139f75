"""Convolutions for TensorFlow on CPU.

Code for a single backend is here, in `fused_normalization` and in `recomputation`; the other files
of `reszoo.layers` are written with `keras` and `keras.ops` alone. On other backends this file can
be imported, and `cpu_convolution` returns `None`.
"""

import functools
import math
from collections.abc import Callable, Sequence

import keras

from reszoo.keras_internals import has_onednn, is_traced_for_xla
from reszoo.layers.shapes import Tensor

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


# Elements of one tap, from which on, and pixels of an image, up to which, laying a kernel out
# takes longer than the products with it.
_LARGE_TAP = 256 * 256
_FEW_PIXELS = 4


def cpu_convolution(
    x: Tensor, kernel: Tensor, strides: Sequence[int], padding: str, rates: Sequence[int]
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Returns a way to convolve images that is faster than TensorFlow's plain one on CPU, if any.

    It depends on whether TensorFlow uses oneDNN in this process. XLA has its own kernels.

    Args:
        x: The layer's input.
        kernel: The kernel, of shape `(height, width, channels, filters)`.
        strides: Stride along each axis, in pixels.
        padding: `"same"` or `"valid"`.
        rates: Distance of the kernel's taps along each axis, in pixels.

    Returns:
        A function of the input and the kernel; `None` for the plain way.
    """
    if keras.backend.backend() != "tensorflow" or len(x.shape) != 4:
        return None
    # TensorFlow's gradient with respect to the kernel does not support dilation on CPU.
    if max(rates) > 1 or any(keras.distribution.list_devices(kind) for kind in ("gpu", "tpu")):
        return None
    if is_traced_for_xla():
        return None
    is_centred = padding == "same" and max(strides) == 1 and all(n % 2 for n in kernel.shape[:2])
    if not has_onednn():
        return rotated_convolution if is_centred else None
    if tuple(kernel.shape[:2]) == (1, 1) and max(strides) == 1:
        return pointwise_convolution
    if (is_centred or padding == "valid") and _has_few_pixels(x, kernel, strides):
        return functools.partial(im2col_convolution, strides=strides, padding=padding)
    return None


def _has_few_pixels(x: Tensor, kernel: Tensor, strides: Sequence[int]) -> bool:
    """Returns whether a kernel is large, and used at few places of an image."""
    if None in x.shape[1:3] or math.prod(kernel.shape[2:]) < _LARGE_TAP:
        return False
    places = zip(x.shape[1:3], strides, strict=True)
    return math.prod(-(-pixels // stride) for pixels, stride in places) <= _FEW_PIXELS


def pointwise_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolution with a kernel of one tap, for TensorFlow's kernels of oneDNN on CPU.

    The gradient at such a kernel is one matrix product over all pixels, which is faster than the
    gradient of a convolution. The value stays a convolution, which TensorFlow fuses with
    the normalization after it where nothing is trained.

    Args:
        x: Images `(batch, height, width, channels)`.
        kernel: Kernel `(1, 1, channels, filters)`.

    Returns:
        A tensor `(batch, height, width, filters)`, differentiable any number of times.

    Example:

    >>> x, kernel = keras.ops.ones((1, 4, 4, 2)), keras.ops.ones((1, 1, 2, 5))
    >>> pointwise_convolution(x, kernel).shape
    TensorShape([1, 4, 4, 5])
    """

    @tf.custom_gradient
    def convolve(x: Tensor, kernel: Tensor) -> tuple[Tensor, Callable]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            to_kernel = tf.matmul(_rows(x), _rows(upstream), transpose_a=True)
            return _to_input(x, kernel, upstream, (1, 1), "same"), _shaped(to_kernel, kernel)

        return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient

    return convolve(x, tf.convert_to_tensor(kernel))


def im2col_convolution(x: Tensor, kernel: Tensor, strides: Sequence[int], padding: str) -> Tensor:
    """Convolution as one matrix product with the patches of the images, for oneDNN on CPU.

    oneDNN lays a kernel out anew at each use. Where an image has few pixels and the kernel many
    channels, as in the last stage of a ResNet on small images, that takes longer than the products.

    Args:
        x: Images `(batch, height, width, channels)`, of known height and width.
        kernel: Kernel `(height, width, channels, filters)`, of odd size if the padding is `"same"`.
        strides: Stride along each axis, in pixels; 1 if the padding is `"same"`.
        padding: `"same"` or `"valid"`.

    Returns:
        A tensor `(batch, height, width, filters)`, differentiable any number of times.

    Reference:
        Chellapilla, Puri and Simard 2006, "High performance convolutional neural networks for
        document processing", section 3.

    Example:

    >>> x, kernel = keras.ops.ones((1, 2, 2, 8)), keras.ops.ones((3, 3, 8, 5))
    >>> im2col_convolution(x, kernel, (1, 1), "same").shape
    TensorShape([1, 2, 2, 5])
    """

    @tf.custom_gradient
    def convolve(x: Tensor, kernel: Tensor) -> tuple[Tensor, Callable]:
        patches = _patches(x, kernel.shape[:2], strides, padding)

        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            to_kernel = tf.matmul(_rows(patches), _rows(upstream), transpose_a=True)
            to_input = _to_input(x, kernel, upstream, strides, padding)
            return to_input, _shaped(to_kernel, kernel)

        y = tf.matmul(_rows(patches), _rows(kernel))
        return tf.reshape(y, (-1, *patches.shape[1:3], kernel.shape[-1])), gradient

    return convolve(x, tf.convert_to_tensor(kernel))


def _patches(x: Tensor, size: Sequence[int], strides: Sequence[int], padding: str) -> Tensor:
    """Returns what each place of the kernel sees, its taps beside each other in the last axis."""
    if padding == "same":
        x = tf.pad(x, [(0, 0), *((n // 2, n // 2) for n in size), (0, 0)])
    # The last place begins here; a slice ends one after it.
    ends = [pixels - n for pixels, n in zip(x.shape[1:3], size, strict=True)]
    taps = [
        x[:, row : row + ends[0] + 1 : strides[0], column : column + ends[1] + 1 : strides[1]]
        for row in range(size[0])
        for column in range(size[1])
    ]
    return tf.concat(taps, -1)


def _to_input(
    x: Tensor, kernel: Tensor, upstream: Tensor, strides: Sequence[int], padding: str
) -> Tensor:
    return tf.raw_ops.Conv2DBackpropInput(
        input_sizes=tf.shape(x),
        filter=kernel,
        out_backprop=upstream,
        strides=[1, *strides, 1],
        padding=padding.upper(),
    )


def _rows(x: Tensor) -> Tensor:
    return tf.reshape(x, (-1, x.shape[-1]))


def _shaped(x: Tensor, like: Tensor) -> Tensor:
    return tf.reshape(x, like.shape)


def rotated_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolution of images with "same" padding, for TensorFlow's own kernels on CPU.

    Without oneDNN, TensorFlow computes the gradient at the input with one matrix product per image,
    which reaches a few per cent of the machine's rate where images are small and channels many (the
    late stages of every ResNet). The same sum is a forward convolution of the upstream gradient
    with the kernel rotated by 180 degrees, at full rate.

    Args:
        x: Images `(batch, height, width, channels)`.
        kernel: Kernel `(size, size, channels, filters)`, of odd size.

    Returns:
        A tensor `(batch, height, width, filters)`, differentiable any number of times.

    Reference:
        Dumoulin and Visin 2016, "A guide to convolution arithmetic for deep learning", chapter 4.

    Example:

    >>> x, kernel = keras.ops.ones((1, 4, 4, 2)), keras.ops.ones((3, 3, 2, 5))
    >>> rotated_convolution(x, kernel).shape
    TensorShape([1, 4, 4, 5])
    """

    @tf.custom_gradient
    def convolve(x: Tensor, kernel: Tensor) -> tuple[Tensor, Callable]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            turned = tf.transpose(tf.reverse(kernel, [0, 1]), [0, 1, 3, 2])
            to_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=x,
                filter_sizes=tf.shape(kernel),
                out_backprop=upstream,
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
            return convolve(upstream, turned), to_kernel

        return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient

    return convolve(x, tf.convert_to_tensor(kernel))


def convolves_each_group() -> bool:
    """Returns whether one convolution per group is the faster way: TensorFlow on CPU.

    There Keras compiles grouped convolutions with XLA, which is many times slower: `python
    benchmarks/models.py --grouped` shows both.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    return not keras.distribution.list_devices("gpu")
