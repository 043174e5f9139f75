"""Central finite differences, with an error of their own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

# Relative to the size of the input. Ten times shorter each, so that of a truncation error that
# falls with the square and a rounding error that grows as the step shrinks one pair has little.
STEPS = 10.0 ** -np.arange(2, 9)


@dataclass(frozen=True)
class Derivative:
    """A directional derivative and how far off it may be.

    Attributes:
        value: The derivative.
        error: A bound of its error, as it shows in the differences themselves.
    """

    value: float
    error: float


def derivative(function: Callable[[float], float], size: float, at_zero: float) -> Derivative:
    """Differentiates a function of one number at zero by central differences.

    Differences are taken at several steps, and each two that follow one another extrapolated to a
    step of zero (Richardson). The error of that is put at the sum of

    - how far it is from the extrapolation of the two steps before,
    - how far the gap between the differences to either side is from shrinking with the step. At a
      kink, of ReLU for instance, between the two ends it does not shrink,
    - the rounding of the function's values over the step.

    That with the least error is taken.

    Args:
        function: The function.
        size: What the steps are relative to.
        at_zero: Its value at zero.

    Example:

    >>> round(derivative(lambda t: np.exp(3 * t), 1.0, 1.0).value, 8)
    3.0
    >>> derivative(abs, 1.0, 0.0).error > 1
    True
    """
    steps = STEPS * size
    ahead, behind = (np.array([function(sign * h) for h in steps]) for sign in (1, -1))
    central = (ahead - behind) / (2 * steps)
    gap = (ahead - 2 * at_zero + behind) / steps
    ratio = STEPS[0] / STEPS[1]
    values = central[1:] + (central[1:] - central[:-1]) / (ratio**2 - 1)
    rounding = 4 * np.finfo(float).eps * np.maximum(np.abs(ahead), np.abs(behind)) / steps
    kinks = np.abs(gap[1:] - gap[:-1] / ratio)
    errors = np.abs(np.diff(values)) + kinks[1:] + rounding[2:]
    errors = np.where(np.isfinite(errors), errors, np.inf)
    best = np.argmin(errors)
    return Derivative(float(values[1:][best]), float(errors[best]))


def directions(x: np.ndarray, number: int, seed: int) -> list[Iterator[np.ndarray]]:
    """Returns directions of length 1 in which to differentiate by a tensor.

    Args:
        x: The tensor's value.
        number: How many. A tensor of no more elements has one for each of its elements.
        seed: Seed of the draw.

    Returns:
        Those to begin with, drawn at random among all; and others of which to take as many as of
        the ones before have a kink too near: first such that leave zeros of `x` alone, where ReLU
        often has its kink, then such of one element each. None if all elements are among the first.
    """
    if x.size <= number:
        every: Iterator[np.ndarray] = (_element(x.shape, i) for i in range(x.size))
        return [every]
    random, masked, chosen = (np.random.default_rng([seed, i]) for i in range(3))
    rounds: list[Iterator[np.ndarray]] = []
    rounds.append(_unit(random.normal(size=x.shape)) for _ in range(number))
    nonzero = np.flatnonzero(x) if x.any() else np.arange(x.size)
    if len(nonzero) < x.size:
        rounds.append(_unit(masked.normal(size=x.shape) * (x != 0)) for _ in range(number))
    drawn = chosen.choice(nonzero, min(number, len(nonzero)), replace=False)
    rounds.append(_element(x.shape, i) for i in drawn)
    return rounds


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x)


def _element(shape: tuple[int, ...], position: int) -> np.ndarray:
    x = np.zeros(shape)
    x.flat[position] = 1.0
    return x
