"""Convolutions and max pooling that are faster on a CPU than TensorFlow's own, or XLA's.

Code for a single backend is here, in `fused_normalization` and in `recomputation`; the other files
of `reszoo.layers` are written with `keras` and `keras.ops` alone. On other backends this file can
be imported, and `cpu_convolution` and `cpu_max_pool` return `None`.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from reszoo.keras_internals import has_onednn, is_traced_for_xla
from reszoo.layers.shapes import Tensor

if keras.backend.backend() == "tensorflow":
    import tensorflow as tf
if keras.backend.backend() == "jax":
    import jax

# With oneDNN: elements of one tap, from which on, and places of the kernel in a batch, up to which,
# laying a kernel out takes longer than the products with it; images of a batch of unknown size.
_LARGE_TAP, _FEW_PLACES, _USUAL_BATCH = 256 * 256, 256, 64
# Without: elements of one tap for each place of the kernel in an image, from which on the gradients
# are faster by products of patches than by rotating the kernel, and than TensorFlow's with strides.
_ELEMENTS_PER_PLACE, _ELEMENTS_PER_STRIDED_PLACE = 2**14, 2**11
# Without: channels below which TensorFlow's gradient at a kernel is not slower than a convolution.
_FEW_CHANNELS = 32


def cpu_convolution(
    x: Tensor, kernel: Tensor, strides: Sequence[int], padding: str, rates: Sequence[int]
) -> Callable[[Tensor, Tensor], Tensor] | None:
    """Returns a way to convolve images that is faster than the backend's plain one on CPU, if any.

    It depends on whether XLA compiles, as on JAX, and else on whether TensorFlow uses oneDNN in
    this process.

    Args:
        x: The layer's input.
        kernel: The kernel, of shape `(height, width, channels, filters)`.
        strides: Stride along each axis, in pixels.
        padding: `"same"` or `"valid"`.
        rates: Distance of the kernel's taps along each axis, in pixels.

    Returns:
        A function of the input and the kernel; `None` for the plain way.
    """
    if len(x.shape) != len(kernel.shape) or x.shape[-1] != kernel.shape[-2]:  # several groups
        return None
    # TensorFlow's gradient with respect to the kernel does not support dilation on CPU.
    if max(rates) > 1 or not _runs_on_cpu():
        return None
    size = kernel.shape[:-2]
    if max(size) == 1:  # nothing is padded
        padding = "valid"
    is_centred = padding == "same" and max(strides) == 1 and all(n % 2 for n in size)
    options = {"strides": strides, "padding": padding}
    places = _places(x, size, strides, padding) if is_centred or padding == "valid" else []
    if keras.backend.backend() == "jax" or is_traced_for_xla():
        # XLA adds one product after the other where an image is smaller than the kernel, which in
        # the backward pass is the gradient at the output.
        is_small = any(n < k for n, k in zip(places, size, strict=False))
        return functools.partial(patch_convolution, **options) if is_small else None
    if len(x.shape) != 4:
        return None
    if places and _is_by_patches(kernel.shape, x.shape[0], math.prod(places), max(strides)):
        return functools.partial(im2col_convolution, **options)
    if max(size) == 1 and (places or max(strides) == 1):
        return functools.partial(pointwise_convolution, strides=strides)
    return rotated_convolution if is_centred and not has_onednn() else None


def _is_by_patches(kernel: Sequence[int], images: int | None, places: int, stride: int) -> bool:
    """Returns whether TensorFlow is faster by products of patches than by its own gradients.

    Args:
        kernel: The kernel's shape.
        images: Number of images, if it is known.
        places: Number of places of the kernel in an image.
        stride: The largest stride.
    """
    tap = math.prod(kernel[-2:])
    if has_onednn():
        return tap >= _LARGE_TAP and places * (images or _USUAL_BATCH) <= _FEW_PLACES
    is_strided = stride > 1 and max(kernel[:-2]) > 1
    return tap >= (_ELEMENTS_PER_STRIDED_PLACE if is_strided else _ELEMENTS_PER_PLACE) * places


def _runs_on_cpu() -> bool:
    """Returns whether this is a backend that is known here, without an accelerator."""
    if keras.backend.backend() == "jax":
        return jax.default_backend() == "cpu"
    if keras.backend.backend() != "tensorflow":
        return False
    return not any(keras.distribution.list_devices(kind) for kind in ("gpu", "tpu"))


def _places(x: Tensor, size: Sequence[int], strides: Sequence[int], padding: str) -> list[int]:
    """Returns the number of places of a kernel along each axis; none if the image's is unknown."""
    if not all(isinstance(n, int) for n in x.shape[1:-1]):
        return []
    free = [n if padding == "same" else n - k + 1 for n, k in zip(x.shape[1:-1], size, strict=True)]
    return [-(-n // stride) for n, stride in zip(free, strides, strict=True)]


def patch_convolution(x: Tensor, kernel: Tensor, strides: Sequence[int], padding: str) -> Tensor:
    """Convolution as a matrix product with the patches of the images, im2col, on any backend.

    Args:
        x: A tensor `(batch, ..., channels)` with any number of spatial axes of known size.
        kernel: Kernel `(..., channels, filters)`, of odd size if the padding is `"same"`.
        strides: Stride along each axis, in pixels; 1 if the padding is `"same"`.
        padding: `"same"` or `"valid"`.

    Returns:
        A tensor `(batch, ..., filters)`.

    Reference:
        Chellapilla, Puri and Simard 2006, "High performance convolutional neural networks for
        document processing", section 3.

    Example:

    >>> x, kernel = keras.ops.ones((1, 2, 2, 8)), keras.ops.ones((3, 3, 8, 5))
    >>> patch_convolution(x, kernel, (1, 1), "same").shape
    TensorShape([1, 2, 2, 5])
    """
    patches = _patches(x, kernel.shape[:-2], strides, padding)
    return ops.matmul(patches, ops.reshape(kernel, (-1, kernel.shape[-1])))


def pointwise_convolution(x: Tensor, kernel: Tensor, strides: Sequence[int] = (1, 1)) -> Tensor:
    """Convolution with a kernel of one tap, for TensorFlow on CPU.

    Its gradients are matrix products over all pixels, which are faster than those of a convolution.
    The value stays a convolution, which TensorFlow fuses with the normalization after it where
    nothing is trained.

    Args:
        x: Images `(batch, height, width, channels)`; with a stride, of known height and width.
        kernel: Kernel `(1, 1, channels, filters)`.
        strides: Stride along each axis, in pixels.

    Returns:
        A tensor `(batch, height, width, filters)`, a pixel for each stride, differentiable any
        number of times.

    Example:

    >>> x, kernel = keras.ops.ones((1, 4, 4, 2)), keras.ops.ones((1, 1, 2, 5))
    >>> pointwise_convolution(x, kernel).shape
    TensorShape([1, 4, 4, 5])
    """

    @tf.custom_gradient
    def convolve(x: Tensor, kernel: Tensor) -> tuple[Tensor, Callable]:
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            upstream = tf.reshape(upstream, (-1, kernel.shape[-1]))
            to_kernel = tf.matmul(_rows(x), upstream, transpose_a=True)
            to_input = tf.matmul(upstream, _rows(kernel), transpose_b=True)
            return tf.reshape(to_input, tf.shape(x)), _shaped(to_kernel, kernel)

        return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient

    x = x if max(strides) == 1 else first_of_strides(x, strides)
    return convolve(x, tf.convert_to_tensor(kernel))


def im2col_convolution(x: Tensor, kernel: Tensor, strides: Sequence[int], padding: str) -> Tensor:
    """Convolution as `patch_convolution`, for TensorFlow on CPU, with gradients of its own.

    oneDNN lays a kernel out anew at each use, and without it TensorFlow makes a small product for
    each image, or rotates the kernel (`rotated_convolution`). Where an image has few pixels and the
    kernel many channels, as in the last stages of a ResNet on small images, either takes longer
    than the products of the patches of all images.

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
        def gradient(upstream: Tensor) -> tuple[Tensor, Tensor]:
            patches = _rows(_patches(x, kernel.shape[:2], strides, padding))
            # Its own shape may be unknown, as that of a function of Python.
            rows = tf.reshape(upstream, (-1, kernel.shape[-1]))
            to_kernel = tf.matmul(patches, rows, transpose_a=True)
            places = _places(x, kernel.shape[:2], strides, padding)
            shape = (math.prod(kernel.shape[:2]), -1, *places, x.shape[-1])
            by_tap = tf.reshape(_to_taps(kernel, rows), shape)
            to_input = _overlaid(by_tap, kernel.shape[:2], x.shape[1:3], strides, padding)
            return to_input, _shaped(to_kernel, kernel)

        if not has_onednn():
            same_or_valid: Any = padding.upper()
            return tf.nn.conv2d(x, kernel, strides, same_or_valid), gradient
        patches = _patches(x, kernel.shape[:2], strides, padding)
        y = tf.matmul(_rows(patches), _rows(kernel))
        return tf.reshape(y, (-1, *patches.shape[1:3], kernel.shape[-1])), gradient

    return convolve(x, tf.convert_to_tensor(kernel))


def _patches(x: Tensor, size: Sequence[int], strides: Sequence[int], padding: str) -> Tensor:
    """Returns what each place of the kernel sees, its taps beside each other in the last axis."""
    places = _places(x, size, strides, padding)
    before = [n // 2 if padding == "same" else 0 for n in size]
    # Whole strides, so that the pixels of a tap are a slice without steps, which is copied faster.
    whole = [-(-(n + 2 * b) // s) for n, b, s in zip(x.shape[1:-1], before, strides, strict=True)]
    after = [
        n * s - pixels - b
        for n, s, pixels, b in zip(whole, strides, x.shape[1:-1], before, strict=True)
    ]
    margins = list(zip(before, after, strict=True))
    if any(map(any, margins)):
        x = ops.pad(x, [(0, 0), *margins, (0, 0)])
    split = itertools.chain(*zip(whole, strides, strict=True))
    x = ops.reshape(x, (-1, *split, x.shape[-1]))
    # Of each tap, the pixels that it sees at all places.
    seen = [
        [(slice(tap // stride, tap // stride + n), tap % stride) for tap in range(k)]
        for n, stride, k in zip(places, strides, size, strict=True)
    ]
    return ops.concatenate(
        [x[(slice(None), *itertools.chain(*taps))] for taps in itertools.product(*seen)], -1
    )


def _to_taps(kernel: Tensor, upstream: Tensor) -> Tensor:
    """Returns the gradient at what each tap sees, of shape `(taps, places, channels)`."""
    taps = tf.reshape(kernel, (-1, *kernel.shape[2:]))
    if has_onednn():
        return tf.matmul(upstream[None], taps, transpose_b=True)
    # The kernel comes first: it is the larger factor, and is not laid out anew as such.
    products = tf.matmul(_rows(kernel), upstream, transpose_b=True)
    return tf.transpose(tf.reshape(products, (*taps.shape[:2], -1)), [0, 2, 1])


def _overlaid(
    by_tap: Tensor,
    size: Sequence[int],
    pixels: Sequence[int],
    strides: Sequence[int],
    padding: str,
) -> Tensor:
    """Returns the sum of patches, each added where it was taken: col2im, the reverse of `_patches`.

    Args:
        by_tap: What each tap sees at each place, `(taps, batch, rows, columns, channels)`.
        size: Height and width of the kernel.
        pixels: Height and width of the images.
        strides: Distances of the places, in pixels.
        padding: `"same"` or `"valid"`.

    Returns:
        Images `(batch, *pixels, channels)`.
    """
    before = [n // 2 if padding == "same" else 0 for n in size]
    # Pixels whose positions are alike modulo the stride are seen by the same taps.
    alike = [
        -(-(n + 2 * margin) // stride)
        for n, margin, stride in zip(pixels, before, strides, strict=True)
    ]

    def placed(row: int, column: int) -> Tensor:
        ends = zip((row, column), strides, alike, by_tap.shape[2:4], strict=True)
        margins = [(tap // stride, n - seen - tap // stride) for tap, stride, n, seen in ends]
        return tf.pad(by_tap[row * size[1] + column], [(0, 0), *margins, (0, 0)])

    def sum_at(row: int, column: int) -> Tensor:
        taps = itertools.product(*map(range, (row, column), size, strides))
        parts = [placed(*tap) for tap in taps]
        shape = (tf.shape(by_tap)[1], *alike, by_tap.shape[-1])
        return tf.add_n(parts) if parts else tf.zeros(shape, by_tap.dtype)

    rows = [
        tf.stack([sum_at(row, column) for column in range(strides[1])], axis=3)
        for row in range(strides[0])
    ]
    height, width = (n * stride for n, stride in zip(alike, strides, strict=True))
    images = tf.reshape(tf.stack(rows, axis=2), (-1, height, width, by_tap.shape[-1]))
    top, left = before
    return images[:, top : top + pixels[0], left : left + pixels[1]]


def _rows(x: Tensor) -> Tensor:
    return tf.reshape(x, (-1, x.shape[-1]))


def _shaped(x: Tensor, like: Tensor) -> Tensor:
    return tf.reshape(x, like.shape)


def rotated_convolution(x: Tensor, kernel: Tensor) -> Tensor:
    """Convolution of images with "same" padding, for TensorFlow's own kernels on CPU.

    Without oneDNN, TensorFlow computes the gradient at the input with one matrix product per image,
    which reaches a few per cent of the machine's rate where images are small and channels many (the
    late stages of every ResNet). The same sum is a forward convolution of the upstream gradient
    with the kernel rotated by 180 degrees, at full rate. The gradient at the kernel is one too: of
    the images with the upstream gradient, examples in the place of channels.

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
            return convolve(upstream, turned), _to_kernel(x, kernel, upstream)

        return tf.nn.conv2d(x, kernel, 1, "SAME"), gradient

    return convolve(x, tf.convert_to_tensor(kernel))


def _to_kernel(x: Tensor, kernel: Tensor, upstream: Tensor) -> Tensor:
    """Returns the gradient at a kernel of odd size, moved over all pixels."""
    if min(kernel.shape[2:]) < _FEW_CHANNELS:
        return tf.raw_ops.Conv2DBackpropFilter(
            input=x,
            filter_sizes=tf.shape(kernel),
            out_backprop=upstream,
            strides=[1, 1, 1, 1],
            padding="SAME",
        )

    def convolved() -> Tensor:
        margins = [(n // 2, n // 2) for n in kernel.shape[:2]]
        channels = tf.pad(tf.transpose(x, [3, 1, 2, 0]), [(0, 0), *margins, (0, 0)])
        by_channel = tf.nn.conv2d(channels, tf.transpose(upstream, [1, 2, 0, 3]), 1, "VALID")
        return tf.transpose(by_channel, [1, 2, 0, 3])

    # A batch without examples would be a kernel without channels.
    return tf.cond(tf.shape(x)[0] > 0, convolved, lambda: tf.zeros_like(kernel))


def first_of_strides(x: Tensor, strides: Sequence[int]) -> Tensor:
    """Returns the first pixel of each stride, on any backend.

    TensorFlow copies a slice with steps, and assigns its gradient, several times slower on CPU than
    a slice of the images whose strides are an axis of their own.

    Args:
        x: A tensor `(batch, ..., channels)` with any number of spatial axes.
        strides: Stride along each spatial axis, in pixels.

    Returns:
        A tensor `(batch, ..., channels)`, of a pixel for each begun stride.

    Example:

    >>> first_of_strides(keras.ops.reshape(keras.ops.arange(5), (1, 5, 1)), [2])[0, :, 0]
    <tf.Tensor: shape=(3,), dtype=int32, numpy=array([0, 2, 4], dtype=int32)>
    """
    if not _is_for_tensorflows_cpu(x):
        return x[(slice(None), *[slice(None, None, step) for step in strides], slice(None))]
    channels = x.shape[-1]
    whole = [-(-n // stride) for n, stride in zip(x.shape[1:3], strides, strict=True)]
    after = [n * s - pixels for n, s, pixels in zip(whole, strides, x.shape[1:3], strict=True)]
    x = tf.pad(x, [(0, 0), *((0, n) for n in after), (0, 0)]) if any(after) else x
    rows = tf.reshape(x, (-1, strides[0], whole[1], strides[1] * channels))
    first = tf.slice(rows, [0, 0, 0, 0], [-1, 1, -1, channels])
    return tf.reshape(first, (-1, *whole, channels))


def _is_for_tensorflows_cpu(x: Tensor) -> bool:
    """Returns whether these are images of known height and width for TensorFlow's CPU kernels."""
    if keras.backend.backend() != "tensorflow" or len(x.shape) != 4 or is_traced_for_xla():
        return False
    return None not in x.shape[1:] and _runs_on_cpu()


def cpu_max_pool(
    x: Tensor, size: Sequence[int], strides: Sequence[int]
) -> Callable[[Tensor], Tensor] | None:
    """Returns a way to pool images without padding that is faster than TensorFlow's own, if any.

    Args:
        x: The images.
        size: Height and width of the windows, in pixels.
        strides: Distances of the windows, in pixels.
    """
    if not _is_for_tensorflows_cpu(x) or has_onednn():
        return None
    return functools.partial(separable_max_pool, size=size, strides=strides)


def separable_max_pool(x: Tensor, size: Sequence[int], strides: Sequence[int]) -> Tensor:
    """Largest value of each window, for TensorFlow's own kernels on CPU.

    Without oneDNN, TensorFlow's gradient searches each window again, pixel by pixel. Here it is
    that of the largest of each row and of the largest of these: of equal values the first has the
    gradient, row by row, as in TensorFlow.

    Args:
        x: Images `(batch, height, width, channels)`, of known height and width.
        size: Height and width of the windows, in pixels.
        strides: Distances of the windows, in pixels.

    Returns:
        A tensor `(batch, height, width, channels)`, a pixel for each window.

    Example:

    >>> separable_max_pool(keras.ops.ones((1, 5, 5, 2)), (3, 3), (2, 2)).shape
    TensorShape([1, 2, 2, 2])
    """

    @tf.custom_gradient
    def pool(x: Tensor) -> tuple[Tensor, Callable]:
        def gradient(upstream: Tensor) -> Tensor:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = x
                for axis in (2, 1):
                    y = _largest_along(y, axis, size[axis - 1], strides[axis - 1])
            return tape.gradient(y, x, output_gradients=upstream)

        return tf.nn.max_pool2d(x, size, strides, "VALID"), gradient

    return pool(x)


def _largest_along(x: Tensor, axis: int, size: int, stride: int) -> Tensor:
    """Returns the largest value of each window of an axis, whose gradient is the first one's."""
    windows, whole = (x.shape[axis] - size) // stride + 1, -(-x.shape[axis] // stride)
    if whole * stride > x.shape[axis]:
        margins = [[0, 0] for _ in x.shape]
        margins[axis][1] = whole * stride - x.shape[axis]
        x = tf.pad(x, margins)
    shape = (-1, *x.shape[1:axis], whole, stride, *x.shape[axis + 1 :])
    phases = tf.unstack(tf.reshape(x, shape), axis=axis + 1)

    def seen(tap: int) -> Tensor:
        begin, extent = [0] * 4, [-1] * 4
        begin[axis], extent[axis] = tap // stride, windows
        return tf.slice(phases[tap % stride], begin, extent)

    # The gradient of a maximum of two equal values is the first one's.
    return functools.reduce(tf.maximum, map(seen, range(size)))


def convolves_each_group() -> bool:
    """Returns whether one convolution per group is the faster way: TensorFlow on CPU.

    There Keras compiles grouped convolutions with XLA, which is many times slower: `python
    benchmarks/models.py --grouped` shows both.
    """
    if keras.backend.backend() != "tensorflow":
        return False
    return not keras.distribution.list_devices("gpu")
