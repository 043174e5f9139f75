"""Which shortcut each block of a network gets: the choices by name."""

from collections.abc import Callable

import keras

from reszoo.layers import ProjectionShortcut, StopGradSkip, ZeroPadShortcut

ShortcutChoice = Callable[[int, int, int], keras.layers.Layer | None]


def projection(input_channels: int, filters: int, strides: int) -> keras.layers.Layer | None:
    """Identity where the shapes agree, else a projection (He et al. 2015, option B)."""
    if strides == 1 and input_channels == filters:
        return None
    return ProjectionShortcut(filters, strides, name="projection")


def zero_pad(input_channels: int, filters: int, strides: int) -> keras.layers.Layer | None:
    """Identity where the shapes agree, else zero padding (He et al. 2015, option A)."""
    if strides == 1 and input_channels == filters:
        return None
    return ZeroPadShortcut(filters, strides, name="zero_pad")


def stop_gradient(input_channels: int, filters: int, strides: int) -> keras.layers.Layer | None:
    """The shortcut of `projection` with the gradient stopped: `y = sg(s(x)) + f(x)`."""
    return StopGradSkip(projection(input_channels, filters, strides), name="stop_gradient")


SHORTCUTS: dict[str, ShortcutChoice] = {
    "projection": projection,
    "zero_pad": zero_pad,
    "stop_gradient": stop_gradient,
}


def shortcut_choice(shortcut: str | ShortcutChoice) -> ShortcutChoice:
    """Returns the function that makes each block's shortcut.

    Args:
        shortcut: `"projection"`, `"zero_pad"`, `"stop_gradient"`, or a function of
            `(input_channels, filters, strides)` that returns a Keras layer or `None`.

    Returns:
        That function.

    Raises:
        ValueError: If there is no such name.
    """
    if callable(shortcut):
        return shortcut
    if shortcut not in SHORTCUTS:
        raise ValueError(
            f"There is no shortcut {shortcut!r}. Give one of {', '.join(map(repr, SHORTCUTS))}, or "
            "a function of (input_channels, filters, strides) that returns a Keras layer or None."
        )
    return SHORTCUTS[shortcut]
