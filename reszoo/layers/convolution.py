"""Convolution as the residual-network papers and torchvision use it."""

import functools
from collections.abc import Callable
from typing import Any, Self

import keras
from keras import ops

from reszoo.layers.configured import Configured
from reszoo.layers.cpu_kernels import (
    convolves_each_group,
    cpu_convolution,
)
from reszoo.layers.normalization import Norm
from reszoo.layers.shapes import (
    Shape,
    Size,
    Tensor,
    axes_and_channels,
    check_padding,
    check_positive_integers,
    entries,
    per_axis,
    reached_taps,
    size_of,
    strided_shape,
    unpadded_shape,
)


@keras.saving.register_keras_serializable(package="reszoo")
class Convolution(Configured):
    """A convolution of any number of spatial axes, padded by the same amount on every side.

    Keras's `padding="same"` pads a strided convolution of an even-sized image on one side only;
    torchvision, and the networks trained with it, pad both. Weights that were trained with one fit
    the other too, and give wrong outputs. They are drawn from He's normal distribution by fan-out
    (He et al. 2015, "Delving deep into rectifiers", section 2.2).

    Args:
        filters: Number of output channels.
        kernel_size: Size of the kernel in pixels, along every spatial axis, or a tuple of one for
            each; odd where the padding is symmetric.
        strides: Stride in pixels, along every spatial axis, or a tuple of one for each.
        groups: Number of groups that the channels are split into, each convolved by itself.
        dilation_rate: Distance of the kernel's taps in pixels, along every spatial axis, or a tuple
            of one for each.
        use_bias: Whether a bias is added; it has no effect before a batch normalization.
        padding: `"symmetric"`, as many zeros on every side (torchvision); `"same"`, as Keras and
            TensorFlow pad, at the end of an axis where one side needs more; or `"valid"`, none.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`; without padding, of as
        many pixels as kernels fit.

    Raises:
        ValueError: If a size is not a positive integer, `kernel_size` is even though the padding
            is symmetric, `strides` and `dilation_rate` are both above 1, there is no such padding,
            or `groups` does not divide both numbers of channels.

    Example:

    >>> Convolution(16, 3, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 16])
    >>> Convolution(16, (3, 7, 7), strides=(1, 2, 2))(keras.ops.ones((1, 4, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 4, 16])
    """

    weight_standardization = False  # `standardized` sets it
    sizes = ("kernel_size", "strides", "dilation_rate")
    arguments = ("filters", *sizes, "groups", "use_bias", "padding")

    def __init__(
        self,
        filters: int,
        kernel_size: Size,
        strides: Size = 1,
        groups: int = 1,
        dilation_rate: Size = 1,
        use_bias: bool = False,
        padding: str = "symmetric",
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        owner = type(self).__name__
        check_positive_integers(owner, filters=filters, groups=groups)
        check_padding(owner, padding)
        self.filters = filters
        self.kernel_size = size_of(owner, "kernel_size", kernel_size)
        self.strides = size_of(owner, "strides", strides)
        self.groups = groups
        self.dilation_rate = size_of(owner, "dilation_rate", dilation_rate)
        self.use_bias = use_bias
        self.padding = padding
        self._check_sizes()

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "weight_standardization": self.weight_standardization}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        given = {key: config[key] for key in config if key != "weight_standardization"}
        convolution = super().from_config(given)
        convolution.weight_standardization = config.get("weight_standardization", False)
        return convolution

    def build(self, input_shape: Shape) -> None:
        rank, channels = axes_and_channels(input_shape, type(self).__name__)
        if channels % self.groups or self.filters % self.groups:
            raise ValueError(
                f"Convolution {self.name!r} got groups={self.groups}, which does not divide both "
                f"the {channels} input channels and filters={self.filters}."
            )
        kernel_size, _, _ = self._along(rank)
        self.compute_output_shape(input_shape)  # raises where no kernel fits
        self.kernel = self.add_weight(
            shape=(*kernel_size, channels // self.groups, self.filters),
            initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            name="kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, x: Tensor) -> Tensor:
        # JAX takes a variable's value in some operations, and not the variable.
        kernel = ops.convert_to_tensor(self.kernel)
        kernel = standardized_kernel(kernel) if self.weight_standardization else kernel
        x, kernel, padding = self._padded(x, kernel)
        y = self._convolve(x, kernel, padding)
        return ops.add(y, self.bias) if self.use_bias else y

    def _padded(self, x: Tensor, kernel: Tensor) -> tuple[Tensor, Tensor, str]:
        """Returns the input and the kernel as they are convolved, and the convolution's padding.

        The input is padded where the convolution itself cannot. Taps of the kernel that see nothing
        but padding, as most do in the last stage of a network for small images, are left out.
        """
        if self.padding != "symmetric":
            return x, kernel, self.padding
        along: Any = self._along(len(x.shape) - 2)
        kernel_size, strides, _ = along
        taps = [reached_taps(*sizes) for sizes in zip(x.shape[1:-1], *along, strict=True)]
        if any(taken.count < size for taken, size in zip(taps, kernel_size, strict=True)):
            kernel = kernel[tuple(slice(taken.first, taken.first + taken.count) for taken in taps)]
        # With a stride of 1, "same" pads both sides equally, and saves a copy of the input.
        if max(strides) == 1 or max(kernel_size) == 1:
            return x, kernel, "same"
        if any(taken.before or taken.after for taken in taps):
            x = ops.pad(x, [(0, 0), *((taken.before, taken.after) for taken in taps), (0, 0)])
        return x, kernel, "valid"

    def _convolve(self, x: Tensor, kernel: Tensor, padding: str) -> Tensor:
        along: Any = self._along(len(x.shape) - 2)  # Keras's types lack tuples
        _, strides, rates = along

        def convolve(x: Tensor, kernel: Tensor) -> Tensor:
            faster = cpu_convolution(x, kernel, strides, padding, rates)
            if faster is not None:
                return faster(x, kernel)
            return ops.conv(x, kernel, strides, padding, "channels_last", rates)

        if self.groups == 1 or not convolves_each_group():
            return convolve(x, kernel)
        images: Any = ops.split(x, self.groups, -1)
        kernels: Any = ops.split(kernel, self.groups, -1)
        parts = zip(images, kernels, strict=True)
        return ops.concatenate([convolve(*part) for part in parts], -1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if self.padding != "valid":
            return strided_shape(input_shape, self.strides, self.filters)
        kernel_size, strides, rates = self._along(len(input_shape) - 2)
        spans = [rate * (size - 1) + 1 for size, rate in zip(kernel_size, rates, strict=True)]
        return unpadded_shape(input_shape, tuple(spans), strides, self.filters)

    def _along(self, axes: int) -> list[tuple[int, ...]]:
        """Returns the sizes of the kernel, the strides and the dilation rates of each axis."""
        owner = f"{type(self).__name__} {self.name!r}"
        return [per_axis(owner, argument, getattr(self, argument), axes) for argument in self.sizes]

    def _check_sizes(self) -> None:
        owner = type(self).__name__
        kernel_size = entries(self.kernel_size)
        if self.padding == "symmetric" and not all(size % 2 for size in kernel_size):
            raise ValueError(
                f"{owner} got kernel_size={self.kernel_size}, which cannot be padded alike on "
                f"both sides. Give an odd one, for example {max(kernel_size) // 2 * 2 + 1}, or "
                'padding="same" or "valid".'
            )
        if max(entries(self.strides)) > 1 and max(entries(self.dilation_rate)) > 1:
            raise ValueError(
                f"{owner} got strides={self.strides} and dilation_rate={self.dilation_rate}. "
                "Give at most one of them above 1."
            )


def standardized(convolution: Convolution) -> Convolution:
    """Returns a convolution, its filters standardized to mean 0 and variance 1 before each use.

    It is usual with group normalization.

    Args:
        convolution: The convolution.

    Reference:
        Qiao et al. 2019, "Micro-batch training with batch-channel normalization and weight
        standardization", section 3.

    Example:

    >>> standardized(Convolution(16, 3)).weight_standardization
    True
    """
    convolution.weight_standardization = True
    return convolution


def convolution_before(norm: Norm) -> Callable[..., Convolution]:
    """Returns the convolution that is followed by a normalization.

    Args:
        norm: The normalization, as in `normalization`.

    Returns:
        A function of the arguments of `Convolution`: its filters are standardized where the norm
        is `"group"`, and it has a bias where the norm is `None`.

    Example:

    >>> convolution_before(None)(8, 3).use_bias
    True
    """
    make = functools.partial(Convolution, use_bias=norm is None)
    if norm != "group":
        return make
    return lambda *sizes, **options: standardized(make(*sizes, **options))


def standardized_kernel(kernel: Tensor) -> Tensor:
    """Returns a kernel, its filters of mean 0 and variance 1, as a `standardized` convolution has.

    Args:
        kernel: The kernel, output channels last.
    """
    axes = tuple(range(len(kernel.shape) - 1))
    moments: Any = ops.moments(kernel, axes, keepdims=True)
    mean, variance = moments
    return (kernel - mean) * ops.rsqrt(variance + 1e-8)
