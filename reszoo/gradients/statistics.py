"""Statistics of each block, derived on the host from the sums that `sums` takes on the device.

Only sums are computed while training runs, since they add up over replicas, accumulated batches and
repeated calls of a block. All recorded numbers are derived from them on the host, in float64.

A block takes `x` to `y = activation(s(x) + f(x))`. `g_skip` and `g_branch` are the gradients at the
fork through `s` and `f`, `g_x = g_skip + g_branch` is the gradient that leaves the block, and `g_y`
is the gradient at the sum. All are of the loss of the whole batch, without any loss scale.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

Sums = Mapping[str, np.ndarray]

# A variance of at most this fraction of the mean square is a rounding error of the sums: it is
# recorded as zero, as that of a constant.
ROUNDING = 1e-13


@dataclass(frozen=True)
class Statistic:
    """One number per block and recorded step.

    Attributes:
        name: Its name in the log.
        formula: Its definition, with the Euclidean norm as `‖g‖`; it has no `|`, which would end a
            cell of the table.
        unit: Its unit in words, such as `"loss per unit of x"`.
        derive: Takes the sums, each of shape `(blocks,)`, and returns shape `(blocks,)`.
        set: The name of the set of statistics that it belongs to.
    """

    name: str
    formula: str
    unit: str
    derive: Callable[[Sums], np.ndarray]
    set: str


def _norm(squares: str) -> Callable[[Sums], np.ndarray]:
    return lambda sums: np.sqrt(sums[squares])


def _rms(squares: str, elements: str) -> Callable[[Sums], np.ndarray]:
    return lambda sums: np.sqrt(ratio(sums[squares], sums[elements]))


def _norm_ratio(squares: str, reference_squares: str) -> Callable[[Sums], np.ndarray]:
    return lambda sums: np.sqrt(ratio(sums[squares], sums[reference_squares]))


def _sum(name: str) -> Callable[[Sums], np.ndarray]:
    return lambda sums: sums[name]


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Returns `numerator / denominator`, and NaN where the denominator is zero.

    Args:
        numerator: An array.
        denominator: An array of the same shape.

    Returns:
        An array of that shape.

    Example:

    >>> ratio(np.array([1.0, 1.0]), np.array([2.0, 0.0]))
    array([0.5, nan])
    """
    undefined = denominator == 0
    return np.where(undefined, np.nan, numerator / np.where(undefined, 1.0, denominator))


def skip_branch_cosine(sums: Sums) -> np.ndarray:
    """Returns the cosine of the angle between `g_skip` and `g_branch`, NaN where one is zero.

    Args:
        sums: Those of `fork_sums`, each of shape `(blocks,)`.

    Returns:
        Values in [-1, 1], of shape `(blocks,)`.
    """
    lengths = np.sqrt(sums["skip_gradient_squares"]) * np.sqrt(sums["branch_gradient_squares"])
    return np.clip(ratio(sums["skip_branch_products"], lengths), -1.0, 1.0)


def skip_share(sums: Sums) -> np.ndarray:
    """Returns the skip's share of the sum of the norms of `g_skip` and `g_branch`.

    Args:
        sums: Those of `fork_sums`, each of shape `(blocks,)`.

    Returns:
        Values in [0, 1], of shape `(blocks,)`; NaN where both gradients are zero.
    """
    skip = np.sqrt(sums["skip_gradient_squares"])
    return ratio(skip, skip + np.sqrt(sums["branch_gradient_squares"]))


def _fraction(part: str, elements: str) -> Callable[[Sums], np.ndarray]:
    return lambda sums: ratio(sums[part], sums[elements])


def _kurtosis(path: str) -> Callable[[Sums], np.ndarray]:
    def kurtosis(sums: Sums) -> np.ndarray:
        fourth = sums[f"{path}_gradient_fourth_powers"]
        squares = sums[f"{path}_gradient_squares"]
        return ratio(fourth * sums["input_elements"], squares**2)

    return kurtosis


def _variance(sums: Sums, path: str) -> np.ndarray:
    mean = ratio(sums[f"{path}_output_sum"], sums["forward_elements"])
    mean_square = ratio(sums[f"{path}_output_squares"], sums["forward_elements"])
    variance = mean_square - mean**2
    return np.where(variance <= ROUNDING * mean_square, 0.0, variance)


def branch_to_skip_variance(sums: Sums) -> np.ndarray:
    """Returns the variance of the branch's output over that of the skip's.

    Args:
        sums: Those of `forward_sums`, each of shape `(blocks,)`.

    Returns:
        Shape `(blocks,)`.

    Reference:
        De and Smith 2020, "Batch normalization biases residual blocks towards the identity
        function in deep networks", section 3.
    """
    return ratio(_variance(sums, "branch"), _variance(sums, "skip"))


