"""Central finite differences, with an estimate of their error."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

# Relative to the size of the input, each a tenth of the one before. The truncation error falls with
# the square of the step and the rounding error grows as it shrinks, so one pair has little of both.
STEPS = 10.0 ** -np.arange(2, 9)


@dataclass(frozen=True)
class Derivative:
    """A directional derivative and a bound of its error.

    Attributes:
        value: Change of the function per unit of its argument.
        error: A bound of the error, estimated from the differences themselves.
    """

    value: float
    error: float


def derivative(function: Callable[[float], float], size: float, at_zero: float) -> Derivative:
    """Differentiates a function of one number at zero by central differences.

    Differences are computed with several steps, and each pair of consecutive ones is extrapolated
    to a step of zero (Richardson). The error of an extrapolation is estimated as the sum of

    - its distance from the extrapolation of the pair before,
    - the deviation of the gap between the forward and the backward difference from shrinking in
      proportion to the step: if a kink, such as that of ReLU, is within the step, it does not
      shrink,
    - the rounding errors of the function's values, and of a sum of size `size` with the argument,
      divided by the step.

    The extrapolation with the smallest error is returned. If it is farther from others than ten
    times their errors, its own error is the excess: a function that is computed in float32 looks
    smooth to steps that float32 does not resolve, but does not have that derivative.

    Args:
        function: Takes and returns a number.
        size: The unit of the steps, which are 1e-2 to 1e-8 of it.
        at_zero: The function's value at zero.

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
    largest = np.maximum(np.abs(ahead), np.abs(behind))
    rounding = np.finfo(float).eps * (4 * largest + size * np.abs(central)) / steps
    kinks = np.abs(gap[1:] - gap[:-1] / ratio)
    errors = np.abs(np.diff(values)) + kinks[1:] + rounding[2:]
    errors = np.where(np.isfinite(errors), errors, np.inf)
    values, best = values[1:], np.argmin(errors)
    beyond = np.abs(values - values[best]) - 10 * errors
    return Derivative(float(values[best]), float(max(errors[best], *beyond)))


def directions(x: np.ndarray, number: int, seed: int) -> list[Iterator[np.ndarray]]:
    """Returns directions of length 1 for derivatives with respect to a tensor.

    Args:
        x: The tensor's value, of any shape.
        number: Number of directions. A tensor of no more elements has one for each element.
        seed: Seed of the draw.

    Returns:
        Up to three iterators. The first has random directions. The others have replacements for
        directions with a kink nearby: first random directions that are zero where `x` is zero,
        since ReLU often has its kink there, then single elements. There are no replacements if the
        first iterator has every element.
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
