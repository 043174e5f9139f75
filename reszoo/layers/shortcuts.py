"""The shortcuts `s(x)`: projection, zero padding and stopped gradient."""

from typing import Any, cast

import keras
from keras import ops

from reszoo.layers.chain import Chain
from reszoo.layers.configured import Configured
from reszoo.layers.convolution import convolution_before
from reszoo.layers.cpu_kernels import first_of_strides
from reszoo.layers.normalization import Norm, normalization
from reszoo.layers.shapes import (
    Shape,
    Size,
    Tensor,
    axes_and_channels,
    check_positive_integers,
    per_axis,
    size_of,
    strided_shape,
)
from reszoo.layers.symbolic import build, output_of


@keras.saving.register_keras_serializable(package="reszoo")
class ProjectionShortcut(Chain):
    """A 1x1 convolution and a normalization, `W_s x`.

    It gives the input the branch's shape. Backward it is the transpose: the gradient passes through
    `W_s`, so it is not handed down unchanged.

    Args:
        filters: Number of output channels.
        strides: Stride of the convolution in pixels, along every spatial axis, or a tuple of one
            for each.
        norm: `"batch"`, `"sync_batch"`, `"group"`, `None` or a function that makes a layer, as
            `reszoo.layers.normalization` takes it.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Raises:
        ValueError: If `filters` or `strides` is not a positive integer.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition", section 3.3, options B
        and C.

    Example:

    >>> ProjectionShortcut(16, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 16])
    """

    arguments = ("filters", "strides", "norm")

    def __init__(self, filters: int, strides: Size = 1, norm: Norm = "batch", **kwargs: Any):
        check_positive_integers(type(self).__name__, filters=filters)
        strides = size_of(type(self).__name__, "strides", strides)
        dtype = kwargs.get("dtype")
        convolution = convolution_before(norm)(filters, 1, strides, name="conv", dtype=dtype)
        super().__init__([convolution, *normalization(norm, "norm", dtype=dtype)], **kwargs)
        self.filters = filters
        self.strides = strides
        self.norm = norm


@keras.saving.register_keras_serializable(package="reszoo")
class ZeroPadShortcut(Configured):
    """Takes every `strides`-th pixel and appends channels of zeros; it has no parameters.

    Backward it crops: the pixels that were taken get the gradient of the original channels
    unchanged, and the other pixels get zero.

    Args:
        filters: Number of output channels, at least that of the input.
        strides: Distance of the pixels taken, along every spatial axis, or a tuple of one for each.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Raises:
        ValueError: If `filters` or `strides` is not a positive integer, or the input has more
            channels than `filters`.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition", section 3.3, option A.

    Example:

    >>> ZeroPadShortcut(16, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 16])
    """

    arguments = ("filters", "strides")

    def __init__(self, filters: int, strides: Size = 1, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive_integers(type(self).__name__, filters=filters)
        self.filters = filters
        self.strides = size_of(type(self).__name__, "strides", strides)

    def build(self, input_shape: Shape) -> None:
        axes, channels = axes_and_channels(input_shape, type(self).__name__)
        self._along(axes)
        if channels > self.filters:
            raise ValueError(
                f"ZeroPadShortcut can only add channels: it got an input of shape "
                f"{tuple(input_shape)} with {channels} channels and filters={self.filters}. "
                f"Use ProjectionShortcut({self.filters}, strides={self.strides}) to reduce them."
            )

    def call(self, x: Tensor) -> Tensor:
        rank = len(x.shape) - 2
        strides = self._along(rank)
        if max(strides) > 1:
            x = first_of_strides(x, strides)
        missing = self.filters - x.shape[-1]
        if missing == 0:
            return x
        return ops.pad(x, [(0, 0)] * (rank + 1) + [(0, missing)])

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return strided_shape(input_shape, self.strides, self.filters)

    def _along(self, axes: int) -> tuple[int, ...]:
        return per_axis(f"ZeroPadShortcut {self.name!r}", "strides", self.strides, axes)


@keras.saving.register_keras_serializable(package="reszoo")
class StopGradSkip(Configured):
    """A shortcut that no gradient passes, `sg(s(x))`.

    Forward it is bit-identical to `s(x)`; backward it is zero, so the block's input and the
    weights of `s` learn nothing through it. A block with it, `y = sg(x) + f(x)`, shows the effect
    that the skip has in the forward pass alone.

    Args:
        shortcut: The shortcut `s`, a Keras layer; `None` is the identity.

    Call arguments:
        x: A tensor of any shape that `shortcut` takes.

    Input shape:
        That of `shortcut`.

    Output shape:
        That of `shortcut`.

    Raises:
        ValueError: If `shortcut` is neither a Keras layer nor `None`.

    Example:

    >>> x = keras.ops.ones((1, 8, 8, 16))
    >>> bool(keras.ops.all(StopGradSkip()(x) == x))
    True
    """

    arguments = ("shortcut",)

    def __init__(self, shortcut: keras.layers.Layer | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if shortcut is not None and not isinstance(shortcut, keras.layers.Layer):
            raise ValueError(
                f"StopGradSkip takes a Keras layer or None as shortcut, but got {shortcut!r}. "
                "For example: StopGradSkip(ProjectionShortcut(64, strides=2))."
            )
        self.shortcut = shortcut
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        if self.shortcut is not None:
            build(self.shortcut, keras.KerasTensor(input_shape, self.compute_dtype))

    def call(self, x: Tensor) -> Tensor:
        return ops.stop_gradient(x if self.shortcut is None else self.shortcut(x))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if self.shortcut is None:
            return tuple(input_shape)
        x = keras.KerasTensor(input_shape, self.compute_dtype)
        return tuple(output_of(self.shortcut, x).shape)


@keras.saving.register_keras_serializable(package="reszoo")
class ZeroShortcut(Configured):
    """No shortcut: zeros of the branch's shape, so that the block is a plain stack, `y = f(x)`.

    A plain network made with it has the names, the parameters and the plots of the residual one;
    its gradient through the skip is exactly zero.

    Args:
        filters: Number of output channels.
        strides: Stride of the branch in pixels, along every spatial axis, or a tuple of one for
            each.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with any number of spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Raises:
        ValueError: If `filters` or `strides` is not a positive integer.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition", section 3.3, plain network.

    Example:

    >>> ZeroShortcut(16, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 16])
    """

    arguments = ("filters", "strides")

    def __init__(self, filters: int, strides: Size = 1, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive_integers(type(self).__name__, filters=filters)
        self.filters = filters
        self.strides = size_of(type(self).__name__, "strides", strides)

    def call(self, x: Tensor) -> Tensor:
        batch, *spatial, _ = cast(tuple, ops.shape(x))
        steps = per_axis(f"ZeroShortcut {self.name!r}", "strides", self.strides, len(spatial))
        strided = [-(-size // step) for size, step in zip(spatial, steps, strict=True)]
        return ops.zeros((batch, *strided, self.filters), x.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return strided_shape(input_shape, self.strides, self.filters)