def gradient_noise_scale(sums: Sums) -> np.ndarray:
    """Returns the batch size at which the gradient's noise is as large as the gradient.

    It is estimated from the gradients of the parts of a batch (of each replica, or each accumulated
    batch) and of the whole batch.

    Args:
        sums: Those of `WEIGHT_SUMS` and `NOISE_SUMS`, with `examples` and `parts`, the number
            of parts, each of shape `(blocks,)`.

    Returns:
        In examples, of shape `(blocks,)`; NaN where the batch has a single part. A single step's
        value is noisy and may be negative; average numerator and denominator over steps.

    Reference:
        McCandlish et al. 2018, "An empirical model of large-batch training", appendix A.1.
    """
    parts = sums["parts"]
    whole, part = sums["examples"], ratio(sums["examples"], parts)
    of_whole = sums["weight_gradient_squares"]
    # The gradient of a part is recorded as its share of the whole one.
    of_part = sums["part_gradient_squares"] * parts
    signal = ratio(whole * of_whole - part * of_part, whole - part)
    noise = ratio(of_part - of_whole, ratio(np.ones_like(part), part) - 1 / whole)
    return ratio(noise, signal)


STATISTICS = (
    Statistic(
        "skip_gradient_norm",
        "‖g_skip‖",
        "loss per unit of x",
        _norm("skip_gradient_squares"),
        "paths",
    ),
    Statistic(
        "branch_gradient_norm",
        "‖g_branch‖",
        "loss per unit of x",
        _norm("branch_gradient_squares"),
        "paths",
    ),
    Statistic(
        "input_gradient_norm",
        "‖g_x‖, g_x = g_skip + g_branch",
        "loss per unit of x",
        _norm("input_gradient_squares"),
        "paths",
    ),
    Statistic(
        "output_gradient_norm",
        "‖g_y‖, at the sum, before the activation",
        "loss per unit of y",
        _norm("output_gradient_squares"),
        "paths",
    ),
    Statistic(
        "skip_branch_cosine",
        "<g_skip, g_branch> / (‖g_skip‖ ‖g_branch‖)",
        "none, -1 to 1",
        skip_branch_cosine,
        "paths",
    ),
    Statistic(
        "skip_share",
        "‖g_skip‖ / (‖g_skip‖ + ‖g_branch‖)",
        "none, 0 to 1",
        skip_share,
        "paths",
    ),
    Statistic(
        "gradient_gain",
        "‖g_x‖ / ‖g_y‖",
        "units of y per unit of x",
        _norm_ratio("input_gradient_squares", "output_gradient_squares"),
        "paths",
    ),
    Statistic(
        "skip_gradient_rms",
        "‖g_skip‖ / sqrt(number of elements)",
        "loss per unit of x",
        _rms("skip_gradient_squares", "input_elements"),
        "paths",
    ),
    Statistic(
        "branch_gradient_rms",
        "‖g_branch‖ / sqrt(number of elements)",
        "loss per unit of x",
        _rms("branch_gradient_squares", "input_elements"),
        "paths",
    ),
    Statistic(
        "input_gradient_rms",
        "‖g_x‖ / sqrt(number of elements)",
        "loss per unit of x",
        _rms("input_gradient_squares", "input_elements"),
        "paths",
    ),
    Statistic(
        "output_gradient_rms",
        "‖g_y‖ / sqrt(number of elements)",
        "loss per unit of y",
        _rms("output_gradient_squares", "output_elements"),
        "paths",
    ),
    Statistic(
        "skip_gradient_nonfinite",
        "number of NaN or infinite values in g_skip",
        "values",
        _sum("skip_gradient_nonfinite"),
        "paths",
    ),
    Statistic(
        "branch_gradient_nonfinite",
        "number of NaN or infinite values in g_branch",
        "values",
        _sum("branch_gradient_nonfinite"),
        "paths",
    ),
    Statistic(
        "output_gradient_nonfinite",
        "number of NaN or infinite values in g_y",
        "values",
        _sum("output_gradient_nonfinite"),
        "paths",
    ),
    Statistic(
        "weight_gradient_norm",
        "‖dL/dw‖ over the block's trainable weights, before clipping",
        "loss per unit of w",
        _norm("weight_gradient_squares"),
        "weights",
    ),
    Statistic(
        "weight_norm",
        "‖w‖ before the update",
        "units of w",
        _norm("weight_squares"),
        "weights",
    ),
    Statistic(
        "update_norm",
        "‖w_after - w‖",
        "units of w",
        _norm("update_squares"),
        "weights",
    ),
    Statistic(
        "update_to_weight_ratio",
        "‖w_after - w‖ / ‖w‖",
        "none",
        _norm_ratio("update_squares", "weight_squares"),
        "weights",
    ),
    Statistic(
        "weight_gradient_nonfinite",
        "number of NaN or infinite values in dL/dw",
        "values",
        _sum("weight_gradient_nonfinite"),
        "weights",
    ),
    Statistic(
        "skip_gradient_zero_fraction",
        "share of exact zeros in g_skip",
        "none, 0 to 1",
        _fraction("skip_gradient_zeros", "input_elements"),
        "distribution",
    ),
    Statistic(
        "branch_gradient_zero_fraction",
        "share of exact zeros in g_branch",
        "none, 0 to 1",
        _fraction("branch_gradient_zeros", "input_elements"),
        "distribution",
    ),
    Statistic(
        "skip_gradient_kurtosis",
        "mean(g_skip^4) / mean(g_skip^2)^2, about zero; 3 for a normal distribution",
        "none",
        _kurtosis("skip"),
        "distribution",
    ),
    Statistic(
        "branch_gradient_kurtosis",
        "mean(g_branch^4) / mean(g_branch^2)^2, about zero",
        "none",
        _kurtosis("branch"),
        "distribution",
    ),
    Statistic(
        "skip_gradient_max",
        "max abs(g_skip), over single values",
        "loss per unit of x",
        _sum("skip_gradient_largest"),
        "distribution",
    ),
    Statistic(
        "branch_gradient_max",
        "max abs(g_branch), over single values",
        "loss per unit of x",
        _sum("branch_gradient_largest"),
        "distribution",
    ),
    Statistic(
        "skip_output_rms",
        "‖s(x)‖ / sqrt(number of elements)",
        "units of y",
        _rms("skip_output_squares", "forward_elements"),
        "forward",
    ),
    Statistic(
        "branch_output_rms",
        "‖f(x)‖ / sqrt(number of elements)",
        "units of y",
        _rms("branch_output_squares", "forward_elements"),
        "forward",
    ),
    Statistic(
        "sum_rms",
        "‖s(x) + f(x)‖ / sqrt(number of elements), before the activation",
        "units of y",
        _rms("sum_squares", "forward_elements"),
        "forward",
    ),
    Statistic(
        "branch_to_skip_variance",
        "var(f(x)) / var(s(x)), over all elements (De and Smith 2020)",
        "none",
        branch_to_skip_variance,
        "forward",
    ),
    Statistic(
        "activation_mean",
        "mean(y), after the activation",
        "units of y",
        _fraction("activation_sum", "activation_elements"),
        "forward",
    ),
    Statistic(
        "activation_zero_fraction",
        "share of exact zeros in y, after the activation",
        "none, 0 to 1",
        _fraction("activation_zeros", "activation_elements"),
        "forward",
    ),
    Statistic(
        "gradient_noise_scale",
        "tr(covariance of dL/dw over examples) / ‖dL/dw‖^2 (McCandlish et al. 2018)",
        "examples",
        gradient_noise_scale,
        "noise_scale",
    ),
)

