"""Convolution as the residual-network papers and torchvision use it."""

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
from reszoo.layers.tensorflow_kernels import convolve_on_cpu, serves_images_on_cpu


@keras.saving.register_keras_serializable(package="reszoo")
class Convolution(Configured):
    """A convolution of any number of spatial axes, padded by the same amount on every side.

    Keras's `padding="same"` pads a strided convolution of an even-sized image on one side only;
    torchvision, and the networks trained with it, pad both. Weights are drawn from He's normal
    distribution by fan-out (He et al. 2015, "Delving deep into rectifiers", section 2.2).

    Args:
        filters: Number of output channels.
        kernel_size: Size of the kernel along every spatial axis, odd, in pixels.
        strides: Stride along every spatial axis, in pixels.
        groups: Number of groups that the channels are split into, each convolved by itself.
        dilation_rate: Distance of the kernel's taps along every spatial axis, in pixels.
        use_bias: Whether a bias is added; it has no effect before a batch normalization.
        weight_standardization: Whether each filter is standardized to mean 0 and variance 1 before
            it is used (Qiao et al. 2019), as is usual with group normalization.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Raises:
        ValueError: If a size is not a positive integer, `kernel_size` is even, `strides` and
            `dilation_rate` are both above 1, or `groups` does not divide both numbers of channels.

    Reference:
        Qiao et al. 2019, "Micro-batch training with batch-channel normalization and weight
        standardization", section 3.

    Example:

    >>> Convolution(16, 3, strides=2)(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 4, 4, 16])
    """

    sizes = ("filters", "kernel_size", "strides", "groups", "dilation_rate")
    arguments = (*sizes, "use_bias", "weight_standardization")

    def __init__(
        self,
        filters: int,
        kernel_size: int,
        strides: int = 1,
        groups: int = 1,
        dilation_rate: int = 1,
        use_bias: bool = False,
        weight_standardization: bool = False,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.groups = groups
        self.dilation_rate = dilation_rate
        self.use_bias = use_bias
        self.weight_standardization = weight_standardization
        self._check_arguments()

    def build(self, input_shape: Shape) -> None:
        rank, channels = axes_and_channels(input_shape, type(self).__name__)
        if channels % self.groups or self.filters % self.groups:
            raise ValueError(
                f"Convolution {self.name!r} got groups={self.groups}, which does not divide both "
                f"the {channels} input channels and filters={self.filters}."
            )
        self.kernel = self.add_weight(
            shape=(*[self.kernel_size] * rank, channels // self.groups, self.filters),
            initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
            name="kernel",
        )
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    def call(self, x: Tensor) -> Tensor:
        kernel = _standardized(self.kernel) if self.weight_standardization else self.kernel
        # With a stride of 1, "same" pads both sides equally, and saves a copy of the input.
        padding = "same"
        if self.strides > 1 and self.kernel_size > 1:
            reach = self.kernel_size // 2
            x = ops.pad(x, [(0, 0), *[(reach, reach)] * (len(x.shape) - 2), (0, 0)])
            padding = "valid"
        y = self._convolve(x, kernel, padding)
        return ops.add(y, self.bias) if self.use_bias else y

    def _convolve(self, x: Tensor, kernel: Tensor, padding: str) -> Tensor:
        def convolve(x: Tensor, kernel: Tensor) -> Tensor:
            if serves_images_on_cpu(x, self.strides, self.dilation_rate):
                return convolve_on_cpu(x, kernel)
            return ops.conv(x, kernel, self.strides, padding, "channels_last", self.dilation_rate)

        if self.groups == 1 or keras.distribution.list_devices("gpu"):
            return convolve(x, kernel)
        # On CPU, Keras compiles grouped convolutions with XLA, which is many times slower than one
        # convolution per group (benchmarks/models.py --grouped).
        images: Any = ops.split(x, self.groups, -1)
        kernels: Any = ops.split(kernel, self.groups, -1)
        parts = zip(images, kernels, strict=True)
        return ops.concatenate([convolve(*part) for part in parts], -1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return strided_shape(input_shape, self.strides, self.filters)

    def _check_arguments(self) -> None:
        sizes = {argument: getattr(self, argument) for argument in self.sizes}
        check_positive_integers(type(self).__name__, **sizes)
        if self.kernel_size % 2 == 0:
            raise ValueError(
                f"Convolution got kernel_size={self.kernel_size}, which cannot be padded alike on "
                f"both sides. Give an odd one, for example {self.kernel_size + 1}."
            )
        if self.strides > 1 and self.dilation_rate > 1:
            raise ValueError(
                f"Convolution got strides={self.strides} and dilation_rate={self.dilation_rate}. "
                "Give at most one of them above 1."
            )


def _standardized(kernel: Tensor) -> Tensor:
    axes = tuple(range(len(kernel.shape) - 1))
    moments: Any = ops.moments(kernel, axes, keepdims=True)
    mean, variance = moments
    return (kernel - mean) * ops.rsqrt(variance + 1e-8)
