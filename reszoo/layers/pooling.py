"""Poolings of any number of spatial axes, padded as in the reference networks."""

from typing import Any

import keras
from keras import ops

from reszoo.layers.configured import Configured
from reszoo.layers.shapes import (
    Shape,
    Tensor,
    axes_and_channels,
    check_positive_integers,
    strided_shape,
)


class Pool(Configured):
    """The part that both poolings share: a window, a stride and the output's shape.

    Args:
        pool_size: Size of the window along every spatial axis, in pixels.
        strides: Distance of the windows along every spatial axis, in pixels.
    """

    arguments = ("pool_size", "strides")

    def __init__(self, pool_size: int, strides: int, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive_integers(type(self).__name__, pool_size=pool_size, strides=strides)
        self.pool_size = pool_size
        self.strides = strides

    def build(self, input_shape: Shape) -> None:
        axes_and_channels(input_shape, type(self).__name__)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return strided_shape(input_shape, self.strides, input_shape[-1])


@keras.saving.register_keras_serializable(package="reszoo")
class MaxPool(Pool):
    """The largest value of each window, padded by the same amount on every side.

    Keras's `padding="same"` pads an even-sized image on one side only.

    Args:
        pool_size: Size of the window along every spatial axis, odd, in pixels.
        strides: Distance of the windows along every spatial axis, in pixels.
        padding_value: Value of the padding; `None` for one that is never the largest.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), channels)`.

    Raises:
        ValueError: If `pool_size` or `strides` is not a positive integer, or `pool_size` is even.

    Example:

    >>> MaxPool()(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 3])
    """

    arguments = (*Pool.arguments, "padding_value")

    def __init__(
        self,
        pool_size: int = 3,
        strides: int = 2,
        padding_value: float | None = None,
        **kwargs: Any,
    ):
        super().__init__(pool_size, strides, **kwargs)
        self.padding_value = padding_value
        if pool_size % 2 == 0:
            raise ValueError(
                f"MaxPool got pool_size={pool_size}, which cannot be padded alike on both sides. "
                f"Give an odd one, for example {pool_size + 1}."
            )

    def call(self, x: Tensor) -> Tensor:
        reach = self.pool_size // 2
        width = [(0, 0), *[(reach, reach)] * (len(x.shape) - 2), (0, 0)]
        value = float("-inf") if self.padding_value is None else self.padding_value
        x = ops.pad(x, width, constant_values=value)
        return ops.max_pool(x, self.pool_size, self.strides, "valid", "channels_last")


@keras.saving.register_keras_serializable(package="reszoo")
class AveragePool(Pool):
    """The mean of each window; a window across the edge averages only the pixels of the image.

    Args:
        pool_size: Size of the window along every spatial axis, in pixels.
        strides: Distance of the windows along every spatial axis, in pixels.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), channels)`.

    Raises:
        ValueError: If `pool_size` or `strides` is not a positive integer.

    Reference:
        He et al. 2019, "Bag of tricks for image classification with convolutional neural
        networks", section 4.2, ResNet-D.

    Example:

    >>> AveragePool()(keras.ops.ones((1, 7, 7, 3))).shape
    TensorShape([1, 4, 4, 3])
    """

    def __init__(self, pool_size: int = 2, strides: int = 2, **kwargs: Any):
        super().__init__(pool_size, strides, **kwargs)

    def call(self, x: Tensor) -> Tensor:
        return ops.average_pool(x, self.pool_size, self.strides, "same", "channels_last")
