"""The branches `f(x)` of He et al.: basic and bottleneck, and the order of their layers."""

from collections.abc import Callable, Sequence

import keras

from reszoo.layers.chain import Chain
from reszoo.layers.convolution import Convolution
from reszoo.layers.normalization import (
    Norm,
    convolution_options,
    norm_from_config,
    norm_to_config,
    normalization,
)
from reszoo.layers.shapes import check_positive_integers


def post_activation(
    convolutions: Sequence[Convolution],
    norm: Norm = "batch",
    activation: str | Callable = "relu",
    zero_init_last_scale: bool = False,
) -> list[keras.layers.Layer]:
    """Returns convolutions, each followed by a normalization, with activations between them.

    The order of He et al. 2015. There is no activation at the end: `ResidualBlock` applies it after
    the addition.

    Args:
        convolutions: The convolutions, first to last.
        norm: The normalization, anything `reszoo.layers.normalization` takes.
        activation: The activation, anything `keras.activations.get` takes.
        zero_init_last_scale: Whether the last normalization's scale starts at zero, so that the
            block starts as its shortcut (Goyal et al. 2017, section 5.1).

    Returns:
        The layers, first to last; those added are named `norm1`, `activation1` and so on.

    Raises:
        ValueError: If the last scale is to start at zero and there is no normalization.

    Example:

    >>> layers = post_activation([Convolution(8, 3, name="conv1"), Convolution(8, 3, name="conv2")])
    >>> [layer.name for layer in layers]
    ['conv1', 'norm1', 'activation1', 'conv2', 'norm2']
    """
    if zero_init_last_scale and norm is None:
        raise ValueError(
            "zero_init_last_scale=True needs a normalization, but norm is None. To start blocks as "
            "their shortcut without one, end the branch in LearnedScale(0.0)."
        )
    layers = []
    for i, convolution in enumerate(convolutions, start=1):
        dtype, last = convolution.dtype_policy, i == len(convolutions)
        layers += [
            convolution,
            *normalization(norm, f"norm{i}", zero_init_last_scale and last, dtype),
        ]
        if not last:
            layers.append(keras.layers.Activation(activation, name=f"activation{i}", dtype=dtype))
    return layers


def pre_activation(
    convolutions: Sequence[Convolution],
    norm: Norm = "batch",
    activation: str | Callable = "relu",
    activated: bool = False,
) -> list[keras.layers.Layer]:
    """Returns convolutions, each preceded by a normalization and an activation.

    The order of He et al. 2016: nothing stands on the bus, from block to block.

    Args:
        convolutions: The convolutions, first to last.
        norm: The normalization, anything `reszoo.layers.normalization` takes.
        activation: The activation, anything `keras.activations.get` takes.
        activated: Whether the input is normalized and activated already, so that the first
            convolution takes it as it is.

    Returns:
        The layers, first to last; those added are named `norm1`, `activation1` and so on.

    Reference:
        He et al. 2016, "Identity mappings in deep residual networks", figure 1(b).

    Example:

    >>> layers = pre_activation([Convolution(8, 3, name="conv1"), Convolution(8, 3, name="conv2")])
    >>> [layer.name for layer in layers]
    ['norm1', 'activation1', 'conv1', 'norm2', 'activation2', 'conv2']
    """
    layers = []
    for i, convolution in enumerate(convolutions, start=1):
        if i > 1 or not activated:
            dtype = convolution.dtype_policy
            layers += [
                *normalization(norm, f"norm{i}", dtype=dtype),
                keras.layers.Activation(activation, name=f"activation{i}", dtype=dtype),
            ]
        layers.append(convolution)
    return layers


