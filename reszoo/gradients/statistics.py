"""What is recorded of each block: the sums taken on the device and what is derived from them.

Only sums are taken while training runs, for they add up over replicas, accumulated batches and
repeated calls of a block. Everything a person reads is derived from them on the host, in float64.

A block takes `x` to `y = activation(s(x) + f(x))`. `g_skip` and `g_branch` are what comes back
through `s` and `f` to the fork, `g_x = g_skip + g_branch` is what leaves the block, and `g_y` is
what reaches the sum. All are gradients of the loss of the whole batch, without any loss scale.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

Sums = Mapping[str, np.ndarray]

# The sums of each set, in the order in which they lie in an accumulator, with the power of the
# gradient's unit that each has: a loss scale is taken out by dividing by it to that power.
FORK_SUMS = {
    "skip_gradient_squares": 2,
    "branch_gradient_squares": 2,
    "input_gradient_squares": 2,
    "skip_branch_products": 2,
    "input_elements": 0,
    "examples": 0,
    "skip_gradient_nonfinite": 0,
    "branch_gradient_nonfinite": 0,
}
MERGE_SUMS = {
    "output_gradient_squares": 2,
    "output_elements": 0,
    "output_gradient_nonfinite": 0,
}
WEIGHT_SUMS = {
    "weight_gradient_squares": 2,
    "weight_squares": 0,
    "update_squares": 0,
    "weight_gradient_nonfinite": 0,
}


@dataclass(frozen=True)
class Statistic:
    """One number per block and recorded step.

    Attributes:
        name: Its name in the log.
        formula: How it is defined.
        unit: Its unit.
        derive: Takes the sums, each of shape `(blocks,)`, and returns shape `(blocks,)`.
        group: The name of the set it belongs to.
    """

    name: str
    formula: str
    unit: str
    derive: Callable[[Sums], np.ndarray]
    group: str


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
        sums: The sums of `FORK_SUMS`, each of shape `(blocks,)`.

    Returns:
        Values in [-1, 1], of shape `(blocks,)`.
    """
    lengths = np.sqrt(sums["skip_gradient_squares"]) * np.sqrt(sums["branch_gradient_squares"])
    return np.clip(ratio(sums["skip_branch_products"], lengths), -1.0, 1.0)


def skip_share(sums: Sums) -> np.ndarray:
    """Returns the share of the skip in what comes back, by norm.

    Args:
        sums: The sums of `FORK_SUMS`, each of shape `(blocks,)`.

    Returns:
        Values in [0, 1], of shape `(blocks,)`; NaN where nothing comes back at all.
    """
    skip = np.sqrt(sums["skip_gradient_squares"])
    return ratio(skip, skip + np.sqrt(sums["branch_gradient_squares"]))


STATISTICS = (
    Statistic(
        "skip_gradient_norm",
        "|g_skip|",
        "loss per unit of x",
        _norm("skip_gradient_squares"),
        "paths",
    ),
    Statistic(
        "branch_gradient_norm",
        "|g_branch|",
        "loss per unit of x",
        _norm("branch_gradient_squares"),
        "paths",
    ),
    Statistic(
        "input_gradient_norm",
        "|g_x|, g_x = g_skip + g_branch",
        "loss per unit of x",
        _norm("input_gradient_squares"),
        "paths",
    ),
    Statistic(
        "output_gradient_norm",
        "|g_y|, at the sum, before the activation",
        "loss per unit of y",
        _norm("output_gradient_squares"),
        "paths",
    ),
    Statistic(
        "skip_branch_cosine",
        "<g_skip, g_branch> / (|g_skip| |g_branch|)",
        "none, -1 to 1",
        skip_branch_cosine,
        "paths",
    ),
    Statistic(
        "skip_share",
        "|g_skip| / (|g_skip| + |g_branch|)",
        "none, 0 to 1",
        skip_share,
        "paths",
    ),
    Statistic(
        "gradient_gain",
        "|g_x| / |g_y|",
        "units of y per unit of x",
        _norm_ratio("input_gradient_squares", "output_gradient_squares"),
        "paths",
    ),
    Statistic(
        "skip_gradient_rms",
        "|g_skip| / sqrt(number of elements)",
        "loss per unit of x",
        _rms("skip_gradient_squares", "input_elements"),
        "paths",
    ),
    Statistic(
        "branch_gradient_rms",
        "|g_branch| / sqrt(number of elements)",
        "loss per unit of x",
        _rms("branch_gradient_squares", "input_elements"),
        "paths",
    ),
    Statistic(
        "input_gradient_rms",
        "|g_x| / sqrt(number of elements)",
        "loss per unit of x",
        _rms("input_gradient_squares", "input_elements"),
        "paths",
    ),
    Statistic(
        "output_gradient_rms",
        "|g_y| / sqrt(number of elements)",
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
        "|dL/dw| over the block's trainable weights, before clipping",
        "loss per unit of w",
        _norm("weight_gradient_squares"),
        "weights",
    ),
    Statistic(
        "weight_norm",
        "|w| before the update",
        "units of w",
        _norm("weight_squares"),
        "weights",
    ),
    Statistic(
        "update_norm",
        "|w_after - w|",
        "units of w",
        _norm("update_squares"),
        "weights",
    ),
    Statistic(
        "update_to_weight_ratio",
        "|w_after - w| / |w|",
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
)

DEFAULT_GROUPS = ("paths", "weights")


def statistics_of(groups: Iterable[str]) -> tuple[Statistic, ...]:
    """Returns the statistics of some sets.

    Args:
        groups: Names of sets, such as `"paths"` and `"weights"`.

    Returns:
        The statistics, in the table's order.

    Raises:
        ValueError: If there is no such set.

    Example:

    >>> [statistic.name for statistic in statistics_of(["weights"])][:2]
    ['weight_gradient_norm', 'weight_norm']
    """
    groups = tuple(groups)
    known = tuple(dict.fromkeys(statistic.group for statistic in STATISTICS))
    for group in groups:
        if group not in known:
            raise ValueError(
                f"There is no set of statistics {group!r}. Choose from {', '.join(known)}."
            )
    return tuple(statistic for statistic in STATISTICS if statistic.group in groups)


def derive(statistics: Iterable[Statistic], sums: Sums) -> np.ndarray:
    """Derives statistics from sums.

    Args:
        statistics: The statistics.
        sums: Name of a sum to its values, each of shape `(blocks,)`.

    Returns:
        Shape `(blocks, statistics)`, float64.
    """
    # Infinite sums are told by the counts beside them; NumPy need not say it again.
    with np.errstate(invalid="ignore", over="ignore"):
        return np.stack([statistic.derive(sums) for statistic in statistics], axis=-1)


def markdown_table() -> str:
    """Returns the table of all statistics, in Markdown.

    Returns:
        One row a statistic: name, formula, unit and set.
    """
    rows = ["| Statistic | Formula | Unit | Set |", "|---|---|---|---|"]
    for statistic in STATISTICS:
        formula = "`" + statistic.formula.replace("|", r"\|") + "`"  # a bare one ends the cell
        rows.append(f"| `{statistic.name}` | {formula} | {statistic.unit} | {statistic.group} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(markdown_table())
