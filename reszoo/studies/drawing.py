"""Colours and style of the studies' figures, and what several of them draw."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

# The page's colours, told apart with the three common kinds of colour blindness.
SKIP, BRANCH, TRUNK = "#2a6fdb", "#e07b1a", "#6b7280"
# For kinds of networks: Okabe and Ito's palette without its yellow, which is too light for lines.
KINDS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS = "osD^vPX"
# For values of both signs: the branch's orange is negative, white zero, the skip's blue positive.
SIGNED = LinearSegmentedColormap.from_list("signed", (BRANCH, "white", SKIP))

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


def draw_seeds(axis: Axes, x: pd.Series, y: pd.Series, colour: str) -> tuple[float, float]:
    """Draws each seed's value as a dot, and a line through the geometric means.

    Args:
        axis: The axis, whose vertical scale becomes logarithmic.
        x: Horizontal places.
        y: Values above zero.
        colour: The colour.

    Returns:
        The last point of the line.
    """
    axis.set_yscale("log")
    axis.scatter(x, y, color=colour, s=12, alpha=0.45, linewidth=0)
    logarithms: Any = pd.Series(np.log(y)).groupby(x).mean()
    means = np.exp(logarithms)
    axis.plot(means.index, means, color=colour)
    return float(means.index[-1]), float(means.iloc[-1])


def name_point(
    axis: Axes, point: tuple[float, float], name: str, colour: str, **place: Any
) -> None:
    """Writes a name beside a point, in its colour.

    Args:
        axis: The axis.
        point: The point.
        name: The name.
        colour: The colour.
        **place: `xytext`, the distance in points, `ha` and `va`, as `Axes.annotate` takes them.
    """
    axis.annotate(name, point, color=colour, textcoords="offset points", **place)


def matrix(axis: Axes, values: np.ndarray, largest: float, side: int) -> None:
    """Draws a matrix as an image: blue is positive, orange negative, white zero.

    Args:
        axis: The axis, which shows the image alone.
        values: The matrix.
        largest: Magnitude of the darkest colours.
        side: Rows and columns that there is room for, so that elements of several matrices have
            the same size.
    """
    rows, columns = values.shape
    axis.pcolormesh(values, cmap=SIGNED, vmin=-largest, vmax=largest)
    axis.add_patch(Rectangle((0, 0), columns, rows, fill=False, edgecolor=TRUNK, clip_on=False))
    axis.set(xlim=((columns - side) / 2, (columns + side) / 2), ylim=(side, 0), aspect="equal")
    axis.set_axis_off()


def note(figure: Figure, text: str) -> None:
    """Writes a small line below the panels of a figure.

    Args:
        figure: The figure.
        text: The line, such as how many seeds there are.
    """
    figure.supxlabel(text, fontsize=8, color=TRUNK, x=0.01, ha="left")


def name_ends(axis: Axes, ends: Sequence[tuple[float, str, str]], gap: float = 0.065) -> None:
    """Writes names of lines on the right of an axis, at the heights of their ends and apart.

    Args:
        axis: The axis, on which all is drawn.
        ends: For each line the vertical place of its end, its name and its colour.
        gap: Least distance of two names, as a share of the axis.
    """
    axis.get_ylim()  # Which has the limits computed.
    left = axis.get_xlim()[0]
    lowest = 0.0
    for end, name, colour in sorted(ends):
        place = axis.transAxes.inverted().transform(axis.transData.transform((left, end)))[1]
        place = max(place, lowest)
        lowest = place + gap
        axis.annotate(
            name, (1.02, place), xycoords="axes fraction", color=colour, va="center", fontsize=9
        )


def seeds_of(table: pd.DataFrame, mean: str = "mean") -> str:
    """Number of seeds of a table, in words.

    Args:
        table: A table with the column `seed`.
        mean: The kind of mean that is drawn.

    Example:

    >>> seeds_of(pd.DataFrame({"seed": [0, 0, 1]}))
    '2 seeds, mean and 95% interval'
    """
    number = table.seed.nunique()
    return f"{number} seeds, {mean} and 95% interval" if number > 1 else "1 seed"
