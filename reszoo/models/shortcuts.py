"""Shortcuts of networks: the choices by name."""

from collections.abc import Callable

import keras

from reszoo.layers import (
    Chain,
    ConstantScale,
    Gate,
    GatedShortcut,
    StopGradSkip,
    ZeroPadShortcut,
    ZeroShortcut,
)
from reszoo.layers.shapes import Size

ShortcutChoice = Callable[[int, int, Size], keras.layers.Layer | None]
Projection = Callable[[int, Size], keras.layers.Layer]


def projection(project: Projection) -> ShortcutChoice:
    """Identity where the shapes agree, else a projection (He et al. 2015, option B)."""

    def choose(input_channels: int, filters: int, strides: Size) -> keras.layers.Layer | None:
        return None if strides == 1 and input_channels == filters else project(filters, strides)

    return choose


def always_projection(project: Projection) -> ShortcutChoice:
    """A projection in every block (He et al. 2015, option C; 2016, "1x1 convolution")."""
    return lambda input_channels, filters, strides: project(filters, strides)


def zero_pad(project: Projection) -> ShortcutChoice:
    """Identity where the shapes agree, else zero padding (He et al. 2015, option A)."""
    return projection(lambda filters, strides: ZeroPadShortcut(filters, strides, name="zero_pad"))


def none(project: Projection) -> ShortcutChoice:
    """No shortcut: a plain network (He et al. 2015, section 3.3)."""
    return lambda input_channels, filters, strides: ZeroShortcut(filters, strides, name="none")


def stop_gradient(project: Projection) -> ShortcutChoice:
    """The shortcut of `projection` with the gradient stopped: `y = sg(s(x)) + f(x)`."""
    choose = projection(project)
    return lambda *shape: StopGradSkip(choose(*shape), name="stop_gradient")


def constant_scale(project: Projection) -> ShortcutChoice:
    """The shortcut of `zero_pad` times 0.5 (He et al. 2016, constant scaling)."""
    base = zero_pad(project)
    return lambda *shape: followed_by(base(*shape), ConstantScale(0.5, name="scale"))


def dropout(project: Projection) -> ShortcutChoice:
    """The shortcut of `zero_pad` with dropout of 0.5 (He et al. 2016, dropout shortcut)."""
    base = zero_pad(project)
    return lambda *shape: followed_by(base(*shape), keras.layers.Dropout(0.5, name="dropout"))


def gated(project: Projection) -> ShortcutChoice:
    """The gated shortcut of `zero_pad`, initial bias -6 (He et al. 2016, shortcut-only gating)."""
    base = zero_pad(project)

    def choose(input_channels: int, filters: int, strides: Size) -> keras.layers.Layer | None:
        gate = Gate(filters, strides, initial_bias=-6.0, name="gate")
        return GatedShortcut(gate, base(input_channels, filters, strides), name="gated")

    return choose


def followed_by(shortcut: keras.layers.Layer | None, layer: keras.layers.Layer) -> Chain:
    """Returns a shortcut with one layer after it.

    Args:
        shortcut: The shortcut; `None` is the identity.
        layer: The layer applied to the shortcut's output.
    """
    return Chain([layer] if shortcut is None else [shortcut, layer], name="shortcut")


SHORTCUTS: dict[str, Callable[[Projection], ShortcutChoice]] = {
    "projection": projection,
    "always_projection": always_projection,
    "zero_pad": zero_pad,
    "none": none,
    "stop_gradient": stop_gradient,
    "constant_scale": constant_scale,
    "gated": gated,
    "dropout": dropout,
}


def shortcut_choice(shortcut: str | ShortcutChoice, project: Projection) -> ShortcutChoice:
    """Returns the function that makes each block's shortcut.

    Args:
        shortcut: A name in `SHORTCUTS`, or a function of `(input_channels, filters, strides)` that
            returns a Keras layer or `None`.
        project: Function of `(filters, strides)` that makes the network's projection.

    Returns:
        A function of `(input_channels, filters, strides)`.

    Raises:
        ValueError: If there is no such name.
    """
    if callable(shortcut):
        return shortcut
    if shortcut not in SHORTCUTS:
        raise ValueError(
            f"There is no shortcut {shortcut!r}. Give one of {', '.join(map(repr, SHORTCUTS))} "
            "or a function of (input_channels, filters, strides) that returns a layer or None."
        )
    return SHORTCUTS[shortcut](project)
