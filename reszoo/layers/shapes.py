"""Channels-last shapes, and the checks of sizes that layers share."""

from numbers import Integral
from typing import Any

Shape = tuple[int | None, ...]
Tensor = Any  # each backend has its own class

# The axes between the batch and the channels, by their number.
SPATIAL_AXES = {1: "steps", 2: "height, width", 3: "depth, height, width"}


def axes_and_channels(input_shape: Shape, layer_name: str) -> tuple[int, int]:
    """Returns the number of spatial axes (1, 2 or 3) and of channels of a channels-last shape.

    Args:
        input_shape: Shape such as `(batch, height, width, channels)`.
        layer_name: The layer that the error names.

    Raises:
        ValueError: If the shape has another number of spatial axes, or unknown channels.

    Example:

    >>> axes_and_channels((None, 32, 32, 3), "stem")
    (2, 3)
    """
    axes, channels = len(input_shape) - 2, input_shape[-1]
    if axes not in SPATIAL_AXES or channels is None:
        shapes = " or ".join(f"(batch, {names}, channels)" for names in SPATIAL_AXES.values())
        raise ValueError(
            f"{layer_name} got an input of shape {tuple(input_shape)}, but it must be {shapes}, "
            "with a known number of channels. For vectors, build the branch from "
            "keras.layers.Dense."
        )
    return axes, channels


def strided_shape(input_shape: Shape, strides: int, channels: int | None) -> Shape:
    """Returns a channels-last shape after every `strides`-th pixel was taken.

    Args:
        input_shape: Shape such as `(batch, height, width, channels)`; sizes may be `None`.
        strides: Distance of the pixels taken, along every spatial axis.
        channels: Number of channels of the returned shape.

    Example:

    >>> strided_shape((None, 7, 8, 3), 2, 16)
    (None, 4, 4, 16)
    """
    batch, *spatial, _ = input_shape
    return (batch, *(None if size is None else -(-size // strides) for size in spatial), channels)


def check_positive_integers(owner: str, **sizes: int) -> None:
    """Raises unless all sizes are integers of at least 1.

    Args:
        owner: The layer or model that the error names.
        **sizes: Arguments by name, with their values.

    Raises:
        ValueError: If a size is not an integer of at least 1.
    """
    for argument, value in sizes.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
            raise ValueError(
                f"{owner} got {argument}={value!r}, but {argument} must be an integer of at least "
                "1."
            )
