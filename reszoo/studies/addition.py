"""Question 2: an addition hands its gradient to both inputs; the branch's weights are updated.

Measures the gradients at the inputs of a sum, and varies whether a network of 16 blocks has skips:
the norm of each block's weight gradient, its distance from formulas written out by hand, and
whether a skip alters the weight gradient of a block whose input and output gradient are given.
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
from reszoo.layers import ResidualBlock
from reszoo.studies.drawing import BRANCH, SKIP, TRUNK, draw_seeds, name_point, panels
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study

BLOCKS, EXAMPLES, WIDTH = 16, 4, 8
# Of a branch: two matrices and two biases.
PARAMETERS = 2 * WIDTH * 2 * WIDTH + 3 * WIDTH
SKIPS = ("with skips", "without skips")


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each seed."""
    return [Cell({"seed": seed}, 1.3) for seed in range(1 if scale == "smoke" else 5)]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns the gradients of a sum, then the weight gradients of each block."""
    with double_precision():
        return _measured(parameters["seed"])


def _measured(seed: int) -> list[Row]:
    keras.utils.set_random_seed(seed)
    branches = [branch_of_two_layers() for _ in range(BLOCKS)]
    x, targets = np.random.default_rng(seed).normal(size=(2, EXAMPLES, WIDTH))
    rows = [*_of_a_sum(seed), _same_with_and_without(branches[0], x, targets)]
    for skips in SKIPS:
        has_skip = skips == SKIPS[0]
        found = weight_gradients(branches, x, targets, has_skip)
        expected = by_hand([branch.get_weights() for branch in branches], x, targets, has_skip)
        for block, (gradients, formula) in enumerate(zip(found, expected, strict=True)):
            norm = np.linalg.norm(np.concatenate([g.ravel() for g in formula]))
            distance = max(np.abs(a - b).max() for a, b in zip(gradients, formula, strict=True))
            rows += [
                _row("weight gradient", skips, block + 1, norm),
                _row("distance from the formula", skips, block + 1, distance / norm),
            ]
    return rows


def branch_of_two_layers() -> keras.Sequential:
    """Returns a branch, `f(x) = tanh(x W1 + b1) W2 + b2`."""
    dense = [
        keras.layers.Dense(2 * WIDTH, "tanh"),
        keras.layers.Dense(WIDTH),
    ]
    return keras.Sequential([keras.Input((WIDTH,)), *dense])


def weight_gradients(
    branches: Sequence[keras.Sequential], x: np.ndarray, targets: np.ndarray, skips: bool
) -> list[list[np.ndarray]]:
    """Returns the gradients of each branch's weights in reverse mode.

    Args:
        branches: The branches, in series.
        x: The input.
        targets: Targets of the output; the loss is half the squared distance, averaged over
            examples.
        skips: Whether each branch has a skip.
    """
    blocks: Sequence[Callable] = branches
    if skips:
        blocks = [ResidualBlock(branch) for branch in branches]
    weights = [[weight.value for weight in branch.trainable_weights] for branch in branches]
    with tf.GradientTape() as tape:
        y = tf.constant(x)
        for block in blocks:
            y = block(y)
        loss = tf.reduce_sum((y - targets) ** 2) / (2 * len(x))
    found: Any = tape.gradient(loss, weights)
    return [[g.numpy() for g in of_block] for of_block in found]


def by_hand(
    weights: Sequence[Sequence[np.ndarray]], x: np.ndarray, targets: np.ndarray, skips: bool
) -> list[list[np.ndarray]]:
    """Returns the same gradients by formulas, in NumPy.

    Args:
        weights: `W1`, `b1`, `W2` and `b2` of each branch.
        x: The input.
        targets: Targets of the output.
        skips: Whether each branch has a skip.
    """
    passed = []
    for w1, b1, w2, b2 in weights:
        hidden = np.tanh(x @ w1 + b1)
        passed.append((x, hidden))
        x = skips * x + hidden @ w2 + b2
    g = (x - targets) / len(x)
    gradients = []
    for (w1, _, w2, _), (x, hidden) in zip(weights[::-1], passed[::-1], strict=True):
        a = (g @ w2.T) * (1 - hidden**2)
        gradients.append([x.T @ a, a.sum(axis=0), hidden.T @ g, g.sum(axis=0)])
        g = skips * g + a @ w1.T
    return gradients[::-1]


def _of_a_sum(seed: int) -> list[Row]:
    generator = np.random.default_rng(seed)
    a, b = (tf.constant(generator.normal(size=WIDTH)) for _ in range(2))
    upstream = generator.normal(size=WIDTH)
    with tf.GradientTape() as tape:
        tape.watch([a, b])
        y = a + b
    at_inputs = tape.gradient(y, [a, b], [tf.constant(upstream)])
    numbers = [tf.constant(generator.normal()) for _ in range(2)]
    with tf.GradientTape() as tape:
        tape.watch(numbers)
        total = numbers[0] + numbers[1]
    ones: Any = tape.gradient(total, numbers)
    named = zip(("sum", "skip", "branch"), (upstream, *at_inputs), strict=True)
    return [
        _row(f"gradient at the {place}", "", element, float(value))
        for place, gradient in named
        for element, value in enumerate(np.asarray(gradient))
    ] + [_row("gradient of a plain sum", "", i, float(g)) for i, g in enumerate(ones)]


def _same_with_and_without(branch: keras.Sequential, x: np.ndarray, g: np.ndarray) -> Row:
    weights, upstream = [weight.value for weight in branch.trainable_weights], [tf.constant(g)]
    with tf.GradientTape(persistent=True) as tape:
        with_skip = ResidualBlock(branch)(tf.constant(x))
        without = branch(tf.constant(x))
    pairs: Any = zip(
        tape.gradient(with_skip, weights, upstream),
        tape.gradient(without, weights, upstream),
        strict=True,
    )
    distance = max(float(tf.reduce_max(tf.abs(a - b))) for a, b in pairs)
    return _row("with less without, for the same x and g", "", 0, distance)


def _row(quantity: str, skips: str, number: int, value: Any) -> Row:
    return {"quantity": quantity, "skips": skips, "number": number, "value": float(value)}


def draw(table: pd.DataFrame) -> Figure:
    """Draws the gradients at a sum, and the weight gradients of each block."""
    figure, [addition, weights] = panels(2)
    seed = rows_where(table, seed=table.seed.min())
    places = {"sum": TRUNK, "skip": SKIP, "branch": BRANCH}
    for number, (place, colour) in enumerate(places.items()):
        rows = rows_where(seed, quantity=f"gradient at the {place}")
        addition.bar(rows.number + 0.27 * (number - 1), rows.value, 0.25, color=colour, label=place)
    addition.axhline(0, color="black", linewidth=0.8)
    addition.set_title("Gradient at a sum and at its inputs")
    addition.set_xlabel("element")
    addition.set_xticks(range(WIDTH), [str(n + 1) for n in range(WIDTH)])
    addition.legend(ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    norms = rows_where(table, quantity="weight gradient")
    for skips, colour in zip(SKIPS, (SKIP, BRANCH), strict=True):
        rows = rows_where(norms, skips=skips)
        last = draw_seeds(weights, rows.number, rows.value, colour)
        up = 18 if colour == SKIP else -48
        name_point(weights, last, skips, colour, xytext=(0, up), ha="right")
    weights.set_xticks([1, 4, 8, 12, BLOCKS])
    weights.set_title("Norm of each block's weight gradient")
    weights.set_xlabel("block (the first is farthest from the loss)")
    return figure


def answer(table: pd.DataFrame) -> Answer:
    """Says what an addition does to a gradient, and what the weights of each block receive."""
    largest: Any = table.groupby("quantity").value.max()
    norms = rows_where(table, quantity="weight gradient")
    rows, ratios = [], {}
    for skips in SKIPS:
        of_kind = rows_where(norms, skips=skips)
        first, last = (rows_where(of_kind, number=number).value for number in (1, BLOCKS))
        ratios[skips] = np.array(first) / np.array(last)
        formula = rows_where(table, skips=skips, quantity="distance from the formula")
        rows.append(
            {
                "network": f"{BLOCKS} blocks {skips}",
                "weight gradient of the first block": _range(first),
                "of the last block": _range(last),
                "largest relative distance from the formula": f"{formula.value.max():.0e}",
            }
        )
    at_sum, *at_inputs = (
        rows_where(table, quantity=f"gradient at the {place}").value.to_numpy()
        for place in ("sum", "skip", "branch")
    )
    apart = np.abs(np.subtract(at_inputs, at_sum)).max()
    plain = rows_where(table, quantity="gradient of a plain sum")
    values = {
        "plain": ", ".join(f"{value:.1f}" for value in plain.value[:2]),
        "apart": f"{apart:g}",
        "same": f"{largest['with less without, for the same x and g']:g}",
        "formula": f"{largest['distance from the formula']:.0e}",
        "with": _range(pd.Series(ratios[SKIPS[0]])),
        "without": _range(pd.Series(ratios[SKIPS[1]])),
        "blocks": str(BLOCKS),
        "parameters": f"{BLOCKS * PARAMETERS:,}",
        "seeds": str(table.seed.nunique()),
    }
    return Answer(values, pd.DataFrame(rows))


def _range(values: pd.Series) -> str:
    low, high = (f"{float(f'{value:.2g}'):g}" for value in (values.min(), values.max()))
    return f"{low} to {high}"


STUDY = Study(
    name="addition",
    question=2,
    title="what an addition does to a gradient, and how weights of a branch are updated",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
