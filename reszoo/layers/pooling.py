"""Poolings of any number of spatial axes, padded as in the reference networks."""

import keras
from keras import ops

from reszoo.layers.shapes import check_positive_integers, spatial_rank, strided_shape


class Pool(keras.layers.Layer):
    """The part that both poolings share: a window, a stride and the output's shape.

    Args:
        pool_size: Size of the window along every spatial axis, in pixels.
        strides: Distance of the windows along every spatial axis, in pixels.
        name: Name of the layer.
        dtype: Dtype or dtype policy.
    """

    def __init__(self, pool_size, strides, **kwargs):
        super().__init__(**kwargs)
        check_positive_integers(type(self).__name__, pool_size=pool_size, strides=strides)
        self.pool_size = pool_size
        self.strides = strides

    def build(self, input_shape):
        spatial_rank(input_shape, type(self).__name__)

    def compute_output_shape(self, input_shape):
        return strided_shape(input_shape, self.strides, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "pool_size": self.pool_size, "strides": self.strides}


@keras.saving.register_keras_serializable(package="reszoo")
class MaxPool(Pool):
    """The largest value of each window, padded by the same amount on every side.

    Keras's `padding="same"` pads an even-sized image on one side only.

    Args:
        pool_size: Size of the window along every spatial axis, odd, in pixels.
        strides: Distance of the windows along every spatial axis, in pixels.
        padding_value: What the image is padded with; `None` for a value that never wins.
        name: Name of the layer.
        dtype: Dtype or dtype policy.

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

    def __init__(self, pool_size=3, strides=2, padding_value=None, **kwargs):
        super().__init__(pool_size, strides, **kwargs)
        self.padding_value = padding_value
        if pool_size % 2 == 0:
            raise ValueError(
                f"MaxPool got pool_size={pool_size}, which cannot be padded alike on both sides. "
                f"Give an odd one, for example {pool_size + 1}."
            )

    def call(self, x):
        reach = self.pool_size // 2
        width = [(0, 0), *[(reach, reach)] * (len(x.shape) - 2), (0, 0)]
        value = float("-inf") if self.padding_value is None else self.padding_value
        x = ops.pad(x, width, constant_values=value)
        return ops.max_pool(x, self.pool_size, self.strides, "valid", "channels_last")

    def get_config(self):
        return {**super().get_config(), "padding_value": self.padding_value}


@keras.saving.register_keras_serializable(package="reszoo")
class AveragePool(Pool):
    """The mean of each window; a window that reaches over the edge averages what is there.

    Args:
        pool_size: Size of the window along every spatial axis, in pixels.
        strides: Distance of the windows along every spatial axis, in pixels.
        name: Name of the layer.
        dtype: Dtype or dtype policy.

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

    def __init__(self, pool_size=2, strides=2, **kwargs):
        super().__init__(pool_size, strides, **kwargs)

    def call(self, x):
        return ops.average_pool(x, self.pool_size, self.strides, "same", "channels_last")
