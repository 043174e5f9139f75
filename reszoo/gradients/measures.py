"""Measures: the sums that are taken at each place of a block.

A measure has a formula, the names of its sums in their order, and the sets of statistics that need
them. Each name has the power of the gradient's unit in it: a loss scale is removed by dividing by
it to that power. The formulas are written once, with the reductions of the Keras backend in use
(`reszoo.gradients.backend`), which compute them on the device in one pass over each tensor.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras

from reszoo.gradients import backend
from reszoo.gradients.sums import Sums

Tensor = Any  # of the Keras backend in use

# Fourth powers of small gradients underflow in float32, so gradients are multiplied by this first.
FOURTH_POWER_MULTIPLE = 2.0**16
# Where the variance is a smaller fraction of the mean square, the difference of mean square and
# squared mean is not accurate in float32.
LEAST_VARIANCE = 1 / 32
# The places that the backward pass reaches.
BACKWARD_PLACES = ("fork", "input", "merge")


@dataclass(frozen=True)
class Measure:
    """Sums over the same tensors, at one place of a block.

    Attributes:
        place: `"fork"` (tensors `g_skip` and `g_branch`), `"input"` (`g_x`, their sum), `"merge"`
            (`g_y`), `"forward"` (`s(x)`, `f(x)` and their sum) or `"activation"` (the block's
            output).
        formula: Takes the place's tensors and returns the sums, of shape `(sums,)`.
        powers: The power of the gradient's unit in each of the sums, by name.
        sets: The sets of statistics that need it.
        maximum: Whether the largest value over calls and replicas is kept, instead of the sum.
        unscaled: Whether the formula needs the gradients themselves, without a loss scale.
    """

    place: str
    formula: Callable[..., Tensor]
    powers: Mapping[str, int]
    sets: tuple[str, ...]
    maximum: bool = False
    unscaled: bool = False


def fork_sums(skip: Tensor, branch: Tensor) -> Tensor:
    """Returns the sums of `FORK`.

    Args:
        skip: The gradient that came back through the skip, of shape `(batch, ...)`.
        branch: The gradient that came back through the branch, of the same shape.

    Returns:
        Shape `(7,)`.
    """
    reduce = backend.reductions
    sums, nonfinite = reduce.over_finite(Sums(squares=2, products=True), [skip, branch])
    return _joined(sums, reduce.elements(skip), reduce.examples(skip), nonfinite)


FORK = Measure(
    "fork",
    fork_sums,
    {
        "skip_gradient_squares": 2,
        "branch_gradient_squares": 2,
        "skip_branch_products": 2,
        "input_elements": 0,
        "examples": 0,
        "skip_gradient_nonfinite": 0,
        "branch_gradient_nonfinite": 0,
    },
    sets=("paths", "distribution", "noise_scale"),
)


def input_sums(*gradients: Tensor) -> Tensor:
    """Returns the sums of `INPUT`.

    Args:
        gradients: The gradient that leaves the block, of any shape; or those of both paths, whose
            sum it is.

    Returns:
        Shape `(1,)`.
    """
    return _joined(backend.reductions.squares_of_sum(*gradients))


INPUT = Measure("input", input_sums, {"input_gradient_squares": 2}, sets=("paths",))


def merge_sums(gradient: Tensor) -> Tensor:
    """Returns the sums of `MERGE`.

    Args:
        gradient: The gradient that reached the sum of the two paths, of any shape.

    Returns:
        Shape `(3,)`.
    """
    sums, nonfinite = backend.reductions.over_finite(Sums(squares=1), [gradient])
    return _joined(sums, backend.reductions.elements(gradient), nonfinite)


MERGE = Measure(
    "merge",
    merge_sums,
    {
        "output_gradient_squares": 2,
        "output_elements": 0,
        "output_gradient_nonfinite": 0,
    },
    sets=("paths",),
)


def forward_sums(skip: Tensor, branch: Tensor, y: Tensor) -> Tensor:
    """Returns the sums of `FORWARD`.

    Args:
        skip: The shortcut's output, of any shape.
        branch: The branch's output, of the same shape.
        y: Their sum.

    Returns:
        Shape `(6,)`.
    """
    reduce = backend.reductions

    def suffice(sums: Tensor, tensors: Sequence[Tensor]) -> Tensor:
        elements = reduce.elements(y)
        if not isinstance(elements, float):
            elements = keras.ops.cast(elements, sums.dtype)
        of_squares, totals = sums[:2] * elements, sums[3:]
        spread = of_squares - totals**2 >= LEAST_VARIANCE * of_squares
        return reduce.squares_suffice(sums, tensors) & spread[0] & spread[1]

    sums, _ = reduce.over_finite(Sums(squares=3, totals=2), [skip, branch, y], suffice)
    return _joined(sums[3:], sums[:3], reduce.elements(y))


FORWARD = Measure(
    "forward",
    forward_sums,
    {
        "skip_output_sum": 0,
        "branch_output_sum": 0,
        "skip_output_squares": 0,
        "branch_output_squares": 0,
        "sum_squares": 0,
        "forward_elements": 0,
    },
    sets=("forward",),
)


def activation_sums(y: Tensor) -> Tensor:
    """Returns the sums of `ACTIVATION`.

    Args:
        y: The block's output, of any shape.

    Returns:
        Shape `(3,)`.
    """
    reduce = backend.reductions
    total, _ = reduce.over_finite(Sums(totals=1), [y], lambda *_: True)
    return _joined(total, reduce.zeros(y), reduce.elements(y))


ACTIVATION = Measure(
    "activation",
    activation_sums,
    {"activation_sum": 0, "activation_zeros": 0, "activation_elements": 0},
    sets=("forward",),
)


def distribution_sums(skip: Tensor, branch: Tensor) -> Tensor:
    """Returns the sums of `DISTRIBUTION`.

    Args:
        skip: The gradient that came back through the skip, of any shape.
        branch: The gradient that came back through the branch, of the same shape.

    Returns:
        Shape `(4,)`.
    """
    reduce = backend.reductions

    def fourth_powers(*paths: Tensor) -> Tensor:
        return reduce.fourth_powers(paths, FOURTH_POWER_MULTIPLE)

    of_multiples, _ = reduce.over_finite(fourth_powers, [skip, branch])
    zeros = [reduce.zeros(path) for path in (skip, branch)]
    return _joined(*zeros, reduce.multiplied(of_multiples, FOURTH_POWER_MULTIPLE**-4))


DISTRIBUTION = Measure(
    "fork",
    distribution_sums,
    {
        "skip_gradient_zeros": 0,
        "branch_gradient_zeros": 0,
        "skip_gradient_fourth_powers": 4,
        "branch_gradient_fourth_powers": 4,
    },
    sets=("distribution",),
)


def distribution_maxima(skip: Tensor, branch: Tensor) -> Tensor:
    """Returns the maxima of `DISTRIBUTION_MAXIMA`.

    Args:
        skip: The gradient that came back through the skip, of any shape.
        branch: The gradient that came back through the branch, of the same shape.

    Returns:
        Shape `(2,)`.
    """
    return _joined(*(backend.reductions.largest(path) for path in (skip, branch)))


DISTRIBUTION_MAXIMA = Measure(
    "fork",
    distribution_maxima,
    {"skip_gradient_largest": 1, "branch_gradient_largest": 1},
    sets=("distribution",),
    maximum=True,
)


# The bins: exact zeros, then one from every power of two. The first and the last of these also
# count the values beyond them.
HISTOGRAM_EXPONENTS = tuple(range(-48, 16))


def histogram_counts(skip: Tensor, branch: Tensor) -> Tensor:
    """Returns the number of values of each path in each bin of `HISTOGRAMS`.

    Args:
        skip: The gradient that came back through the skip, of any shape.
        branch: The gradient that came back through the branch, of the same shape.

    Returns:
        Shape `(2 * bins,)`. Values that are not finite are in no bin.
    """
    first, bins = HISTOGRAM_EXPONENTS[0], len(HISTOGRAM_EXPONENTS)
    count = backend.reductions.counts_by_exponent
    return _joined(*(count(path, first, bins) for path in (skip, branch)))


HISTOGRAMS = Measure(
    "fork",
    histogram_counts,
    {
        f"{path} {edge!r}": 0
        for path in ("skip", "branch")
        for edge in (0.0, *(2.0**exponent for exponent in HISTOGRAM_EXPONENTS))
    },
    sets=("histograms",),
    unscaled=True,
)

MEASURES = (
    FORK,
    INPUT,
    MERGE,
    FORWARD,
    ACTIVATION,
    DISTRIBUTION,
    DISTRIBUTION_MAXIMA,
    HISTOGRAMS,
)

# Of each weight, for the sets "weights", "variables" and "noise_scale": its gradient, itself before
# the update, the update, and the number of updates in a recorded step.
WEIGHT_SUMS = {
    "weight_gradient_squares": 2,
    "weight_squares": 0,
    "update_squares": 0,
    "weight_gradient_nonfinite": 0,
    "updates_seen": 0,
}
# Of each weight and part of a batch, for the set "noise_scale".
NOISE_SUMS = {"part_gradient_squares": 2}


def measures_of(sets: Iterable[str]) -> tuple[Measure, ...]:
    """Returns the measures that some sets of statistics need.

    Args:
        sets: Names of sets, keys of `reszoo.gradients.statistics.SETS`.

    Returns:
        The measures, each once.

    Example:

    >>> [measure.place for measure in measures_of(["paths"])]
    ['fork', 'input', 'merge']
    """
    sets = set(sets)
    return tuple(measure for measure in MEASURES if sets.intersection(measure.sets))


def _joined(*parts: Tensor) -> Tensor:
    """Returns scalars and vectors of sums as one vector."""
    return backend.reductions.joined(parts)
