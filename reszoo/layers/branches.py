"""The branches `f(x)` of He et al.: basic and bottleneck, and the order of their layers."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras

from reszoo.layers.chain import Chain
from reszoo.layers.convolution import Convolution, convolution_before
from reszoo.layers.normalization import Norm, normalization
from reszoo.layers.shapes import (
    Size,
    check_padding,
    check_positive_integers,
    entries,
    joined,
    per_axis,
    size_of,
)


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

    The order of He et al. 2016: no layer is on the path of identity shortcuts from block to block.

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
    """The part that both branches share: convolutions in the order of `post_activation`.

    Args:
        convolutions: The convolutions, first to last.
        activation: Activation between the convolutions, anything `keras.activations.get` takes.
        zero_init_last_scale: Whether the last normalization's scale starts at zero.
        norm: The normalization, anything `reszoo.layers.normalization` takes.
    """

    arguments = ("activation", "zero_init_last_scale", "norm")

    def __init__(
        self,
        convolutions: Sequence[Convolution],
        activation: str | Callable,
        zero_init_last_scale: bool,
        norm: Norm,
        **kwargs: Any,
    ):
        layers = post_activation(convolutions, norm, activation, zero_init_last_scale)
        super().__init__(layers, **kwargs)
        self.activation = keras.activations.get(activation)
        self.zero_init_last_scale = zero_init_last_scale
        self.norm = norm

    @property
    def convolutions(self) -> list[Convolution]:
        """The convolutions alone, first to last, to put them into another order."""
        return [layer for layer in self.layers if isinstance(layer, Convolution)]


@keras.saving.register_keras_serializable(package="reszoo")
class BasicBranch(PostActivationBranch):
    """Two 3x3 convolutions, each with a normalization, and an activation between them.

    The branch of ResNet-18 and 34. There is no activation after the second normalization:
    `ResidualBlock` applies it after the addition. Works on one, two or three spatial axes. For the
    order of ResNet v2, give its `convolutions` to `pre_activation`; for more layers, put its
    `layers` into a list with them.

    Args:
        filters: Number of output channels of both convolutions.
        strides: Stride of the first convolution in pixels, along every spatial axis, or a tuple of
            one for each.
        activation: Activation between the convolutions, anything `keras.activations.get` takes.
        zero_init_last_scale: Whether the last normalization's scale starts at zero, so that the
            block starts as its shortcut (Goyal et al. 2017, section 5.1).
        norm: `"batch"`, `"sync_batch"`, `"group"`, `None` or a function that makes a layer, as
            `reszoo.layers.normalization` takes it.
        dilation_rates: Distance of the kernel's taps, in pixels, in either convolution.
        padding: Padding of a convolution with a stride, `"symmetric"`, `"same"` or `"valid"`, as in
            `Convolution`; one without keeps the size.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Raises:
        ValueError: If a size is not a positive integer, there is no such padding, or the input has
            no spatial axis.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition", figure 5 left.

    Example:

    >>> BasicBranch(16, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 16])
    """

    arguments = ("filters", "strides", *PostActivationBranch.arguments, "dilation_rates", "padding")

    def __init__(
        self,
        filters: int,
        strides: Size = 1,
        activation: str | Callable = "relu",
        zero_init_last_scale: bool = False,
        norm: Norm = "batch",
        dilation_rates: Sequence[Size] = (1, 1),
        padding: str = "symmetric",
        **kwargs: Any,
    ):
        owner = type(self).__name__
        check_positive_integers(owner, filters=filters)
        check_padding(owner, padding)
        strides = size_of(owner, "strides", strides)
        first, second = _pair(owner, dilation_rates)
        convolution = functools.partial(
            convolution_before(norm), filters, 3, dtype=kwargs.get("dtype")
        )
        at_stride = padding if max(entries(strides)) > 1 else "symmetric"
        convolutions = [
            convolution(strides, dilation_rate=first, padding=at_stride, name="conv1"),
            convolution(dilation_rate=second, name="conv2"),
        ]
        super().__init__(convolutions, activation, zero_init_last_scale, norm, **kwargs)
        self.filters = filters
        self.strides = strides
        self.dilation_rates = [first, second]
        self.padding = padding


@keras.saving.register_keras_serializable(package="reszoo")
class BottleneckBranch(PostActivationBranch):
    """A 1x1, a 3x3 and a 1x1 convolution, each with a normalization.

    The branch of ResNet-50, 101 and 152. The stride is on the 3x3 convolution ("v1.5", as in
    torchvision), which is more accurate than on the first 1x1. There is no activation after the
    last normalization: `ResidualBlock` applies it after the addition. For the order of ResNet v2,
    give its `convolutions` to `pre_activation`; for more layers, put its `layers` into a list with
    them.

    Args:
        filters: Number of channels inside; the output has `expansion * filters`.
        strides: Stride of the branch in pixels, along every spatial axis, or a tuple of one for
            each.
        expansion: Output channels per inner channel.
        activation: Activation between the convolutions, anything `keras.activations.get` takes.
        zero_init_last_scale: Whether the last normalization's scale starts at zero, so that the
            block starts as its shortcut (Goyal et al. 2017, section 5.1).
        norm: `"batch"`, `"sync_batch"`, `"group"`, `None` or a function that makes a layer, as
            `reszoo.layers.normalization` takes it.
        inner: The `Convolution` in the middle, such as a grouped or a dilated one; `None` for a 3x3
            one of `filters` and `strides`. The first 1x1 has the same number of filters, and the
            rest of the stride: `strides` divided by the stride of `inner`.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), expansion * filters)`.

    Raises:
        ValueError: If a size is not a positive integer, `strides` is not a multiple of the stride
            of `inner`, or the input has no spatial axis.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition", figure 5 right.

    Example:

    >>> BottleneckBranch(16, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 64])
    >>> resnext = BottleneckBranch(64, strides=2, inner=Convolution(128, 3, strides=2, groups=32))
    >>> resnext(keras.ops.ones((1, 8, 8, 256))).shape
    TensorShape([1, 4, 4, 256])
    """

    arguments = ("filters", "strides", "expansion", *PostActivationBranch.arguments, "inner")

    def __init__(
        self,
        filters: int,
        strides: Size = 1,
        expansion: int = 4,
        activation: str | Callable = "relu",
        zero_init_last_scale: bool = False,
        norm: Norm = "batch",
        inner: Convolution | None = None,
        **kwargs: Any,
    ):
        owner = type(self).__name__
        check_positive_integers(owner, filters=filters, expansion=expansion)
        strides = size_of(owner, "strides", strides)
        convolution = functools.partial(convolution_before(norm), dtype=kwargs.get("dtype"))
        middle = inner or convolution(filters, 3, strides, name="conv2")
        convolutions = [
            convolution(middle.filters, 1, _rest(owner, strides, middle.strides), name="conv1"),
            middle,
            convolution(filters * expansion, 1, name="conv3"),
        ]
        super().__init__(convolutions, activation, zero_init_last_scale, norm, **kwargs)
        self.filters = filters
        self.strides = strides
        self.expansion = expansion
        self.inner = inner


def _pair(owner: str, dilation_rates: Sequence[Size]) -> list[Size]:
    """Returns the dilation rates of both convolutions."""
    if not isinstance(dilation_rates, Sequence) or len(dilation_rates) != 2:
        raise ValueError(
            f"{owner} got dilation_rates={dilation_rates!r}, but they must be two, one for each "
            "convolution, such as (1, 2)."
        )
    return [size_of(owner, "dilation_rates", rate) for rate in dilation_rates]


def _rest(owner: str, strides: Size, inner: Size) -> Size:
    """Returns the strides that are left for the other convolutions of a branch."""
    axes = max(len(entries(strides)), len(entries(inner)))
    both = [per_axis(owner, "strides", size, axes) for size in (strides, inner)]
    pairs = list(zip(*both, strict=True))
    if any(whole % part for whole, part in pairs):
        raise ValueError(
            f"{owner} got strides={strides} and an inner convolution of strides={inner}, but "
            "strides must be a multiple of that."
        )
    return joined([whole // part for whole, part in pairs])
