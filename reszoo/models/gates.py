"""Gates on the two paths of each block, forward or backward; the choices by name."""

from collections.abc import Callable
from typing import Any

import keras

from reszoo.layers import (
    ConstantScale,
    Convolution,
    ExclusiveGatedBlock,
    GradientScale,
    ResidualBlock,
    StopGradient,
    StopGradSkip,
)
from reszoo.models.shortcuts import followed_by

Branch = list[keras.layers.Layer]
Shortcut = keras.layers.Layer | None
GateChoice = Callable[..., ResidualBlock]


def stop_branch_output(branch: Branch, shortcut: Shortcut, **block: Any) -> ResidualBlock:
    """`y = s(x) + sg(f(x))`: the branches learn nothing."""
    return ResidualBlock([*branch, StopGradient(name="stop_gradient")], shortcut, **block)


def stop_branch_input(branch: Branch, shortcut: Shortcut, **block: Any) -> ResidualBlock:
    """`y = s(x) + f(sg(x))`: no gradient passes a branch to the block's input."""
    return ResidualBlock([StopGradient(name="stop_gradient"), *branch], shortcut, **block)


def stop_skip(branch: Branch, shortcut: Shortcut, **block: Any) -> ResidualBlock:
    """`y = sg(s(x)) + f(x)`, as `shortcut="stop_gradient"`; kept for earlier configurations."""
    return ResidualBlock(branch, StopGradSkip(shortcut, name="stop_gradient"), **block)


def scale_branch(branch: Branch, shortcut: Shortcut, **block: Any) -> ResidualBlock:
    """A `GradientScale` at each branch's input, 1 at the start; set it while training."""
    return ResidualBlock([GradientScale(name="gradient_scale"), *branch], shortcut, **block)


def scale_skip(branch: Branch, shortcut: Shortcut, **block: Any) -> ResidualBlock:
    """A `GradientScale` on each skip, 1 at the start; set it while training."""
    scale = GradientScale(name="gradient_scale")
    return ResidualBlock(branch, followed_by(shortcut, scale), **block)


def half_both(branch: Branch, shortcut: Shortcut, **block: Any) -> ResidualBlock:
    """`y = s(x) / 2 + f(x) / 2` (He et al. 2016, constant scaling of both)."""
    half = [ConstantScale(0.5, name="half") for _ in range(2)]
    return ResidualBlock([*branch, half[0]], followed_by(shortcut, half[1]), **block)


def exclusive(branch: Branch, shortcut: Shortcut, **block: Any) -> ResidualBlock:
    """`y = (1 - g(x)) s(x) + g(x) f(x)`, initial bias -6 (He et al. 2016, exclusive gating)."""
    if not any(isinstance(layer, Convolution) for layer in branch):
        raise ValueError('The gate "exclusive" is made of a convolution, but the branch has none.')
    return ExclusiveGatedBlock(branch, shortcut=shortcut, **block)


GATES: dict[str, GateChoice] = {
    "stop_branch_output": stop_branch_output,
    "stop_branch_input": stop_branch_input,
    "stop_skip": stop_skip,
    "scale_branch": scale_branch,
    "scale_skip": scale_skip,
    "half_both": half_both,
    "exclusive": exclusive,
}


def gate_choice(gate: str | GateChoice | None, remat: bool = False) -> GateChoice:
    """Returns the function that makes each block from its two paths.

    Args:
        gate: A name in `GATES`, `None` for a plain `ResidualBlock`, or a function of the
            branch's layers, the shortcut (a layer or `None`), `activation` and `name` that returns
            a `ResidualBlock`.
        remat: Whether each block recomputes its activations, also where `gate` makes one that does
            not.

    Returns:
        A function of the same arguments, which makes one block.

    Raises:
        ValueError: If there is no such name.
    """
    if not callable(gate) and gate is not None and gate not in GATES:
        raise ValueError(
            f"There is no gate {gate!r}. It must be one of {', '.join(map(repr, GATES))}, None, "
            "or a function of (branch, shortcut, activation, name) that returns a ResidualBlock."
        )
    make = gate if callable(gate) else GATES.get(gate or "", ResidualBlock)

    def make_block(branch: Branch, shortcut: Shortcut, **block: Any) -> ResidualBlock:
        made = make(branch, shortcut, **block)
        if not isinstance(made, ResidualBlock):
            raise ValueError(
                "remat=True needs a gate that returns a ResidualBlock, but got "
                f"{type(made).__name__}."
            )
        made.remat = made.remat or remat
        return made

    return make_block if remat else make
