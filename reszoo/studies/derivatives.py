"""Question 6: gradients are added at the fork, not averaged, and come from reverse mode.

Varies the block, and compares the gradient at its input in reverse mode and by finite differences,
which use no gradient code, with three candidates made of the gradients of its paths: their sum,
their average, and the one of the branch alone (the skip as a constant).
"""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from reszoo.layers import BasicBranch, ProjectionShortcut, ResidualBlock, ZeroPadShortcut
from reszoo.studies.drawing import BRANCH, TRUNK, name_point, panels
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study

BLOCKS = ("dense", "convolution", "projection", "zero padding")
CANDIDATES = ("sum", "average", "skip as a constant")


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each block and seed."""
    seeds = 1 if scale == "smoke" else 5
    blocks = BLOCKS[:1] if scale == "smoke" else BLOCKS
    return [Cell({"layers": block, "seed": seed}) for block in blocks for seed in range(seeds)]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns a row for each candidate."""
    from reszoo.gradients import check

    seed = parameters["seed"]
    keras.utils.set_random_seed(seed)
    block = _block(parameters["layers"])
    shape = (4, 8) if parameters["layers"] == "dense" else (4, 6, 6, 4)
    inputs = np.random.default_rng(seed).normal(size=shape)
    table = check(block, inputs, seed=seed)
    columns = ["candidate", "finite_differences_error", "reverse_mode_error", "doubt"]
    return [dict(zip(columns, row, strict=True)) for row in table[columns].to_numpy().tolist()]


def _block(layers: str) -> ResidualBlock:
    if layers == "dense":
        return ResidualBlock([keras.layers.Dense(16, "tanh"), keras.layers.Dense(8)])
    if layers == "convolution":
        return ResidualBlock(BasicBranch(4))
    if layers == "projection":
        return ResidualBlock(BasicBranch(8, strides=2), ProjectionShortcut(8, strides=2))
    return ResidualBlock(BasicBranch(8, strides=2), ZeroPadShortcut(8, strides=2))


def draw(table: pd.DataFrame) -> Figure:
    """Draws the error of each candidate against finite differences."""
    figure, [axis] = panels(1)
    blocks = list(table.layers.unique())
    colours = dict(zip(map(str, CANDIDATES), (TRUNK, "black", BRANCH), strict=True))
    for number, (candidate, colour) in enumerate(colours.items()):
        rows = rows_where(table, candidate=candidate)
        places = rows.layers.map(blocks.index) + 0.2 * (number - 1)
        axis.scatter(places, rows.finite_differences_error, color=colour, s=18)
    axis.set_yscale("log")
    axis.set_ylim(1e-13, 1e3)
    for candidate, height, name in (
        ("sum", 1e-8, "the sum: error of the finite differences themselves"),
        ("average", 1e-2, "the average"),
        ("skip as a constant", 2e1, "the branch alone, the skip as a constant"),
    ):
        name_point(axis, (-0.2, height), name, colours[candidate], xytext=(0, 0))
    axis.set_xticks(range(len(blocks)), blocks)
    axis.set_ylabel("relative error")
    axis.set_title("Distance from the finite differences at the fork")
    return figure


def answer(table: pd.DataFrame) -> Answer:
    """Says how far each candidate is from finite differences."""
    largest = table.groupby("candidate", sort=False)[
        ["finite_differences_error", "reverse_mode_error"]
    ]
    ranges = largest.agg(["min", "max"])
    rows = []
    for candidate in CANDIDATES:
        row = ranges.loc[candidate]
        finite, reverse = row.finite_differences_error, row.reverse_mode_error
        rows.append(
            {
                "candidate": candidate,
                "error against finite differences": f"{finite['min']:.1g} to {finite['max']:.1g}",
                "error against reverse mode": f"{reverse['min']:.1g} to {reverse['max']:.1g}",
            }
        )
    errors = ranges.finite_differences_error
    values = {
        "sum": f"{errors.loc['sum', 'max']:.0e}",
        "average": f"{errors.loc['average', 'min']:.0%}",
        "blocks": str(table[["layers", "seed"]].drop_duplicates().shape[0]),
    }
    return Answer(values, pd.DataFrame(rows))


STUDY = Study(
    name="derivatives",
    question=6,
    title="added or averaged, reverse mode or finite differences",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
