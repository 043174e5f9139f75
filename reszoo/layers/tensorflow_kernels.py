"""Convolutions for TensorFlow on CPU.

Code for a single backend is here, in `fused_normalization` and in `recomputation`; the other files
of `reszoo.layers` are written with `keras` and `keras.ops` alone. On other backends this file can
be imported, and `serves_images_on_cpu` returns false.
"""

from collections.abc import Callable

import keras

from reszoo.keras_internals import has_onednn, is_traced_for_xla
from reszoo.layers.shapes import Tensor

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf


def serves_images_on_cpu(x: Tensor, strides: int, dilation_rate: int) -> bool:
    """Returns whether `convolve_on_cpu` is the faster way: TensorFlow's own kernels on CPU.

    oneDNN, which TensorFlow has on most processors, and XLA convolve faster in the plain way.

    Args:
        x: The layer's input.
        strides: Stride of the convolution, in pixels.
        dilation_rate: Distance of the kernel's taps, in pixels.
    """
    if keras.backend.backend() != "tensorflow" or len(x.shape) != 4:
        return False
    # TensorFlow's gradient with respect to the kernel does not support dilation on CPU.
    if strides != 1 or dilation_rate != 1:
        return False
    if any(keras.distribution.list_devices(kind) for kind in ("gpu", "tpu")):
        return False
    return not has_onednn() and not is_traced_for_xla()


def convolve_on_cpu(x: Tensor, kernel: Tensor) -> Tensor:
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
    >>> convolve_on_cpu(x, kernel).shape
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
