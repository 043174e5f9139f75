"""Measures: the sums that are taken at each place of a block, and the sets that need them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import tensorflow as tf

from reszoo.gradients import sums


@dataclass(frozen=True)
class Measure:
    """Sums over the same tensors, at one place of a block.

    Attributes:
        place: `"fork"` (tensors `g_skip` and `g_branch`), `"input"` (`g_x`, their sum), `"merge"`
            (`g_y`), `"forward"` (`s(x)`, `f(x)` and their sum) or `"activation"` (the block's
            output).
        function: Takes the place's tensors and returns the sums, of shape `(sums,)`.
        powers: The power of the gradient's unit in each of the sums, by name.
        sets: The sets of statistics that need it.
        maximum: Whether the largest value over calls and replicas is kept, instead of the sum.
        unscaled: Whether the function needs the gradients themselves, without a loss scale.
    """

    place: str
    function: Callable[..., tf.Tensor]
    powers: Mapping[str, int]
    sets: tuple[str, ...]
    maximum: bool = False
    unscaled: bool = False


MEASURES = (
    Measure("fork", sums.fork_sums, sums.FORK_SUMS, ("paths", "distribution", "noise_scale")),
    Measure("input", sums.input_sums, sums.INPUT_SUMS, ("paths",)),
    Measure("merge", sums.merge_sums, sums.MERGE_SUMS, ("paths",)),
    Measure("forward", sums.forward_sums, sums.FORWARD_SUMS, ("forward",)),
    Measure("activation", sums.activation_sums, sums.ACTIVATION_SUMS, ("forward",)),
    Measure("fork", sums.distribution_sums, sums.DISTRIBUTION_SUMS, ("distribution",)),
    Measure(
        "fork",
        sums.distribution_maxima,
        sums.DISTRIBUTION_MAXIMA,
        ("distribution",),
        maximum=True,
    ),
    Measure(
        "fork",
        sums.histogram_counts,
        sums.HISTOGRAM_COUNTS,
        ("histograms",),
        unscaled=True,
    ),
)


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