class PostActivationBranch(Chain):
    """A chain in the order of `post_activation`, whose config is arguments instead of layers.

    Args:
        convolutions: The convolutions, first to last.
        activation: Activation between the convolutions.
        zero_init_last_scale: Whether the last normalization's scale starts at zero.
        norm: The normalization.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(self, convolutions, activation, zero_init_last_scale, norm, **kwargs):
        layers = post_activation(convolutions, norm, activation, zero_init_last_scale)
        super().__init__(layers, **kwargs)
        self.activation = keras.activations.get(activation)
        self.zero_init_last_scale = zero_init_last_scale
        self.norm = norm

    def get_config(self):
        config = super().get_config()
        del config["layers"]
        return {
            **config,
            "activation": keras.activations.serialize(self.activation),
            "zero_init_last_scale": self.zero_init_last_scale,
            "norm": norm_to_config(self.norm),
        }

    @classmethod
    def from_config(cls, config):
        return cls(**{**config, "norm": norm_from_config(config["norm"])})


@keras.saving.register_keras_serializable(package="reszoo")
class BasicBranch(PostActivationBranch):
    """Two 3x3 convolutions, each with a normalization, and an activation between them.

    The branch of ResNet-18 and 34. There is no activation after the second normalization:
    `ResidualBlock` applies it after the addition. Works on one, two or three spatial axes. For
    another order or other convolutions, make the layers with `post_activation` or `pre_activation`.

    Args:
        filters: Number of output channels of both convolutions.
        strides: Stride of the first convolution, in pixels.
        activation: Activation between the convolutions, anything `keras.activations.get` takes.
        zero_init_last_scale: Whether the last normalization's scale starts at zero, so that the
            block starts as its shortcut (Goyal et al. 2017, section 5.1).
        norm: `"batch"`, `"sync_batch"`, `"group"`, `None` or a function that makes a layer, as
            `reszoo.layers.normalization` takes it.
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

    def __init__(
        self,
        filters,
        strides=1,
        activation="relu",
        zero_init_last_scale=False,
        norm="batch",
        *,
        dtype=None,
        **kwargs,
    ):
        check_positive_integers(type(self).__name__, filters=filters, strides=strides)
        options = {**convolution_options(norm), "dtype": dtype}
        convolutions = [
            Convolution(filters, 3, strides, name="conv1", **options),
            Convolution(filters, 3, name="conv2", **options),
        ]
        super().__init__(
            convolutions, activation, zero_init_last_scale, norm, dtype=dtype, **kwargs
        )
        self.filters = filters

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
        }


@keras.saving.register_keras_serializable(package="reszoo")
class BottleneckBranch(PostActivationBranch):
    """A 1x1, a 3x3 and a 1x1 convolution, each with a normalization.

    The branch of ResNet-50, 101 and 152. The stride is on the 3x3 convolution ("v1.5", as in
    torchvision), which is more accurate than on the first 1x1. There is no activation after the
    last normalization: `ResidualBlock` applies it after the addition. For another order or other
    convolutions, make the layers with `post_activation` or `pre_activation`.

    Args:
        filters: Number of channels inside; the output has `expansion * filters`.
        strides: Stride of the 3x3 convolution, in pixels.
        expansion: Output channels per inner channel.
        activation: Activation between the convolutions, anything `keras.activations.get` takes.
        zero_init_last_scale: Whether the last normalization's scale starts at zero, so that the
            block starts as its shortcut (Goyal et al. 2017, section 5.1).
        norm: `"batch"`, `"sync_batch"`, `"group"`, `None` or a function that makes a layer, as
            `reszoo.layers.normalization` takes it.
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
        norm="batch",
        *,
        dtype=None,
        **kwargs,
    ):
        sizes = {"filters": filters, "strides": strides, "expansion": expansion}
        check_positive_integers(type(self).__name__, **sizes)
        options = {**convolution_options(norm), "dtype": dtype}
        convolutions = [
            Convolution(filters, 1, name="conv1", **options),
            Convolution(filters, 3, strides, name="conv2", **options),
            Convolution(filters * expansion, 1, name="conv3", **options),
        ]
        super().__init__(
            convolutions, activation, zero_init_last_scale, norm, dtype=dtype, **kwargs
        )
        self.filters = filters
        self.expansion = expansion

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "strides": self.strides,
            "expansion": self.expansion,
        }
