"""Question 7: any layers, any distance; both inputs of the merge get the same error.

Varies the layers between the origin `o` and the merge, and their number. Measures whether both
inputs of the addition get its gradient unchanged, and how far the sum of the two paths' gradients,
their average, and the branch's alone are from finite differences at the origin. In a network whose
every layer has a skip over several layers, the gradient at the origin is added up way by way.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reszoo.gradients.double_precision import double_precision
from reszoo.studies.drawing import BRANCH, KINDS, MARKERS, TRUNK, name_point, panels
from reszoo.studies.intervals import size_of_error
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study

LAYERS = ("dense", "convolution", "LSTM", "attention")
DISTANCES = (1, 2, 4, 8)
WAYS = "dense, a skip to each layer"
_COSTS = {"dense": 0.15, "convolution": 0.15, "LSTM": 0.25, "attention": 0.25, WAYS: 0.01}
CANDIDATES = ("sum", "average", "skip as a constant")
# Of the network whose ways are added up.
DEPTH, _WIDTH = 8, 6

Shape = tuple[int, ...]


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each seed, kind of layers and distance."""
    seeds, layers, distances = (1, LAYERS[:1], DISTANCES[:2]) if scale == "smoke" else (
        2, LAYERS, DISTANCES)  # fmt: skip
    return [
        Cell({"layers": kind, "distance": distance, "seed": seed}, _COSTS[kind] * (1 + distance))
        for seed in range(seeds)
        for kind in (*layers, WAYS)
        for distance in distances
    ]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns the distances at the merge and at the origin, or the errors way by way."""
    kind, distance, seed = (parameters[name] for name in ("layers", "distance", "seed"))
    if kind == WAYS:
        return _way_by_way(distance, seed)
    with double_precision():
        keras.utils.set_random_seed(seed)
        shape, layers = _layers(kind, distance)
        x = np.random.default_rng(seed).normal(size=(2, *shape))
        at_merge = _distance_at_the_merge(layers, tf.constant(x))
        weights = sum(layer.count_params() for layer in layers)
    return [
        _row("parameters", 0, weights),
        _row("distance at the merge", 0, at_merge),
        *_checked(kind, distance, x, seed),
    ]


def _checked(kind: str, distance: int, x: np.ndarray, seed: int) -> list[Row]:
    from reszoo.gradients import check, instrument

    keras.utils.set_random_seed(seed)
    shape, layers = _layers(kind, distance)
    origin = keras.Input(shape)
    model = keras.Model(origin, keras.layers.Add()([origin, _through(layers, origin)]))
    table = check(model, x, blocks=instrument(model), number_of_directions=2, seed=seed)
    return [
        _row(f"error of the {name}", 0, error)
        for name, error in zip(table.candidate, table.finite_differences_error, strict=True)
    ]


def _layers(kind: str, number: int) -> tuple[Shape, list[keras.layers.Layer]]:
    """Returns the shape of an example, and layers that keep it."""
    if kind == "dense":
        return (8,), [keras.layers.Dense(8, "tanh") for _ in range(number)]
    if kind == "convolution":
        return (5, 5, 4), [
            keras.layers.Conv2D(4, 3, padding="same", activation="tanh") for _ in range(number)
        ]
    if kind == "LSTM":
        return (5, 6), [keras.layers.LSTM(6, return_sequences=True) for _ in range(number)]
    return (5, 6), [_attention() for _ in range(number)]


def _attention() -> keras.Model:
    x = keras.Input((5, 6))
    return keras.Model(x, keras.layers.MultiHeadAttention(num_heads=2, key_dim=3)(x, x))


def _through(layers: Sequence[keras.layers.Layer], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def _distance_at_the_merge(layers: Sequence[keras.layers.Layer], o: tf.Tensor) -> float:
    """Returns how far the gradients at both inputs of the merge are from that at its output."""
    after = keras.layers.Dense(3, "tanh")
    with tf.GradientTape() as tape:
        tape.watch(o)
        skip = tf.identity(o)
        branch = _through(layers, o)
        y = skip + branch
        loss = tf.reduce_sum(after(y) ** 2)
    found: Any = tape.gradient(loss, [y, skip, branch])
    g, *at_inputs = found
    return max(float(tf.reduce_max(tf.abs(at_input - g))) for at_input in at_inputs)


def _way_by_way(distance: int, seed: int) -> list[Row]:
    generator = np.random.default_rng(seed)
    kernels = generator.normal(size=(DEPTH, _WIDTH, _WIDTH)) / np.sqrt(_WIDTH)
    x, g = generator.normal(size=(2, 1, _WIDTH))
    gradient, slopes = gradient_at_origin(kernels, distance, x, g)
    found = np.zeros((DEPTH + 1, _WIDTH))
    number = np.zeros(DEPTH + 1, int)
    for passed, of_way in ways(kernels, slopes, distance, g):
        found[passed] += of_way[0]
        number[passed] += 1
    errors = np.linalg.norm(found.cumsum(axis=0) - gradient, axis=1) / np.linalg.norm(gradient)
    return [
        row
        for passed in range(DEPTH + 1)
        for row in (
            _row("ways", passed, number[passed]),
            _row("error of the ways so far", passed, errors[passed]),
        )
    ]


def gradient_at_origin(
    kernels: np.ndarray, distance: int, x: np.ndarray, g: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns the gradient at the origin in reverse mode, and the slopes of each layer's tanh.

    Layer `l` computes `x_l = tanh(x_{l-1} W_l) + x_{l-d}`, without the skip where `l < d`.

    Args:
        kernels: `W_l` of each layer.
        distance: The number of layers `d` that a skip passes by.
        x: The origin `x_0`.
        g: The gradient at the output.
    """
    passed, slopes = [tf.constant(x)], []
    with tf.GradientTape() as tape:
        tape.watch(passed[0])
        for layer, kernel in enumerate(kernels, start=1):
            hidden = tf.tanh(passed[-1] @ kernel)
            slopes.append(1 - hidden.numpy() ** 2)
            passed.append(hidden + passed[layer - distance] if layer >= distance else hidden)
    gradient: Any = tape.gradient(passed[-1], passed[0], [tf.constant(g)])
    return gradient.numpy()[0], slopes