# Sets by name, and the cost of each in a recorded step.
SETS = {
    "paths": "one pass over g_skip, g_branch and their sum, and one over g_y; the product of two",
    "weights": "one pass over the weights' gradients, two over the weights; a copy of the weights",
    "forward": "one pass over s(x), f(x), their sum and y, and one more over each for its mean",
    "distribution": "three passes over g_skip and g_branch, with copies",
    "noise_scale": "one more pass over the weights' gradients",
    "variables": "as `weights`, and one more row in the log for every trainable variable",
    "histograms": "several passes over g_skip and g_branch, with copies; the most expensive set",
}
DEFAULT_SETS = ("paths", "weights")


def statistics_of(sets: Iterable[str]) -> tuple[Statistic, ...]:
    """Returns the statistics of some sets.

    Args:
        sets: Names of sets, keys of `SETS`, such as `"paths"` and `"weights"`.

    Returns:
        The statistics, in the table's order.

    Raises:
        ValueError: If there is no such set.

    Example:

    >>> [statistic.name for statistic in statistics_of(["weights"])][:2]
    ['weight_gradient_norm', 'weight_norm']
    """
    sets = tuple(sets)
    for name in sets:
        if name not in SETS:
            raise ValueError(
                f"There is no set of statistics {name!r}. Choose from {', '.join(SETS)}."
            )
    chosen = tuple(statistic for statistic in STATISTICS if statistic.set in sets)
    if not chosen:
        raise ValueError(
            f"statistics={sets!r} has no statistic of blocks. Add a set with some, as 'paths'."
        )
    return chosen


def derive(statistics: Iterable[Statistic], sums: Sums) -> np.ndarray:
    """Derives statistics from sums.

    Args:
        statistics: The statistics, in the order of the columns.
        sums: The values of each sum, of shape `(blocks,)`, by name.

    Returns:
        Shape `(blocks, statistics)`, float64.
    """
    # Infinite sums are reported by the counts of non-finite values, so NumPy's warning is off.
    with np.errstate(invalid="ignore", over="ignore"):
        return np.stack([statistic.derive(sums) for statistic in statistics], axis=-1)


def markdown_table() -> str:
    """Returns the table of all statistics, in Markdown.

    Returns:
        One row per statistic: name, formula, unit and set.
    """
    rows = ["| Statistic | Formula | Unit | Set |", "|---|---|---|---|"]
    for statistic in STATISTICS:
        formula, unit = statistic.formula, statistic.unit
        rows.append(f"| `{statistic.name}` | `{formula}` | {unit} | {statistic.set} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(markdown_table())
