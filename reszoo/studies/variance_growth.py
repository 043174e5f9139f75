"""Question 4: the signal grows linearly with depth with normalization, exponentially without.

Varies layers and normalization of a residual network at initialization. Measures the mean square of
each block's input, which is its variance over the draw of the weights, and the share of the branch
in the block's output. Draws both by block, beside the prediction of De and Smith 2020.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reszoo.gradients.blocks import find_blocks
from reszoo.models import ResidualMLP, create_model
from reszoo.studies.drawing import KINDS, TRUNK, note, panels, seeds_of
from reszoo.studies.intervals import in_words, interval, over_seeds
from reszoo.studies.networks import at_blocks
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study

LAYERS = ("dense", "convolution", "convolution, activation after the addition")
LINES: dict[str, Any] = {"batch": "-", "none": "--"}  # the lines that are drawn, by normalization
# Size of each scale: blocks, units of a dense layer, channels, pixels, examples.
SIZES = {
    "smoke": (4, 32, 4, 8, 32),
    "small": (54, 256, 16, 16, 128),
    "paper": (100, 1000, 64, 32, 1000),
}


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each seed, kind of layers and normalization."""
    seeds, cost = (1, 0.5) if scale == "smoke" else (10, 2.3)
    names = ("blocks", "units", "channels", "pixels", "examples")
    sizes = dict(zip(names, SIZES[scale], strict=True))
    return [
        Cell({"layers": layers, "norm": norm, "seed": seed} | sizes, cost)
        for seed in range(seeds)
        for layers in LAYERS
        for norm in LINES
    ]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns a row for each block, and one for the output of the last."""
    seed, examples = parameters["seed"], parameters["examples"]
    keras.utils.set_random_seed(seed)
    model = network(parameters)
    inputs = np.random.default_rng(seed).normal(size=(examples, *model.input_shape[1:]))
    values, _ = at_blocks(model, inputs.astype(np.float32), training=True)
    shares = []
    for block, x in zip(find_blocks(model).values(), values, strict=False):
        branch = mean_square(block.branch(x, training=True))
        shares.append(branch / (branch + mean_square(x)))
    known = {"parameters": model.count_params()}
    return [
        known | {"block": block, "mean_square": mean_square(x), "branch_share": share}
        for block, (x, share) in enumerate(zip(values, [*shares, np.nan], strict=True))
    ]


def network(parameters: Parameters) -> keras.Model:
    """Returns the network of a cell, all blocks of the same width.

    Args:
        parameters: The parameters of the cell.
    """
    norm = None if parameters["norm"] == "none" else parameters["norm"]
    blocks = parameters["blocks"]
    if parameters["layers"] == "dense":
        units = parameters["units"]
        return ResidualMLP(input_shape=(units,), width=units, blocks=blocks, norm=norm)
    size = parameters["pixels"]
    return create_model(
        "resnet20",
        num_classes=10,
        input_shape=(size, size, 3),
        blocks=(blocks,),
        width=parameters["channels"],
        norm=norm,
        preactivation=parameters["layers"] == "convolution",
    )


def mean_square(x: tf.Tensor) -> float:
    """Mean of the squares, in float64.

    Args:
        x: A tensor.
    """
    return float(np.mean(np.square(x.numpy().astype(np.float64))))


def predicted(norm: str, start: float, block: np.ndarray) -> np.ndarray:
    """Mean square of a block's input where each branch has that of its input, or 1.

    Args:
        norm: `"batch"`, whose branches have a mean square of 1, or `"none"`, whose branches have
            that of their input.
        start: Mean square of the first block's input.
        block: Number of the block, from 0.

    Example:

    >>> [predicted(norm, 1.0, np.arange(4)).tolist() for norm in ("none", "batch")]
    [[1.0, 2.0, 4.0, 8.0], [1.0, 2.0, 3.0, 4.0]]
    """
    return start * 2.0**block if norm == "none" else start + block


def draw(table: pd.DataFrame) -> Figure:
    """Draws the mean square and the branch's share by block, beside the predictions."""
    figure, axes = panels(2, height=4.4)
    for axis, column in zip(axes, ("mean_square", "branch_share"), strict=True):
        logs = table.assign(log=np.log(table[column]))
        for number, layers in enumerate(LAYERS):
            for norm, line in LINES.items():
                rows = rows_where(logs, layers=layers, norm=norm)
                _draw_band(axis, over_seeds(rows, ["block"], "log"), KINDS[number], line)
        _draw_predictions(axis, column, table)
        axis.set_yscale("log")
        axis.set_xlabel("block")
    axes[0].set_title("Mean square of a block's input")
    axes[1].set_title("Branch's share of the block's output")
    _explain_lines(axes[0])
    axes[0].set_ylim(table.mean_square.min() / 3, table.mean_square.max() * 1e5)
    axes[1].set_ylim(5e-3, 1.5)
    note(figure, f"At initialization, {seeds_of(table, 'geometric mean')}.")
    return figure


