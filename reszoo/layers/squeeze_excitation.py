"""Squeeze and excitation: each channel times a factor computed from the whole image."""

from typing import Any

import keras
from keras import ops

from reszoo.layers.configured import Configured
from reszoo.layers.shapes import Shape, Tensor, axes_and_channels, check_positive_integers


@keras.saving.register_keras_serializable(package="reszoo")
class SqueezeExcitation(Configured):
    """Weighs each channel by a gate computed from the means of all channels.

    Put it last in a branch. The gate is two dense layers, the first with a `reduction`-th of the
    channels.

    Args:
        reduction: Channels of the input per unit of the first dense layer, at least 1.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        That of the input.

    Raises:
        ValueError: If `reduction` is not a positive integer.

    Reference:
        Hu et al. 2018, "Squeeze-and-excitation networks", section 3.

    Example:

    >>> SqueezeExcitation()(keras.ops.ones((1, 8, 8, 32))).shape
    TensorShape([1, 8, 8, 32])
    """

    arguments = ("reduction",)

    def __init__(self, reduction: int = 16, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive_integers(type(self).__name__, reduction=reduction)
        self.reduction = reduction

    def build(self, input_shape: Shape) -> None:
        _, channels = axes_and_channels(input_shape, type(self).__name__)
        units, dtype = max(1, channels // self.reduction), self.dtype_policy
        self.squeeze = keras.layers.Dense(units, activation="relu", name="squeeze", dtype=dtype)
        self.excite = keras.layers.Dense(channels, activation="sigmoid", name="excite", dtype=dtype)
        self.squeeze.trainable = self.excite.trainable = self.trainable
        self.squeeze.build((None, channels))
        self.excite.build((None, units))

    def call(self, x: Tensor) -> Tensor:
        axes = tuple(range(1, len(x.shape) - 1))
        return x * self.excite(self.squeeze(ops.mean(x, axes, keepdims=True)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)
