"""Channels-last shapes, and the checks of sizes that layers share."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

Shape = tuple[int | None, ...]
Size = int | tuple[int, ...]  # along every spatial axis, or one for each
Tensor = Any  # each backend has its own class

PADDINGS = ("symmetric", "same", "valid")

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


def size_of(owner: str, argument: str, value: int | Sequence[int]) -> Size:
    """Returns a size, one integer or a tuple of one for each spatial axis.

    Args:
        owner: The layer that the error names.
        argument: Name of its argument.
        value: The argument's value; a list, as in a configuration, is made a tuple.

    Raises:
        ValueError: If it is not made of integers of at least 1.

    Example:

    >>> size_of("Convolution", "strides", [1, 2, 2])
    (1, 2, 2)
    """
    if isinstance(value, list | tuple) and value and all(map(_is_positive_integer, value)):
        return tuple(value)
    if _is_positive_integer(value):
        return value  # pyright: ignore[reportReturnType]
    raise ValueError(
        f"{owner} got {argument}={value!r}, but {argument} must be an integer of at least 1, or a "
        "tuple of them, one for each spatial axis."
    )


def per_axis(owner: str, argument: str, size: Size, axes: int) -> tuple[int, ...]:
    """Returns a size as a tuple of one integer for each spatial axis.

    Args:
        owner: The layer that the error names.
        argument: Name of its argument.
        size: One integer, or one for each axis.
        axes: Number of spatial axes.

    Raises:
        ValueError: If the size is for another number of axes.

    Example:

    >>> per_axis("Convolution", "strides", 2, axes=3)
    (2, 2, 2)
    """
    if not isinstance(size, tuple):
        return (size,) * axes
    if len(size) != axes:
        raise ValueError(
            f"{owner} got {argument}={size}, which has {len(size)} entries, but there must be one "
            f"for each of the {axes} spatial axes. Give as many, or one integer."
        )
    return size


def entries(size: Size) -> tuple[int, ...]:
    """Returns the integers of a size.

    Args:
        size: One integer, or one for each axis.

    Example:

    >>> entries(2), entries((1, 2, 2))
    ((2,), (1, 2, 2))
    """
    return size if isinstance(size, tuple) else (size,)


def joined(sizes: Sequence[int]) -> Size:
    """Returns one integer where the sizes of all axes are equal, else a tuple of them.

    Args:
        sizes: One size for each axis.

    Example:

    >>> joined((2, 2)), joined((1, 2, 2))
    (2, (1, 2, 2))
    """
    return sizes[0] if len(set(sizes)) == 1 else tuple(sizes)


def check_padding(owner: str, padding: str) -> None:
    """Checks the name of a padding.

    Args:
        owner: The layer or model that the error names.
        padding: The name.

    Raises:
        ValueError: If there is no such padding.
    """
    if padding not in PADDINGS:
        raise ValueError(
            f"{owner} got padding={padding!r}, but padding must be one of "
            f"{', '.join(map(repr, PADDINGS))}."
        )


def strided_shape(input_shape: Shape, strides: Size, channels: int | None) -> Shape:
    """Returns a channels-last shape after every `strides`-th pixel was taken.

    Args:
        input_shape: Shape such as `(batch, height, width, channels)`; sizes may be `None`.
        strides: Distance of the pixels taken, along every spatial axis or one for each.
        channels: Number of channels of the returned shape.

    Example:

    >>> strided_shape((None, 7, 8, 3), 2, 16)
    (None, 4, 4, 16)
    """
    batch, *spatial, _ = input_shape
    steps = per_axis("A layer", "strides", strides, len(spatial))
    sizes = zip(spatial, steps, strict=True)
    return (batch, *(None if size is None else -(-size // step) for size, step in sizes), channels)


def unpadded_shape(input_shape: Shape, window: Size, strides: Size, channels: int | None) -> Shape:
    """Returns a channels-last shape after windows were moved over it without padding.

    Args:
        input_shape: Shape such as `(batch, height, width, channels)`; sizes may be `None`.
        window: Pixels that a window spans, along every spatial axis or one for each.
        strides: Distance of the windows, likewise.
        channels: Number of channels of the returned shape.

    Raises:
        ValueError: If no window fits.

    Example:

    >>> unpadded_shape((None, 7, 8, 3), 3, 2, 16)
    (None, 3, 3, 16)
    """
    _, *spatial, _ = input_shape
    spans = per_axis("A layer", "window", window, len(spatial))
    if any(size is not None and size < span for size, span in zip(spatial, spans, strict=True)):
        raise ValueError(
            f"An input of shape {tuple(input_shape)} is smaller than the window of {spans} pixels, "
            'which must fit where padding="valid". Give larger images, or another padding.'
        )
    rest = [size and size - span + 1 for size, span in zip(spatial, spans, strict=True)]
    return strided_shape((input_shape[0], *rest, channels), strides, channels)


class Taps(NamedTuple):
    """Taps of a symmetrically padded kernel along one axis, and the padding that they need.

    Args:
        first: The first of them.
        count: Their number.
        before: Pixels of padding before the image.
        after: Pixels of padding after it.
    """

    first: int
    count: int
    before: int
    after: int


def reached_taps(pixels: int | None, size: int, stride: int, rate: int) -> Taps:
    """Returns the taps of a kernel that reach any pixel of the image, along one axis.

    Args:
        pixels: Size of the image; `None` if it is not known, for which these are all.
        size: Odd size of the kernel, padded by half of it on both sides.
        stride: Distance of the kernel's places, in pixels.
        rate: Distance of its taps, in pixels; 1 if `stride` is above 1.

    Example:

    >>> reached_taps(32, 3, stride=2, rate=1)
    Taps(first=0, count=3, before=1, after=0)
    >>> reached_taps(2, 3, stride=2, rate=1)  # the first tap sees nothing but padding
    Taps(first=1, count=2, before=0, after=0)
    >>> reached_taps(1, 3, stride=1, rate=1)
    Taps(first=1, count=1, before=0, after=0)
    """
    half = size // 2
    if not isinstance(pixels, int) or pixels < 1:
        return Taps(0, size, half * rate, half * rate)
    last_place = (pixels - 1) // stride * stride
    first = max(0, half - last_place // rate)
    last = min(size - 1, half + (pixels - 1) // rate)
    before = (half - first) * rate
    after = last_place + (last - half) * rate - (pixels - 1)
    return Taps(first, last - first + 1, before, max(0, after))


def check_positive_integers(owner: str, **sizes: int) -> None:
    """Raises unless all sizes are integers of at least 1.

    Args:
        owner: The layer or model that the error names.
        **sizes: Arguments by name, with their values.

    Raises:
        ValueError: If a size is not an integer of at least 1.
    """
    for argument, value in sizes.items():
        if not _is_positive_integer(value):
            raise ValueError(
                f"{owner} got {argument}={value!r}, but {argument} must be an integer of at least "
                "1."
            )


def _is_positive_integer(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1