def _draw_band(axis: Axes, band: pd.DataFrame, colour: str, line: str) -> None:
    """Draws geometric means, and intervals as a band."""
    axis.plot(band.block, np.exp(band["mean"]), line, color=colour, linewidth=1.5)
    ends = np.exp(band.low), np.exp(band.high)
    axis.fill_between(band.block, *ends, color=colour, alpha=0.12, linewidth=0)


def _explain_lines(axis: Axes) -> None:
    names = {"batch": "batch normalization", "none": "no normalization"}
    handles = [Line2D([], [], color=KINDS[n], label=layers) for n, layers in enumerate(LAYERS)]
    handles += [
        Line2D([], [], color=TRUNK, linestyle=line, label=names[norm])
        for norm, line in LINES.items()
    ]
    handles.append(Line2D([], [], color="black", linestyle=":", label="predicted, dense"))
    axis.legend(handles=handles, loc="upper left", fontsize=8)


def _draw_predictions(axis: Axes, column: str, table: pd.DataFrame) -> None:
    blocks = np.arange(table.block.max() + 1)
    for norm in LINES:
        squares = predicted(norm, _start(table), blocks)
        values = squares if column == "mean_square" else 1 - squares[:-1] / squares[1:]
        axis.plot(blocks[: len(values)], values, ":", color="black", linewidth=1.2)


def _start(table: pd.DataFrame) -> float:
    return rows_where(table, layers="dense", block=0).mean_square.mean()


def answer(table: pd.DataFrame) -> Answer:
    """Says how fast the signal grows, and how small the branch's share becomes."""
    rows, last = [], int(table.block.max())
    groups: Any = table.groupby(["layers", "norm"], sort=False)
    for (layers, norm), group in groups:
        growth = rows_where(group, block=last).set_index("seed").mean_square
        start = rows_where(group, block=0).set_index("seed").mean_square
        is_linear = norm == "batch"
        each = (growth - start) / last if is_linear else (growth / start) ** (1 / last)
        share = rows_where(group, block=last - 1).branch_share.to_numpy(float)
        rows.append(
            {
                "layers": layers,
                "normalization": norm,
                "mean square, from block to block": ("+ " if is_linear else "x ")
                + in_words(*interval(each.to_numpy(float)), ".2f"),
                f"branch's share in block {last}": in_words(*interval(100 * share), unit="%"),
                "seeds": str(group.seed.nunique()),
                "parameters": f"{group.parameters.iloc[0]:,}",
            }
        )
    answers = pd.DataFrame(rows)
    by_kind: Any = answers.set_index(["layers", "normalization"])
    growth = by_kind["mean square, from block to block"]
    share = by_kind[f"branch's share in block {last}"]
    values = {
        "blocks": str(last),
        "seeds": answers.seeds[0],
        "added": growth["dense", "batch"].removeprefix("+ "),
        "factor": growth["dense", "none"].removeprefix("x "),
        "convolution_added": growth["convolution", "batch"].removeprefix("+ "),
        "convolution_factor": growth["convolution", "none"].removeprefix("x "),
        "share": share["dense", "batch"],
        "share_without": share["dense", "none"],
        "predicted_share": f"{100 / (_start(table) + last):.1f}%",
    }
    return Answer(values, answers)


STUDY = Study(
    name="variance_growth",
    question=4,
    title="growth of the signal from block to block, with and without normalization",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
