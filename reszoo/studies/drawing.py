"""Colours and style of the studies' figures, and what several of them draw."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# The page's colours, told apart with the three common kinds of colour blindness.
SKIP, BRANCH, TRUNK = "#2a6fdb", "#e07b1a", "#6b7280"
# For kinds of networks: Okabe and Ito's palette without its yellow, which is too light for lines.
KINDS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS = "osD^vPX"

STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "figure.facecolor": "white",
    "font.size": 10,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "svg.hashsalt": "reszoo",  # the same names within the file each time
}


def panels(number: int, height: float = 3.4, sharey: bool = False) -> tuple[Figure, list[Axes]]:
    """Returns a figure with panels side by side.

    Args:
        number: Number of panels.
        height: In inches.
        sharey: Whether they have one vertical axis.
    """
    figure = Figure(figsize=(max(6.0, 4.2 * number), height), layout="constrained")
    return figure, list(figure.subplots(1, number, squeeze=False, sharey=sharey)[0])


def draw_with_band(axis: Axes, intervals: pd.DataFrame, x: str, label: str, number: int) -> None:
    """Draws the means of a kind as a line with markers, and their intervals as a band.

    Args:
        axis: The axis.
        intervals: A table of `reszoo.studies.intervals`, with the columns `mean`, `low`, `high`.
        x: The column of the horizontal axis.
        label: Label of the kind.
        number: Number of the kind, for its colour and marker.
    """
    rows = intervals.sort_values(x)
    colour, marker = KINDS[number % len(KINDS)], MARKERS[number % len(MARKERS)]
    axis.plot(rows[x], rows["mean"], color=colour, marker=marker, markersize=4, label=label)
    axis.fill_between(rows[x], rows.low, rows.high, color=colour, alpha=0.15, linewidth=0)


def bars_with_intervals(axis: Axes, labels: Sequence[str], intervals: pd.DataFrame) -> None:
    """Draws a horizontal bar for each row, the first on top, with its interval.

    Args:
        axis: The axis.
        labels: Labels of the bars.
        intervals: A table of `reszoo.studies.intervals`, with the columns `mean`, `low`, `high`.
    """
    places = np.arange(len(labels))
    means = intervals["mean"].to_numpy()
    spread = [means - intervals.low, intervals.high - means]
    axis.barh(places, means, color=TRUNK, alpha=0.55)
    axis.errorbar(means, places, xerr=spread, fmt="none", ecolor="black", capsize=3)
    axis.set_yticks(places, labels)
    axis.invert_yaxis()
