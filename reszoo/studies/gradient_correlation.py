"""Question 4: gradients of nearby inputs stay alike with a skip, and become noise without.

Varies the network and its depth. Measures the derivative of the output at points on a line through
input space, at initialization, and its correlation between points (Balduzzi et al. 2017).
Normalizations take the statistics of all points and hold them fixed, as in inference, so that each
derivative is that of one example. Draws the derivatives, and the correlation of neighbours against
depth.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reszoo.keras_internals import sublayers
from reszoo.layers import ConstantScale, ResidualBlock, normalization
from reszoo.studies.drawing import KINDS, draw_with_band, name_ends, note, seeds_of
from reszoo.studies.intervals import in_words, interval, over_seeds
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study

# Normalization, and factor of the branches; 0 for a network without skips.
NETWORKS: dict[str, tuple[str | None, float]] = {
    "plain": ("batch", 0.0),
    "residual": ("batch", 1.0),
    "residual, branches times 0.1": ("batch", 0.1),
    "residual, not normalized": (None, 1.0),
    "plain, not normalized": (None, 0.0),
}
DEPTHS = {
    "smoke": (1, 8),
    "small": (1, 2, 4, 8, 16, 32, 64),
    "paper": (1, 2, 4, 8, 16, 24, 32, 50, 64, 100),
}
POINTS, LINE, WIDTH = 256, 2.0, 200  # as in the paper: points from -2 to 2, units of a layer
LAGS = (1, 2, 4, 8, 16, 32)
# Numbers of colours: like ones for the same network with and without normalization.
COLOURS = dict(zip(NETWORKS, (1, 0, 2, 4, 5), strict=True))
DEEP = "residual"  # the network that is drawn beside the plain one


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each seed and depth, in which all networks are measured."""
    seeds = {"smoke": 1, "small": 10, "paper": 100}[scale]
    return [
        Cell({"layers": depth, "seed": seed}, cost=0.5 + 0.08 * depth)
        for seed in range(seeds)
        for depth in DEPTHS[scale]
    ]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns the correlations in each network and, for the first seed, the derivatives."""
    rows = []
    for kind, (norm, scale) in NETWORKS.items():
        keras.utils.set_random_seed(parameters["seed"])
        model = network(norm, scale, parameters["layers"])
        slopes = derivatives(model)
        known = {"network": kind, "parameters": model.count_params()}
        rows += [known | row for row in _correlations(slopes)]
        if parameters["seed"] == 0:
            rows += [known | row for row in _curve(slopes)]
    return rows


def _correlations(slopes: np.ndarray) -> list[Row]:
    step = 2 * LINE / (POINTS - 1)
    rows = [
        {"quantity": "at a distance", "at": lag * step, "value": correlation(slopes, lag)}
        for lag in LAGS
    ]
    return [*rows, {"quantity": "pairs", "at": np.nan, "value": correlation_of_pairs(slopes)}]


def _curve(slopes: np.ndarray) -> list[Row]:
    """The derivatives themselves, divided by their root mean square."""
    values = slopes / np.sqrt(np.mean(slopes**2))
    return [
        {"quantity": "derivative", "at": place, "value": value}
        for place, value in zip(np.linspace(-LINE, LINE, POINTS), values, strict=True)
    ]


def network(norm: str | None, scale: float, layers: int) -> keras.Model:
    """Returns a network of ReLU layers from a point of the plane to a number.

    Args:
        norm: Normalization before each ReLU.
        scale: Factor of each layer's branch; 0 for layers without a skip.
        layers: Number of layers with a ReLU before them.
    """

    def dense() -> keras.layers.Dense:
        return keras.layers.Dense(WIDTH, kernel_initializer="he_normal")

    # (t, 1), so that the first layer's second column is a random bias.
    stack = [keras.Input((2,)), dense()]
    for number in range(layers):
        branch = [*normalization(norm, f"norm{number}"), keras.layers.ReLU(), dense()]
        if scale not in (0.0, 1.0):
            branch.append(ConstantScale(scale))
        stack += [ResidualBlock(branch)] if scale else branch
    return keras.Sequential([*stack, keras.layers.Dense(1)])


def derivatives(model: keras.Model) -> np.ndarray:
    """Returns the derivative of the output at points of a line, in float64.

    Args:
        model: A network of `network`.
    """
    places = np.linspace(-LINE, LINE, POINTS, dtype=np.float32)
    points = tf.constant(np.stack([places, np.ones_like(places)], axis=1))
    _take_statistics(model, points)
    with tf.GradientTape() as tape:
        tape.watch(points)
        total = tf.reduce_sum(model(points, training=False))
    gradient = tf.convert_to_tensor(tape.gradient(total, points))
    return gradient.numpy()[:, 0].astype(np.float64)


def _take_statistics(model: keras.Model, points: tf.Tensor) -> None:
    for layer in sublayers(model):
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.0
    model(points, training=True)


def correlation(slopes: np.ndarray, lag: int) -> float:
    """Correlation of derivatives that are `lag` points apart, about zero.

    Args:
        slopes: The derivatives along the line.
        lag: Number of points.

    Example:

    >>> round(correlation(np.array([1.0, -1.0, 1.0, -1.0]), 1), 6)
    -1.0
    """
    first, second = slopes[:-lag], slopes[lag:]
    return float(first @ second / np.sqrt((first @ first) * (second @ second)))


def correlation_of_pairs(slopes: np.ndarray) -> float:
    """Mean product of two different derivatives, over their mean square.

    Args:
        slopes: The derivatives along the line.

    Example:

    >>> correlation_of_pairs(np.array([2.0, 2.0, 2.0]))
    1.0
    """
    squares = slopes @ slopes
    return float((slopes.sum() ** 2 - squares) / (squares * (len(slopes) - 1)))


def draw(table: pd.DataFrame) -> Figure:
    """Draws the derivatives of one plain and one residual network, and the correlations."""
    figure = Figure(figsize=(8.4, 6.4), layout="constrained")
    rows = figure.subplots(2, 1, height_ratios=(1, 1.5))
    depths = table.layers.unique()
    deep = depths[np.argmin(np.abs(depths - 24))]  # the depth of the paper's figure 1
    curves = (("plain", depths.min()), ("plain", deep), (DEEP, deep))
    top = rows[0].get_subplotspec().subgridspec(1, 3)
    rows[0].remove()
    for number, (kind, layers) in enumerate(curves):
        _draw_derivative(figure.add_subplot(top[number]), table, kind, layers)
    near = neighbours(table)
    rows[1].set_xscale("log", base=2)
    ends = []
    for kind, number in COLOURS.items():
        band = over_seeds(rows_where(near, network=kind), ["layers"], "value")
        draw_with_band(rows[1], band, "layers", kind, number)
        ends.append((band["mean"].iloc[-1], kind, KINDS[number]))
    rows[1].set_xticks(depths, [str(depth) for depth in depths])
    rows[1].set_ylim(-0.12, 1.05)
    rows[1].set_xlabel("layers")
    rows[1].set_title(f"Correlation of the derivatives {near['at'].iloc[0]:.3f} apart")
    name_ends(rows[1], ends)
    note(figure, f"At initialization, {WIDTH} units a layer; below: {seeds_of(table)}.")
    return figure


def _draw_derivative(axis: Axes, table: pd.DataFrame, kind: str, layers: int) -> None:
    curve = rows_where(table, quantity="derivative", seed=0, network=kind, layers=layers)
    axis.plot(curve["at"], curve.value, color=KINDS[COLOURS[kind]], linewidth=0.8)
    axis.set_title(f"{kind}, {layers} layer{'s' if layers > 1 else ''}", fontsize=10)
    axis.set_xlabel("place on the line", fontsize=9)
    axis.tick_params(labelsize=8)


def neighbours(table: pd.DataFrame) -> pd.DataFrame:
    """Correlations at the smallest distance.

    Args:
        table: The table of the study.
    """
    distances = rows_where(table, quantity="at a distance")
    return distances[np.isclose(distances["at"], distances["at"].min())]


def predicted(norm: str | None, scale: float, layers: int) -> float:
    """Correlation of unrelated points, where two units are active together a quarter of the time.

    Each layer multiplies the mean square of the derivative, and the mean product of two. Without a
    skip these factors are 1 and 1/2. With one they are 1 + v and 1 + v/2, where v is the square of
    the branch's scale over the mean square of its input, which normalization divides by.

    Args:
        norm: The normalization.
        scale: Factor of the branches; 0 for layers without a skip.
        layers: Number of layers.

    Example:

    >>> predicted("batch", 0.0, 3), predicted(None, 1.0, 2)
    (0.125, 0.5625)
    """
    if not scale:
        return 0.5**layers
    before = np.arange(layers)
    share = scale**2 / (1 + scale**2 * before) if norm else np.full(layers, scale**2)
    return float(np.prod((1 + share / 2) / (1 + share)))


def answer(table: pd.DataFrame) -> Answer:
    """Says how the correlation falls with depth."""
    near = over_seeds(neighbours(table), ["network", "layers"], "value")
    depths = sorted(near.layers.unique())
    deep = depths[-1]
    by_network: Any = near.set_index(["network", "layers"])
    rows = []
    for kind, (norm, scale) in NETWORKS.items():
        shown = by_network.loc[kind]
        row = {"network": kind}
        row |= {
            f"{layers} layer{'s' if layers > 1 else ''}": _mean(shown.loc[layers])
            for layers in (depths[0], depths[len(depths) // 2], deep)
        }
        row["falls below a half at"] = first_below(shown["mean"], 0.5)
        row[f"predicted for unrelated points, {deep} layers"] = (
            f"{predicted(norm, scale, deep):.1g}"
        )
        rows.append(row)
    values = {
        "layers": str(deep),
        "seeds": str(table.seed.nunique()),
        "distance": f"{neighbours(table)['at'].iloc[0]:.3f}",
    }
    deepest = rows_where(neighbours(table), layers=deep).pivot(
        index="seed", columns="network", values="value"
    )
    difference = (deepest["residual"] - deepest["residual, not normalized"]).to_numpy(float)
    values["difference"] = in_words(*interval(difference), ".2f")
    names = ("plain", "residual", "scaled", "residual_without", "plain_without")
    for name, kind in zip(names, NETWORKS, strict=True):
        values[name] = _mean(by_network.loc[(kind, deep)])
        values[f"{name}_half"] = first_below(by_network.loc[kind, "mean"], 0.5)
    return Answer(values, pd.DataFrame(rows))


def _mean(row: Any) -> str:
    return in_words(row["mean"], row.low, row.high, ".2f")


def first_below(means: Any, level: float) -> str:
    """The first depth at which the mean is below a level, in words.

    Args:
        means: Means by number of layers, in order.
        level: What the mean must be below.

    Example:

    >>> first_below(pd.Series({1: 0.9, 4: 0.4}), 0.5), first_below(pd.Series({1: 0.9}), 0.5)
    ('4 layers', 'not up to 1 layers')
    """
    below = means[means < level]
    return f"{below.index[0]} layers" if len(below) else f"not up to {means.index[-1]} layers"


STUDY = Study(
    name="gradient_correlation",
    question=4,
    title="correlation of the gradients of nearby inputs, against depth (shattered gradients)",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
