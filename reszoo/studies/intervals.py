"""Means over seeds, with their intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import scipy.stats

CONFIDENCE = 0.95


def over_seeds(table: pd.DataFrame, by: Sequence[str], value: str) -> pd.DataFrame:
    """Returns the mean of a column over the seeds, with its 95% interval (Student's t).

    Args:
        table: The table of a study; rows whose value is NaN are left out and counted.
        by: Columns whose values make a group.
        value: The column.

    Returns:
        A table with the columns of `by`, in the order of the table, then `mean`, `low`, `high`
        (NaN for one seed), `seeds` (of the mean) and `left_out`.

    Example:

    >>> table = pd.DataFrame({"kind": ["a", "a", "a"], "accuracy": [1.0, 2.0, 3.0]})
    >>> over_seeds(table, ["kind"], "accuracy").round(2).to_dict("records")
    [{'kind': 'a', 'mean': 2.0, 'low': -0.48, 'high': 4.48, 'seeds': 3, 'left_out': 0}]
    """
    rows = []
    key: Any
    for key, group in table.groupby(list(by), sort=False, dropna=False):
        values = group[value].to_numpy(float)
        rows.append([*key, *interval(values), np.isfinite(values).sum(), np.isnan(values).sum()])
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds", "left_out"])


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """Returns the mean of the numbers that are not NaN, and the ends of its 95% interval.

    Args:
        values: The numbers.
    """
    known = values[~np.isnan(values)]
    if len(known) < 2:
        return (float(known[0]) if len(known) else np.nan), np.nan, np.nan
    mean, error = known.mean(), known.std(ddof=1) / np.sqrt(len(known))
    half = scipy.stats.t.ppf((1 + CONFIDENCE) / 2, len(known) - 1) * error
    return float(mean), float(mean - half), float(mean + half)


def in_words(mean: float, low: float, high: float, form: str = ".1f", unit: str = "") -> str:
    """Returns a mean with its interval as text.

    Args:
        mean: The mean.
        low: Lower end of its interval.
        high: Upper end.
        form: Format of the numbers.
        unit: Unit of the numbers.

    Example:

    >>> in_words(97.52, 97.1, 97.94, unit="%")
    '97.5% [97.1, 97.9]'
    """
    ends = "" if np.isnan(low) else f" [{low:{form}}, {high:{form}}]"
    return f"{mean:{form}}{unit}{ends}"


def size_of_error(error: float) -> str:
    """Returns the size of an error as text: one digit and a power of ten, or 0.

    Args:
        error: The error.

    Example:

    >>> size_of_error(3.2e-16), size_of_error(0.0)
    ('3e-16', '0')
    """
    return f"{error:.0e}" if error else "0"
