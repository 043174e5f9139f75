"""Question 10: a projection's backward pass is its transpose, zero padding's is a crop.

Varies the shortcut, and measures its matrix forward and backward, element by element, the distance
of the backward pass from a formula written out by hand, and the number of parameters.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure

from reszoo.gradients.double_precision import double_precision
from reszoo.layers import ProjectionShortcut, StopGradSkip, ZeroPadShortcut
from reszoo.studies.drawing import matrix
from reszoo.studies.intervals import size_of_error
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study

SHORTCUTS = {
    "dense": lambda: keras.layers.Dense(3),
    "1x1 convolution": lambda: ProjectionShortcut(3, norm=None),
    "1x1 convolution, stride 2": lambda: ProjectionShortcut(3, 2, norm=None),
    "zero padding": lambda: ZeroPadShortcut(3),
    "zero padding, stride 2": lambda: ZeroPadShortcut(3, 2),
    "strided identity": lambda: ZeroPadShortcut(2, 2),
    "stopped gradient": StopGradSkip,
}
FORMULAS = {
    "dense": "Wᵀ g",
    "1x1 convolution": "Wᵀ g at each pixel",
    "1x1 convolution, stride 2": "Wᵀ g at the pixels taken, 0 elsewhere",
    "zero padding": "the original channels of g",
    "zero padding, stride 2": "the original channels of g at the pixels taken, 0 elsewhere",
    "strided identity": "g at the pixels taken, 0 elsewhere",
    "stopped gradient": "0",
}
_TITLES = {
    "dense": "dense\n",
    "1x1 convolution": "1x1\nconvolution",
    "1x1 convolution, stride 2": "1x1 conv.,\nstride 2",
    "zero padding": "zero\npadding",
    "zero padding, stride 2": "zero pad.,\nstride 2",
    "strided identity": "identity,\nstride 2",
    "stopped gradient": "stopped\ngradient",
}
# Four pixels in a row, of two channels: matrices small enough to be seen.
_SHAPE = (4, 2)


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each seed and shortcut."""
    seeds = range(1 if scale == "smoke" else 5)
    return [Cell({"shortcut": name, "seed": seed}, 0.2) for seed in seeds for name in SHORTCUTS]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns the elements of the matrices, the distance from the formula, and the parameters."""
    with double_precision():
        return _measured(parameters["shortcut"], parameters["seed"])


def _measured(name: str, seed: int) -> list[Row]:
    keras.utils.set_random_seed(seed)
    shortcut = SHORTCUTS[name]()
    forward, backward = matrices(shortcut, (4,) if name == "dense" else _SHAPE)
    images = (8, 4) if name == "dense" else (8, 6, 6, 2)
    shortcut = SHORTCUTS[name]()
    # To be drawn.
    elements = [*_elements("forward", forward), *_elements("backward", backward)]
    return [
        *(elements if seed == 0 else []),
        _number("distance from the transpose", np.abs(backward - forward.T).max()),
        _number("distance from the formula", _distance(name, shortcut, images, seed)),
        _number("parameters", shortcut.count_params()),
    ]


def matrices(shortcut: keras.layers.Layer, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the matrix of a shortcut, and the one by which it multiplies gradients.

    Args:
        shortcut: An affine layer of float64.
        shape: Shape of an example.

    Returns:
        Shape `(outputs, inputs)`, then `(inputs, outputs)`.
    """
    size = int(np.prod(shape))
    units = tf.reshape(tf.eye(size, dtype="float64"), (size, *shape))
    outputs = shortcut(units) - shortcut(0 * units)
    forward = tf.transpose(tf.reshape(outputs, (size, -1)))
    of_outputs = tf.eye(len(forward), dtype="float64")
    x = tf.zeros((len(forward), *shape), "float64")
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = shortcut(x)
    g = tf.reshape(of_outputs, y.shape)
    zero = tf.UnconnectedGradients.ZERO
    gradients: Any = tape.gradient(y, x, [g], unconnected_gradients=zero)
    return forward.numpy(), tf.transpose(tf.reshape(gradients, (len(forward), size))).numpy()


def _distance(name: str, shortcut: keras.layers.Layer, shape: tuple[int, ...], seed: int) -> float:
    generator = np.random.default_rng(seed)
    x = tf.constant(generator.normal(size=shape))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = shortcut(x)
    g = generator.normal(size=y.shape)
    zero = tf.UnconnectedGradients.ZERO
    gradient = tape.gradient(y, x, [tf.constant(g)], unconnected_gradients=zero)
    return float(np.abs(gradient - by_hand(name, shortcut, g, shape)).max())


def by_hand(
    name: str, shortcut: keras.layers.Layer, g: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Returns the gradient at a shortcut's input by the formula of its kind.

    Args:
        name: Kind of the shortcut.
        shortcut: The shortcut.
        g: The gradient at its output.
        shape: Shape of its input.
    """
    channels = shape[-1]
    if shortcut.weights:
        kernel = np.asarray(shortcut.weights[0]).reshape(channels, -1)
        g = g @ kernel.T
    if name == "stopped gradient":
        g = 0 * g
    result = np.zeros(shape)
    if "stride" in name:
        result[:, ::2, ::2] = g[..., :channels]
    else:
        result[:] = g[..., :channels]
    return result


def _elements(quantity: str, values: np.ndarray) -> list[Row]:
    return [
        {"quantity": quantity, "row": row, "column": column, "value": float(value)}
        for (row, column), value in np.ndenumerate(values)
    ]


def _number(quantity: str, value: float) -> Row:
    return {"quantity": quantity, "row": 0, "column": 0, "value": float(value)}


def draw(table: pd.DataFrame) -> Figure:
    """Draws the matrices of one seed as images: forward above, backward below."""
    elements: Any = table[table.quantity.isin(["forward", "backward"])]
    names = list(table.shortcut.unique())
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    axes = figure.subplots(2, len(names), squeeze=False)
    largest, side = elements.value.abs().max(), elements[["row", "column"]].to_numpy().max() + 1
    for column, name in enumerate(names):
        for axis, quantity in zip(axes[:, column], ("forward", "backward"), strict=True):
            rows = rows_where(elements, shortcut=name, quantity=quantity)
            values = rows.pivot(index="row", columns="column", values="value").to_numpy()
            matrix(axis, values, largest, side)
            title = _TITLES[name] if quantity == "forward" else ""
            axis.set_title(f"{title}\n{quantity}", fontsize=9, loc="center")
    return figure


def answer(table: pd.DataFrame) -> Answer:
    """Says how far the backward passes are from the formulas."""
    numbers: Any = table.pivot_table(
        index="shortcut", columns="quantity", values="value", aggfunc="max", sort=False
    )
    rows = [
        {
            "shortcut": name,
            "parameters": f"{numbers.parameters[name]:.0f}",
            "gradient at its input": FORMULAS[name],
            "largest distance from this formula": size_of_error(distance),
        }
        for name, distance in numbers["distance from the formula"].items()
    ]
    others = numbers.drop(index="stopped gradient", errors="ignore")
    values = {
        "formula": size_of_error(numbers["distance from the formula"].max()),
        "transpose": size_of_error(others["distance from the transpose"].max()),
        "seeds": str(table.seed.nunique()),
    }
    return Answer(values, pd.DataFrame(rows))


STUDY = Study(
    name="projections",
    question=10,
    title="what projections, padding and strides do backward",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
