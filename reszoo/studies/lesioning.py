"""Question 4: a trained network without one of its blocks, or without several.

Varies the network, residual or plain. Measures the error on the test images when blocks of the
trained network hand on their input in place of their output, each block by itself and several at a
time, as Veit et al. 2016 did. Draws the error by block and by the number of dropped blocks.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from reszoo.gradients.blocks import find_blocks
from reszoo.studies.drawing import KINDS, draw_with_band, name_ends, note, panels, seeds_of
from reszoo.studies.intervals import in_words, interval, over_seeds
from reszoo.studies.networks import (
    at_blocks,
    held_out,
    on_cifar10,
    on_digits,
    without_branch,
)
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study
from reszoo.studies.trained_cell import train

NETWORKS = (("residual", 20), ("plain", 20), ("residual", 110))
SEVERAL = (2, 3, 5, 10, 20)
DRAWS = 5
# Numbers of colours, by kind and whether it is deeper than the shallow ones.
SHALLOW = 20
COLOURS = {("residual", False): 4, ("plain", False): 1, ("residual", True): 0, ("plain", True): 5}


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each seed and network."""
    if scale == "smoke":
        point = {"data": "digits", "epochs": 2, "depth": 8, "seed": 0}
        return [Cell(point | {"network": kind}, 8.0) for kind in ("residual", "plain")]
    data, epochs = ("digits", 12) if scale == "small" else ("CIFAR-10", 165)
    costs = {20: 10.0, 110: 50.0} if scale == "small" else {20: 2e4, 110: 1e5}
    return [
        Cell({"data": data, "epochs": epochs, "depth": depth, "seed": seed, "network": kind}, cost)
        for seed in range(5)
        for kind, depth in NETWORKS
        for cost in [costs[depth]]
    ]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns the error of the whole network, without each block, and without several."""
    trained = train(configuration_of(parameters), folder)
    model = trained.run.model
    images, labels = held_out(trained.run.pipeline)
    starts, _ = at_blocks(model, images, training=False)
    rows = []
    for dropped, draw_number, chosen in lesions(len(starts) - 1, parameters["seed"]):
        logits = without_blocks(model, starts, chosen)
        wrong = np.mean(np.argmax(logits, axis=1) != labels)
        block = min(chosen) if dropped == 1 else -1
        row = {"dropped": dropped, "draw": draw_number, "block": block, "error": float(wrong)}
        rows.append(row | {"parameters": model.count_params()})
    return rows


def configuration_of(parameters: Parameters) -> ConfigDict:
    """Returns the configuration of a cell.

    Args:
        parameters: The parameters of the cell.
    """
    kind, depth, seed = parameters["network"], parameters["depth"], parameters["seed"]
    if parameters["data"] == "CIFAR-10":
        return on_cifar10(kind, depth, seed)
    return on_digits(kind, depth, seed, parameters["epochs"])


def lesions(blocks: int, seed: int) -> Iterator[tuple[int, int, frozenset[int]]]:
    """Yields how many blocks are dropped, the number of the draw, and which: none, each, several.

    Args:
        blocks: Number of blocks in the network.
        seed: Seed of the draws.

    Example:

    >>> [sorted(chosen) for dropped, _, chosen in lesions(3, seed=0) if dropped < 2]
    [[], [0], [1], [2]]
    """
    yield 0, 0, frozenset()
    for block in range(blocks):
        yield 1, 0, frozenset([block])
    random = np.random.default_rng(seed)
    for dropped in [number for number in SEVERAL if number < blocks]:
        for draw_number in range(DRAWS):
            chosen = random.choice(blocks, dropped, replace=False).tolist()
            yield dropped, draw_number, frozenset(chosen)


def without_blocks(
    model: keras.Model, starts: Sequence[tf.Tensor], dropped: Collection[int]
) -> np.ndarray:
    """Returns the logits where some blocks hand on their input.

    Args:
        model: A network whose blocks are in series.
        starts: The input of each block, of the whole network, and the output of the last.
        dropped: Numbers of the blocks, from 0.
    """
    blocks = list(find_blocks(model).values())
    first = min(dropped, default=len(blocks))
    x: Any = starts[first]
    for number, block in enumerate(blocks[first:], first):
        x = without_branch(block, x) if number in dropped else block(x, training=False)
    for layer in model.layers[model.layers.index(blocks[-1]) + 1 :]:
        x = layer(x, training=False)
    return x.numpy()


def draw(table: pd.DataFrame) -> Figure:
    """Draws the error by block and by the number of dropped blocks."""
    figure, axes = panels(2, height=4.0, sharey=True)
    numbers, ends = sorted(table.dropped.unique()), []
    table = table.assign(percent=100 * table.error)
    for (kind, depth), rows in _networks(table):
        number = COLOURS[kind, depth > SHALLOW]
        blocks = rows.block.max() + 1
        single = over_seeds(rows_where(rows, dropped=1), ["block"], "percent")
        single["place"] = (single.block + 0.5) / blocks
        colour, label = KINDS[number], f"{kind}, {depth} layers"
        axes[0].plot(single.place, single["mean"], ".-", color=colour, label=label, linewidth=1)
        axes[0].fill_between(single.place, single.low, single.high, color=colour, alpha=0.15)
        whole = rows_where(rows, dropped=0).percent.mean()
        axes[0].axhline(whole, color=colour, linestyle=":", linewidth=1)
        # The draws of a network are averaged first: seeds are independent, draws are not.
        draws = rows.groupby(["seed", "dropped"], as_index=False).percent.mean()
        several = over_seeds(draws, ["dropped"], "percent")
        several["place"] = several.dropped.map(numbers.index)
        draw_with_band(axes[1], several, "place", label, number)
        ends.append((several["mean"].iloc[-1], label, colour))
    axes[0].set_title("Without one block")
    axes[0].set_xlabel("place of the block, from the first to the last")
    axes[0].set_ylabel("test error, %")
    axes[0].set_ylim(0, 100)
    axes[1].set_title("Without several")
    axes[1].set_xlabel("blocks that are dropped")
    axes[1].set_xticks(range(len(numbers)), [str(number) for number in numbers])
    name_ends(axes[1], ends)
    note(figure, f"Digits; dotted: the whole network. {seeds_of(table)}.")
    return figure


def _networks(table: pd.DataFrame) -> Iterator[tuple[tuple[str, int], Any]]:
    groups: Any = table.groupby(["network", "depth"], sort=False)
    yield from groups


def answer(table: pd.DataFrame) -> Answer:
    """Says what the loss of a block costs."""
    rows, values = [], {}
    for (kind, depth), network in _networks(table.assign(percent=100 * table.error)):
        blocks = int(network.block.max()) + 1
        single = rows_where(network, dropped=1).groupby("seed").percent
        figures = {
            "whole": rows_where(network, dropped=0).percent,
            "one": single.mean(),
            "median": single.median(),
            "worst": single.max(),
        }
        words = {name: in_words(*interval(some.to_numpy()), unit="%")
                 for name, some in figures.items()}  # fmt: skip
        for dropped in (number for number in SEVERAL if number < blocks):
            some = rows_where(network, dropped=dropped).groupby("seed").percent.mean()
            words[f"without_{dropped}"] = in_words(*interval(some.to_numpy()), unit="%")
        row = {"network": f"{kind}, {depth} layers", "blocks": str(blocks)}
        row |= {"error": words["whole"], "without one block, mean": words["one"]}
        row |= {"median": words["median"], "worst block": words["worst"]}
        row |= {"without 3 blocks": words.get("without_3", "")}
        row |= {"without 10 blocks": words.get("without_10", "")}
        row |= {"parameters": f"{network.parameters.iloc[0]:,}"}
        rows.append(row | {"seeds": str(network.seed.nunique())})
        words["whole_by_seed"] = ", ".join(f"{percent:.1f}%" for percent in figures["whole"])
        values |= {f"{kind}_{depth}_{name}": text for name, text in words.items()}
    values |= {"seeds": str(table.seed.nunique())}
    return Answer(values, pd.DataFrame(rows))


STUDY = Study(
    name="lesioning",
    question=4,
    title="error of a trained network without one of its blocks, or several",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