def ways(
    kernels: np.ndarray, slopes: Sequence[np.ndarray], distance: int, g: np.ndarray
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each way back to the origin: the number of layers on it, and what comes along it.

    Args:
        kernels: `W_l` of each layer.
        slopes: Slopes of each layer's tanh.
        distance: The number of layers that a skip passes by.
        g: The gradient at the output.
    """

    def back(layer: int, g: np.ndarray, passed: int) -> Iterator[tuple[int, np.ndarray]]:
        if layer == 0:
            yield passed, g
            return
        if layer >= distance:
            yield from back(layer - distance, g, passed)
        yield from back(layer - 1, (g * slopes[layer - 1]) @ kernels[layer - 1].T, passed + 1)

    yield from back(len(kernels), g, 0)


def _row(quantity: str, number: int, value: float) -> Row:
    return {"quantity": quantity, "number": number, "value": float(value)}


def draw(table: pd.DataFrame) -> Figure:
    """Draws the errors at the origin, and what is missing while ways are added up."""
    figure, [origin, by_way] = panels(2)
    _draw_errors(origin, table)
    found = rows_where(table, quantity="error of the ways so far")
    for number, distance in enumerate(found.distance.unique()):
        of_distance = rows_where(found, distance=distance)
        means = of_distance.groupby("number").value.mean()
        label = f"skips over {distance}: {_number_of_ways(table, distance)} ways"
        by_way.plot(means.index, means, color=KINDS[number], marker=MARKERS[number], label=label)
    by_way.set_yscale("log")
    by_way.set_title("What is missing of the gradient")
    by_way.set_xlabel("ways through up to so many of the 8 layers")
    by_way.legend(fontsize=9)
    return figure


def _number_of_ways(table: pd.DataFrame, distance: int) -> str:
    counts = rows_where(table, quantity="ways", distance=distance, seed=table.seed.min())
    return f"{counts.value.sum():.0f}"


def _draw_errors(axis: Axes, table: pd.DataFrame) -> None:
    names = ("the sum", "the average", "the branch alone")
    colours = (TRUNK, "black", BRANCH)
    for candidate, name, colour in zip(CANDIDATES, names, colours, strict=True):
        rows = rows_where(table, quantity=f"error of the {candidate}")
        places = rows.layers.map(LAYERS.index) + 0.15 * (np.log2(rows.distance) - 1.5)
        axis.scatter(places, rows.value, s=12, color=colour)
        height = {"the average": 0.1, "the branch alone": 10}.get(name, 20 * rows.value.max())
        name_point(axis, (-0.3, height), name, colour, xytext=(0, -3))
    axis.set_yscale("log")
    axis.set_ylim(top=1e3)
    axis.set_xticks(range(len(LAYERS)), LAYERS)
    axis.set_title("Relative error at the origin")
    axis.set_xlabel(f"layers that the skip passes: {', '.join(map(str, DISTANCES))} of each kind")


def answer(table: pd.DataFrame) -> Answer:
    """Says how far the gradients at the merge and at the origin are off."""
    rows = []
    for layers in LAYERS:
        of_layers = rows_where(table, layers=layers)
        if of_layers.empty:
            continue
        by_quantity = of_layers.groupby("quantity").value
        largest, smallest = by_quantity.max(), by_quantity.min()
        constant = smallest["error of the skip as a constant"]
        rows.append(
            {
                "layers": layers,
                "distances": f"{of_layers.distance.min()} to {of_layers.distance.max()}",
                "difference at the merge": size_of_error(largest["distance at the merge"]),
                "error of the sum": f"at most {largest['error of the sum']:.0e}",
                "of the average": f"at least {smallest['error of the average']:.0%}",
                "of the skip as a constant": f"at least {constant:.0%}",
            }
        )
    largest = table.groupby("quantity").value.max()
    parameters = rows_where(table, quantity="parameters").value
    all_ways = rows_where(table, quantity="error of the ways so far", number=DEPTH)
    values = {
        "merge": size_of_error(largest["distance at the merge"]),
        "sum": f"{largest['error of the sum']:.0e}",
        "all_ways": f"{all_ways.value.max():.0e}",
        "most_ways": _number_of_ways(table, 1),
        "depth": str(DEPTH),
        "seeds": str(table.seed.nunique()),
        "longest": str(table.distance.max()),
        "fewest_parameters": f"{parameters.min():,.0f}",
        "most_parameters": f"{parameters.max():,.0f}",
        "ways_parameters": str(DEPTH * _WIDTH**2),
    }
    return Answer(values, pd.DataFrame(rows))


STUDY = Study(
    name="distance",
    question=7,
    title="any layers, skips over any distance",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
