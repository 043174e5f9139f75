"""Convolution and normalization as the residual-network papers and torchvision use them."""

from numbers import Integral

import keras

# He et al. 2015 and torchvision; Keras's own defaults are 1e-3 and 0.99, and converted weights do
# not reproduce with them.
BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.9

_CONVOLUTIONS = {1: keras.layers.Conv1D, 2: keras.layers.Conv2D, 3: keras.layers.Conv3D}
_PADDINGS = {
    1: keras.layers.ZeroPadding1D,
    2: keras.layers.ZeroPadding2D,
    3: keras.layers.ZeroPadding3D,
}


def spatial_rank(input_shape: tuple[int | None, ...], layer_name: str) -> int:
    """Returns how many spatial axes a channels-last shape has.

    Args:
        input_shape: Shape such as `(batch, height, width, channels)`.
        layer_name: Name of the asking layer, for the error.

    Returns:
        1, 2 or 3.

    Raises:
        ValueError: If the shape has another number of spatial axes, or unknown channels.

    Example:

    >>> spatial_rank((None, 32, 32, 3), "stem")
    2
    """
    rank = len(input_shape) - 2
    if rank not in _CONVOLUTIONS or input_shape[-1] is None:
        raise ValueError(
            f"{layer_name} got an input of shape {tuple(input_shape)}, but convolves channels-last "
            "inputs with a known number of channels: (batch, steps, channels), "
            "(batch, height, width, channels) or (batch, depth, height, width, channels). For "
            "vectors, build the branch from keras.layers.Dense."
        )
    return rank


def check_positive_integer(value: int, argument: str, layer_name: str) -> None:
    """Raises unless a constructor's argument is an integer of at least 1.

    Args:
        value: The argument's value.
        argument: The argument's name.
        layer_name: Name of the layer's class.

    Raises:
        ValueError: If `value` is not an integer, or is below 1.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(
            f"{layer_name} got {argument}={value!r}, but {argument} must be an integer of at "
            f"least 1, for example {layer_name}(filters=64, strides=2)."
        )


def convolution(
    rank: int,
    filters: int,
    kernel_size: int,
    strides: int = 1,
    dtype: keras.DTypePolicy | str | None = None,
) -> list[keras.layers.Layer]:
    """Returns the layers of a convolution without bias, padded by the same amount on every side.

    Keras's `padding="same"` pads a strided convolution of an even-sized image on one side only;
    torchvision, and the networks trained with it, pad both. Weights are drawn from He's normal
    distribution by fan-out (He et al. 2015, "Delving deep into rectifiers", section 2.2).

    Args:
        rank: Number of spatial axes: 1, 2 or 3.
        filters: Number of output channels.
        kernel_size: Size of the kernel along every spatial axis, odd, in pixels.
        strides: Stride along every spatial axis, in pixels.
        dtype: Dtype policy of the layers.

    Returns:
        One convolution, with a zero padding before it where the stride asks for it.

    Example:

    >>> [type(layer).__name__ for layer in convolution(2, 64, 3, strides=2)]
    ['ZeroPadding2D', 'Conv2D']
    """
    # A stride of 1 pads alike on both sides by itself, and saves a copy of the input.
    pads_itself = strides == 1 or kernel_size == 1
    convolve = _CONVOLUTIONS[rank](
        filters,
        kernel_size,
        strides=strides,
        padding="same" if pads_itself else "valid",
        data_format="channels_last",
        use_bias=False,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal"),
        dtype=dtype,
    )
    if pads_itself:
        return [convolve]
    return [
        _PADDINGS[rank](kernel_size // 2, data_format="channels_last", dtype=dtype),
        convolve,
    ]


def batch_norm(
    dtype: keras.DTypePolicy | str | None = None, zero_scale: bool = False
) -> keras.layers.BatchNormalization:
    """Returns a batch normalization over the channels, with the constants of the papers.

    Args:
        dtype: Dtype policy of the layer.
        zero_scale: Whether the scale starts at zero instead of one.

    Returns:
        A `keras.layers.BatchNormalization` with epsilon 1e-5 and momentum 0.9.
    """
    return keras.layers.BatchNormalization(
        axis=-1,
        momentum=BATCH_NORM_MOMENTUM,
        epsilon=BATCH_NORM_EPSILON,
        gamma_initializer="zeros" if zero_scale else "ones",
        dtype=dtype,
    )
