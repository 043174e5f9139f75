"""Poolings of any number of spatial axes, padded as in the reference networks."""

from typing import Any

import keras
from keras import ops

from reszoo.layers.configured import Configured
from reszoo.layers.cpu_kernels import cpu_max_pool
from reszoo.layers.shapes import (
    Shape,
    Size,
    Tensor,
    axes_and_channels,
    check_padding,
    entries,
    per_axis,
    size_of,
    strided_shape,
    unpadded_shape,
)


class Pool(Configured):
    """The part that both poolings share: a window, a stride, a padding and the output's shape.

    Args:
        pool_size: Size of the window, as in `MaxPool`; so are the others.
        strides: Distance of the windows.
        padding: Name of the padding.
    """

    arguments = ("pool_size", "strides", "padding")

    def __init__(self, pool_size: Size, strides: Size, padding: str, **kwargs: Any):
        super().__init__(**kwargs)
        owner = type(self).__name__
        self.pool_size = size_of(owner, "pool_size", pool_size)
        self.strides = size_of(owner, "strides", strides)
        check_padding(owner, padding)
        self.padding = padding
        if padding == "symmetric" and not all(size % 2 for size in entries(self.pool_size)):
            raise ValueError(
                f"{owner} got pool_size={pool_size}, which cannot be padded alike on both sides. "
                f"Give an odd one, for example {max(entries(self.pool_size)) // 2 * 2 + 1}, or "
                'padding="same" or "valid".'
            )

    def build(self, input_shape: Shape) -> None:
        axes, _ = axes_and_channels(input_shape, type(self).__name__)
        self._along(axes)
        self.compute_output_shape(input_shape)  # raises where no window fits

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if self.padding != "valid":
            return strided_shape(input_shape, self.strides, input_shape[-1])
        return unpadded_shape(input_shape, self.pool_size, self.strides, input_shape[-1])

    def _padded(self, x: Tensor, value: float) -> tuple[Tensor, str]:
        """Returns the input, padded if the padding is symmetric, and the padding that is left."""
        if self.padding != "symmetric":
            return x, self.padding
        pool_size, _ = self._along(len(x.shape) - 2)
        reaches = [(size // 2, size // 2) for size in pool_size]
        return ops.pad(x, [(0, 0), *reaches, (0, 0)], constant_values=value), "valid"

    def _along(self, axes: int) -> list[tuple[int, ...]]:
        """Returns the size of the window and the strides of each axis."""
        owner = f"{type(self).__name__} {self.name!r}"
        names = ("pool_size", "strides")
        return [per_axis(owner, argument, getattr(self, argument), axes) for argument in names]


@keras.saving.register_keras_serializable(package="reszoo")
class MaxPool(Pool):
    """The largest value of each window, padded by the same amount on every side.

    Keras's `padding="same"` pads an even-sized image on one side only, as Caffe does.

    Args:
        pool_size: Size of the window in pixels, along every spatial axis, or a tuple of one for
            each; odd where the padding is symmetric.
        strides: Distance of the windows in pixels, along every spatial axis, or a tuple of one for
            each.
        padding_value: Value of symmetric padding; `None` for one that is never the largest.
        padding: `"symmetric"`, `"same"` or `"valid"`, as in `Convolution`.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), channels)`; without padding, of as
        many pixels as windows fit.

    Raises:
        ValueError: If a size is not a positive integer, `pool_size` is even though the padding is
            symmetric, there is no such padding, or a value is given for another one.

    Example:

    >>> MaxPool()(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 3])
    """

    arguments = (*Pool.arguments, "padding_value")

    def __init__(
        self,
        pool_size: Size = 3,
        strides: Size = 2,
        padding_value: float | None = None,
        padding: str = "symmetric",
        **kwargs: Any,
    ):
        super().__init__(pool_size, strides, padding, **kwargs)
        self.padding_value = padding_value
        if padding != "symmetric" and padding_value is not None:
            raise ValueError(
                f"MaxPool got padding_value={padding_value} and padding={padding!r}, but only "
                "symmetric padding has a value. Put a padding layer before "
                'MaxPool(padding="valid").'
            )

    def call(self, x: Tensor) -> Tensor:
        value = float("-inf") if self.padding_value is None else self.padding_value
        x, padding = self._padded(x, value)
        along = self._along(len(x.shape) - 2)
        faster = cpu_max_pool(x, *along) if padding == "valid" else None
        if faster is not None:
            return faster(x)
        return ops.max_pool(x, self.pool_size, self.strides, padding, "channels_last")


@keras.saving.register_keras_serializable(package="reszoo")
class AveragePool(Pool):
    """The mean of each window; a window across the edge averages only the pixels of the image.

    Args:
        pool_size: Size of the window in pixels, along every spatial axis, or a tuple of one for
            each; odd where the padding is symmetric.
        strides: Distance of the windows in pixels, along every spatial axis, or a tuple of one for
            each.
        padding: `"same"`, `"symmetric"` or `"valid"`, as in `Convolution`.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), channels)`; without padding, of as
        many pixels as windows fit.

    Raises:
        ValueError: If a size is not a positive integer, `pool_size` is even though the padding is
            symmetric, or there is no such padding.

    Reference:
        He et al. 2019, "Bag of tricks for image classification with convolutional neural
        networks", section 4.2, ResNet-D.

    Example:

    >>> AveragePool()(keras.ops.ones((1, 7, 7, 3))).shape
    TensorShape([1, 4, 4, 3])
    """

    def __init__(
        self, pool_size: Size = 2, strides: Size = 2, padding: str = "same", **kwargs: Any
    ):
        super().__init__(pool_size, strides, padding, **kwargs)

    def call(self, x: Tensor) -> Tensor:
        means = self._means(x)
        if self.padding != "symmetric":
            return means
        return means / self._means(ops.ones_like(x[:1, ..., :1]))  # the share that is no padding

    def _means(self, x: Tensor) -> Tensor:
        x, padding = self._padded(x, 0.0)
        return ops.average_pool(x, self.pool_size, self.strides, padding, "channels_last")
