"""Question 9: the derivative of the skip is not zero; as a constant it is a stopped gradient.

Varies the number of blocks. Measures how far the gradient is from finite differences if every skip
counts as a constant, beside reverse mode; how much of its norm is left; and its distance from the
gradient of the same network with stop-gradient skips.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure

from reszoo.gradients.double_precision import double_precision
from reszoo.gradients.finite_differences import derivative, directions
from reszoo.layers import ResidualBlock, StopGradSkip
from reszoo.studies.drawing import BRANCH, TRUNK, draw_seeds, name_point, panels
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study

DEPTHS = (1, 2, 4, 8, 16, 32)
PARTS = ("input", "weights")
_WIDTH, _EXAMPLES, _DIRECTIONS = 8, 4, 4

Branch = keras.Sequential


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each seed and number of blocks."""
    seeds, depths = (1, DEPTHS[:3]) if scale == "smoke" else (3, DEPTHS)
    return [
        Cell({"blocks": depth, "seed": seed}, 0.3 + 0.05 * depth)
        for seed in range(seeds)
        for depth in depths
    ]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns a row for the gradient at the input, and one for the first block's weights."""
    with double_precision():
        return _compared(Network(parameters["blocks"], parameters["seed"]))


def _compared(network: "Network") -> list[Row]:
    true, constant, stopped = map(network.gradients, (residual, skip_as_constant, stop_gradient))
    rows = []
    for number, part in enumerate(PARTS):
        vectors, slopes = network.slopes(part)
        size = np.linalg.norm(slopes)
        along = {
            "reverse_mode_error": np.tensordot(vectors, true[number], true[number].ndim),
            "constant_error": np.tensordot(vectors, constant[number], true[number].ndim),
        }
        rows.append(
            {
                "part": part,
                **{name: float(np.linalg.norm(v - slopes) / size) for name, v in along.items()},
                "norm_left": float(np.linalg.norm(constant[number]) / np.linalg.norm(true[number])),
                "distance_from_stopped": float(np.abs(constant[number] - stopped[number]).max()),
            }
        )
    return rows


def residual(branch: Branch, x: tf.Tensor) -> tf.Tensor:
    """`y = x + f(x)`.

    Args:
        branch: The branch `f`.
        x: The block's input.
    """
    return ResidualBlock(branch)(x)


def skip_as_constant(branch: Branch, x: tf.Tensor) -> tf.Tensor:
    """`y = o + f(x)`, where `o` is a number like any other: the value of `x`, copied to NumPy.

    Args:
        branch: The branch `f`.
        x: The block's input.
    """
    return tf.constant(x.numpy()) + branch(x)


def stop_gradient(branch: Branch, x: tf.Tensor) -> tf.Tensor:
    """`y = sg(x) + f(x)`.

    Args:
        branch: The branch `f`.
        x: The block's input.
    """
    return ResidualBlock(branch, StopGradSkip())(x)


