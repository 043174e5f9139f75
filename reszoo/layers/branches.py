"""The branches `f(x)` of He et al.: basic and bottleneck."""

import keras

from reszoo.layers.chain import Chain
from reszoo.layers.convolution import (
    batch_norm,
    check_positive_integer,
    convolution,
    spatial_rank,
)


class ConvolutionalChain(Chain):
    """A chain whose layers depend on the number of spatial axes, so are made when it is built.

    Subclasses say which layers in `make_layers(rank)`.

    Args:
        name: Name of the layer.
        dtype: Dtype or dtype policy of the layer and of all layers in it.
    """

    def __init__(self, *, name=None, dtype=None, **kwargs):
        super().__init__([], name=name, dtype=dtype, **kwargs)

    def make_layers(self, rank: int) -> list[keras.layers.Layer]:
        """Returns the layers, first to last, for inputs of `rank` spatial axes."""
        raise NotImplementedError

    def build(self, input_shape):
        self.layers = self.make_layers(spatial_rank(input_shape, type(self).__name__))
        super().build(input_shape)

    def compute_output_shape(self, input_shape):
        if not self.layers:
            rank = spatial_rank(input_shape, type(self).__name__)
            return Chain(self.make_layers(rank)).compute_output_shape(input_shape)
        return super().compute_output_shape(input_shape)

    def get_config(self):
        config = super().get_config()
        del config["layers"]
        return config

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable(package="reszoo")
class BasicBranch(ConvolutionalChain):
    """Two 3x3 convolutions, each with batch normalization, and an activation between them.

    The branch of ResNet-18 and 34. There is no activation after the second normalization:
    `ResidualBlock` applies it after the addition. Works on one, two or three spatial axes.

    Args:
        filters: Number of output channels of both convolutions.
        strides: Stride of the first convolution, in pixels.
        activation: Activation between the convolutions, anything `keras.activations.get` takes.
        zero_init_last_scale: Whether the last normalization's scale starts at zero, so that the
            block starts as its shortcut (Goyal et al. 2017, section 5.1).
        name: Name of the layer.
        dtype: Dtype or dtype policy.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Raises:
        ValueError: If `filters` or `strides` is not a positive integer, or the input has no
            spatial axis.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition", figure 5 left.

    Example:

    >>> BasicBranch(16, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 16])
    """

    def __init__(self, filters, strides=1, activation="relu", zero_init_last_scale=False, **kwargs):
        super().__init__(**kwargs)
        check_positive_integer(filters, "filters", type(self).__name__)
        check_positive_integer(strides, "strides", type(self).__name__)
        self.filters = filters
        self.strides = strides
        self.activation = keras.activations.get(activation)
        self.zero_init_last_scale = zero_init_last_scale

    def make_layers(self, rank):
        dtype = self.dtype_policy
        return [
            *convolution(rank, self.filters, 3, self.strides, dtype),
            batch_norm(dtype),
            keras.layers.Activation(self.activation, dtype=dtype),
            *convolution(rank, self.filters, 3, dtype=dtype),
            batch_norm(dtype, self.zero_init_last_scale),
        ]

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "activation": keras.activations.serialize(self.activation),
            "zero_init_last_scale": self.zero_init_last_scale,
        }


@keras.saving.register_keras_serializable(package="reszoo")
class BottleneckBranch(ConvolutionalChain):
    """A 1x1, a 3x3 and a 1x1 convolution, each with batch normalization.

    The branch of ResNet-50, 101 and 152. The stride is on the 3x3 convolution ("v1.5", as in
    torchvision), which is more accurate than on the first 1x1. There is no activation after the
    last normalization: `ResidualBlock` applies it after the addition.

    Args:
        filters: Number of channels inside; the output has `expansion * filters`.
        strides: Stride of the 3x3 convolution, in pixels.
        expansion: Output channels per inner channel.
        activation: Activation between the convolutions, anything `keras.activations.get` takes.
        zero_init_last_scale: Whether the last normalization's scale starts at zero, so that the
            block starts as its shortcut (Goyal et al. 2017, section 5.1).
        name: Name of the layer.
        dtype: Dtype or dtype policy.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), expansion * filters)`.

    Raises:
        ValueError: If `filters`, `strides` or `expansion` is not a positive integer, or the input
            has no spatial axis.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition", figure 5 right.

    Example:

    >>> BottleneckBranch(16, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 64])
    """

    def __init__(
        self,
        filters,
        strides=1,
        expansion=4,
        activation="relu",
        zero_init_last_scale=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_positive_integer(filters, "filters", type(self).__name__)
        check_positive_integer(strides, "strides", type(self).__name__)
        check_positive_integer(expansion, "expansion", type(self).__name__)
        self.filters = filters
        self.strides = strides
        self.expansion = expansion
        self.activation = keras.activations.get(activation)
        self.zero_init_last_scale = zero_init_last_scale

    def make_layers(self, rank):
        dtype = self.dtype_policy
        return [
            *convolution(rank, self.filters, 1, dtype=dtype),
            batch_norm(dtype),
            keras.layers.Activation(self.activation, dtype=dtype),
            *convolution(rank, self.filters, 3, self.strides, dtype),
            batch_norm(dtype),
            keras.layers.Activation(self.activation, dtype=dtype),
            *convolution(rank, self.filters * self.expansion, 1, dtype=dtype),
            batch_norm(dtype, self.zero_init_last_scale),
        ]

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "expansion": self.expansion,
            "activation": keras.activations.serialize(self.activation),
            "zero_init_last_scale": self.zero_init_last_scale,
        }