class Network:
    """Blocks of two dense layers in series, with an example batch and its targets, in float64.

    Args:
        blocks: Number of blocks.
        seed: Seed of the weights and the batch.
    """

    def __init__(self, blocks: int, seed: int):
        keras.utils.set_random_seed(seed)
        self.seed = seed
        generator = np.random.default_rng(seed)
        self.x, self.targets = generator.normal(size=(2, _EXAMPLES, _WIDTH))
        self.branches = [self._branch() for _ in range(blocks)]
        self.kernel = self.branches[0].weights[0]

    def loss(self, block: Callable[[Branch, tf.Tensor], tf.Tensor], x: tf.Tensor) -> tf.Tensor:
        """Half the squared distance from the targets, averaged over examples.

        Args:
            block: Applies a branch and its skip.
            x: The input.
        """
        for branch in self.branches:
            x = block(branch, x)
        return tf.reduce_sum((x - self.targets) ** 2) / (2 * _EXAMPLES)

    def gradients(self, block: Callable[[Branch, tf.Tensor], tf.Tensor]) -> list[np.ndarray]:
        """Returns the gradients at the input and at the first kernel in reverse mode.

        Args:
            block: Applies a branch and its skip.
        """
        x = tf.constant(self.x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = self.loss(block, x)
        found: Any = tape.gradient(loss, [x, self.kernel.value])
        return [gradient.numpy() for gradient in found]

    def slopes(self, part: str) -> tuple[Sequence[np.ndarray], np.ndarray]:
        """Returns directions, and the slopes of the loss along them by finite differences.

        Args:
            part: What is varied, the input or the first kernel.
        """
        start = self.x if part == "input" else self.kernel.numpy()
        vectors = list(directions(start, _DIRECTIONS, self.seed)[0])

        def loss_at(point: np.ndarray) -> float:
            return self._loss_in_numpy(
                *((point, self.kernel) if part == "input" else (self.x, point))
            )

        size, at_zero = float(np.linalg.norm(start)), loss_at(start)
        slopes = [
            derivative(lambda t, v=v: loss_at(start + t * v), size, at_zero).value for v in vectors
        ]
        return vectors, np.array(slopes)

    def _loss_in_numpy(self, x: np.ndarray, kernel: np.ndarray) -> float:
        """Returns the loss of the residual network, computed without TensorFlow."""
        for number, branch in enumerate(self.branches):
            w1, b1, w2, b2 = branch.get_weights()
            w1 = w1 if number else np.asarray(kernel)
            x = x + np.tanh(x @ w1 + b1) @ w2 + b2
        return float(((x - self.targets) ** 2).sum() / (2 * _EXAMPLES))

    def _branch(self) -> keras.Sequential:
        dense = [keras.layers.Dense(2 * _WIDTH, "tanh"), keras.layers.Dense(_WIDTH)]
        return keras.Sequential([keras.Input((_WIDTH,)), *dense])


def draw(table: pd.DataFrame) -> Figure:
    """Draws the errors, and what is left of the gradient's norm, against the number of blocks."""
    figure, [errors, left] = panels(2)
    of_input = rows_where(table, part="input")
    for column, colour, name in (
        ("constant_error", BRANCH, "skips as constants"),
        ("reverse_mode_error", TRUNK, "reverse mode"),
    ):
        last = draw_seeds(errors, of_input.blocks, of_input[column], colour)
        name_point(errors, last, name, colour, xytext=(0, -22), ha="right")
    draw_seeds(left, of_input.blocks, of_input.norm_left, BRANCH)
    errors.set_title("Relative error of the gradient at the input")
    left.set_title("Its norm, skips as constants")
    left.axhline(1, color=TRUNK, linewidth=1)
    name_point(left, (1, 1), "true gradient", TRUNK, xytext=(60, 4))
    left.set_ylim(top=50)
    for axis in (errors, left):
        axis.set_xscale("log", base=2)
        axis.set_xticks(ticks := sorted(table.blocks.unique()), [str(n) for n in ticks])
        axis.set_yscale("log")
        axis.set_xlabel("blocks in series")
    left.set_ylabel("relative to the true gradient's")
    return figure


def answer(table: pd.DataFrame) -> Answer:
    """Says by how much the gradient is wrong if skips count as constants."""
    rows = []
    for blocks in table.blocks.unique():
        found = rows_where(table, blocks=blocks, part="input")
        rows.append(
            {
                "blocks": f"{blocks}",
                "error, skips as constants": _range(found.constant_error, ".0%"),
                "error, reverse mode": f"at most {found.reverse_mode_error.max():.0e}",
                "norm that is left": _range(found.norm_left, ".1g"),
                "distance from stop-gradient skips": f"{found.distance_from_stopped.max():g}",
            }
        )
    shallow, deep = (
        rows_where(table, blocks=blocks, part="input")
        for blocks in (table.blocks.min(), table.blocks.max())
    )
    weights = rows_where(table, blocks=table.blocks.max(), part="weights")
    values = {
        "shallow": _range(shallow.constant_error, ".0%"),
        "deep": _range(deep.constant_error, ".0%"),
        "deep_norm": _range(deep.norm_left, ".0e"),
        "blocks": f"{table.blocks.max()}",
        "parameters": f"{2 * _WIDTH * 2 * _WIDTH + 3 * _WIDTH}",
        "reverse_mode": f"{table.reverse_mode_error.max():.0e}",
        "stopped": f"{table.distance_from_stopped.max():g}",
        "weights": _range(weights.constant_error, ".0%"),
        "seeds": str(table.seed.nunique()),
    }
    return Answer(values, pd.DataFrame(rows))


def _range(values: pd.Series, form: str) -> str:
    low, high = f"{values.min():{form}}", f"{values.max():{form}}"
    return low if low == high else f"{low} to {high}"


STUDY = Study(
    name="constant_skip",
    question=9,
    title="the skip as a constant is a stop-gradient skip",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
