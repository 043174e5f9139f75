"""Question 4: the gradient that reaches each block, as depth grows.

Varies the network (plain, residual, stop-gradient skip), the normalization and the depth. Measures
the norm of the gradient at the input of each block, at initialization and after training. Draws the
norm at the first block relative to that behind the last against depth, and the norm block by block.
"""

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from reszoo.data import Pipeline, load_source
from reszoo.models import create_model
from reszoo.studies.drawing import KINDS, draw_with_band, name_ends, note, seeds_of
from reszoo.studies.intervals import in_words, interval, over_seeds
from reszoo.studies.networks import (
    KINDS_OF_NETWORKS,
    LOSS,
    at_blocks,
    held_out,
    on_cifar10,
    on_digits,
    set_first_weights,
)
from reszoo.studies.recipes import blocks_of
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study
from reszoo.studies.trained_cell import train

NORMS = ("batch", "none")
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
# Numbers of colours.
COLOURS = dict(zip(KINDS_OF_NETWORKS, (1, 0, 2), strict=True))
ENDS = ["mean", "low", "high"]
# Seconds on one core, by depth.
_FIRST_COST = {8: 0.5, 20: 0.8, 56: 1.5, 110: 3.0}
_TRAINED_COST = {8: 3.0, 20: 9.0, 56: 18.0, 110: 45.0}


def cells(scale: str) -> list[Cell]:
    """Returns for each seed the networks at initialization, then the trained ones."""
    seeds = 1 if scale == "smoke" else 5
    first = {"smoke": (8,), "small": (8, 20, 56, 110), "paper": ()}[scale]
    trained = {"smoke": (8,), "small": (56,), "paper": (20, 56, 110)}[scale]
    return [
        cell
        for seed in range(seeds)
        for depths, is_trained in ((first, False), (trained, True))
        for depth in depths
        for cell in _cells(scale, depth, seed, is_trained)
    ]


def _cells(scale: str, depth: int, seed: int, is_trained: bool) -> list[Cell]:
    data = "CIFAR-10" if scale == "paper" else "digits"
    epochs = {"smoke": 1, "small": 10, "paper": 165}[scale] if is_trained else 0
    cost = (_TRAINED_COST if is_trained else _FIRST_COST)[depth] * (500 if scale == "paper" else 1)
    kinds = list(KINDS_OF_NETWORKS)[:2] if scale == "smoke" else KINDS_OF_NETWORKS
    norms = NORMS[:1] if scale == "smoke" else NORMS
    point = {"data": data, "epochs": epochs, "depth": depth}
    return [
        Cell(point | {"network": kind, "norm": norm, "seed": seed}, cost)
        for kind in kinds
        for norm in norms
    ]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns the norm at each block, at initialization or before and after training."""
    if not parameters["epochs"]:
        return _initialized(parameters)
    trained = train(configuration_of(parameters), folder)
    images, labels = held_out(trained.run.pipeline, 64)
    model, rows = trained.run.model, []
    known = {"accuracy": trained.accuracy, "parameters": model.count_params()}
    for when in ("after training", "at initialization"):
        if when == "at initialization":
            set_first_weights(trained)
        norms = gradient_norms(model, images, labels)
        rows += [known | {"when": when, "block": b, "norm_of_g": g} for b, g in enumerate(norms)]
    return rows


def configuration_of(parameters: Parameters) -> ConfigDict:
    """Returns the configuration of a cell that is trained.

    Args:
        parameters: The parameters of the cell.
    """
    norm = None if parameters["norm"] == "none" else parameters["norm"]
    kind, depth, seed = parameters["network"], parameters["depth"], parameters["seed"]
    if parameters["data"] == "CIFAR-10":
        return on_cifar10(kind, depth, seed, norm)
    return on_digits(kind, depth, seed, parameters["epochs"], norm)


def _initialized(parameters: Parameters) -> list[Row]:
    """Norms in the network of the published size, on digits of 32x32 pixels."""
    keras.utils.set_random_seed(parameters["seed"])
    pipeline = Pipeline(load_source("digits"), batch_size=32, image_size=32)
    model = create_model(
        "resnet20",
        num_classes=10,
        input_shape=pipeline.image_shape,
        blocks=(blocks_of(parameters["depth"]),) * 3,
        norm=None if parameters["norm"] == "none" else parameters["norm"],
        **KINDS_OF_NETWORKS[parameters["network"]],
    )
    norms = gradient_norms(model, *held_out(pipeline, 32))
    known = {"accuracy": np.nan, "parameters": model.count_params(), "when": "at initialization"}
    return [known | {"block": block, "norm_of_g": norm} for block, norm in enumerate(norms)]


def gradient_norms(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> list[float]:
    """Norm of the gradient of the mean loss at each block's input and behind the last block.

    Args:
        model: A network whose blocks are in series; it runs as in training.
        images: A batch of images.
        labels: Their classes.
    """
    inputs = tf.convert_to_tensor(images)
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        values, logits = at_blocks(model, inputs, training=True)
        loss: Any = LOSS(labels, logits)
    gradients = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, values)]
    return [float(np.linalg.norm(g.astype(np.float64))) for g in gradients]


def draw(table: pd.DataFrame) -> Figure:
    """Draws the ratio of first to last against depth, and the norm by block of trained networks."""
    figure = Figure(figsize=(8.4, 7.4), layout="constrained")
    axes = figure.subplots(2, table.norm.nunique(), sharey="row", squeeze=False)
    first, trained = _halves(table)
    ratios = ratios_of(first)
    for column, norm in enumerate(table.norm.unique()):
        ends = []
        for kind in table.network.unique():
            number = COLOURS[kind]
            band = powers(
                over_seeds(rows_where(ratios, network=kind, norm=norm), ["depth"], "log_ratio")
            )
            draw_with_band(axes[0, column], band, "depth", kind, number)
            ends.append((band["mean"].iloc[-1], kind, KINDS[number]))
            _draw_blocks(
                axes[1, column], rows_where(trained, network=kind, norm=norm), KINDS[number]
            )
        for axis in axes[:, column]:
            axis.set_yscale("log")
        _title_column(axes[:, column], norm, trained)
        axes[0, column].set_xscale("log")
        depths = sorted(ratios.depth.unique())
        axes[0, column].set_xticks(depths, [str(depth) for depth in depths], minor=False)
        axes[0, column].minorticks_off()
    axes[0, 0].set_ylabel("gradient, first block / behind the last")
    axes[1, 0].set_ylabel("norm of the gradient")
    name_ends(axes[0, -1], ends)
    seeds = seeds_of(table, "geometric mean")
    note(figure, f"Digits; above 32x32 pixels, width 16; below 8x8, width 8. {seeds}.")
    return figure


def _halves(table: pd.DataFrame) -> tuple[Any, Any]:
    """The networks that are not trained, and those that are."""
    return table[table.epochs == 0], table[table.epochs > 0]


def _draw_blocks(axis: Axes, trained: pd.DataFrame, colour: str) -> None:
    for when, line in (("at initialization", ":"), ("after training", "-")):
        rows = rows_where(trained, when=when)
        band = powers(over_seeds(rows.assign(log=logarithm(rows.norm_of_g)), ["block"], "log"))
        axis.plot(band.block, band["mean"], line, color=colour)
        axis.fill_between(band.block, band.low, band.high, color=colour, alpha=0.12, linewidth=0)


def _title_column(axes: np.ndarray, norm: str, trained: pd.DataFrame) -> None:
    with_norm = "With batch normalization" if norm == "batch" else "Without normalization"
    axes[0].set_title(f"{with_norm}\nat initialization", fontsize=10)
    axes[0].set_xlabel("layers")
    depth = trained.depth.iloc[0]
    axes[1].set_title(f"{depth} layers, dotted: before training, solid: after", fontsize=10)
    axes[1].set_xlabel("block")


def logarithm(norms: pd.Series) -> Any:
    """Base 10, NaN for a gradient that is zero or not finite.

    Args:
        norms: Norms of gradients.
    """
    return np.log10(norms.where((norms > 0) & np.isfinite(norms)))


def powers(intervals: pd.DataFrame) -> pd.DataFrame:
    """Means of logarithms as geometric means, their intervals likewise.

    Args:
        intervals: A table of `over_seeds`.
    """
    numbers = intervals.astype(float)  # also where there is no row
    return numbers.assign(**{name: 10.0 ** numbers[name] for name in ENDS})


def ratios_of(table: pd.DataFrame) -> pd.DataFrame:
    """Logarithm of the norm at the first block's input over that behind the last block, a network.

    Args:
        table: The table of the study.
    """
    keys = ["epochs", "depth", "network", "norm", "seed", "when", "accuracy", "parameters"]
    rows = []
    groups: Any = table.groupby(keys, sort=False, dropna=False)
    for key, group in groups:
        logs = logarithm(group.sort_values("block").norm_of_g)
        rows.append([*key, logs.iloc[0] - logs.iloc[-1]])
    return pd.DataFrame(rows, columns=[*keys, "log_ratio"])


def answer(table: pd.DataFrame) -> Answer:
    """Says by how much the gradient grows or shrinks on its way to the first block."""
    ratios = ratios_of(table)
    first, trained = _halves(ratios)
    rows, values = [], {"seeds": str(table.seed.nunique()), "depth": str(first.depth.max())}
    for (kind, norm), group in first.groupby(["network", "norm"], sort=False):
        row = {"network": kind, "normalization": norm}
        for depth, some in group.groupby("depth"):
            row[f"{depth} layers"] = _in_words(some)
        after = rows_where(trained, when="after training", network=kind, norm=norm)
        row[f"{trained.depth.iloc[0]} layers, trained"] = _in_words(after)
        accuracy = 100 * after.accuracy.to_numpy(float)
        row["its test accuracy"] = in_words(*interval(accuracy), unit="%")
        row["its test accuracy"] += _left_out(accuracy, "diverged")
        rows.append(row)
        name = f"{kind.split()[0].split('-')[0]}_{norm}"
        values[name] = _in_words(group[group.depth == group.depth.max()])
        values[f"{name}_trained"] = row[f"{trained.depth.iloc[0]} layers, trained"]
        values[f"{name}_accuracy"] = row["its test accuracy"]
    values["explosion"] = rounded((np.pi / (np.pi - 1)) ** (first.depth.max() / 2 - 1))
    values["root"] = f"{np.sqrt(first.depth.max() / 2):.1f}"
    values["first_tenth"] = rounded(_growth_in_first_tenth(table, first.depth.max()))
    values["trained_depth"] = str(trained.depth.iloc[0])
    values["parameters"] = f"{first[first.depth == first.depth.max()].parameters.iloc[0]:,}"
    values["trained_parameters"] = f"{trained.parameters.iloc[0]:,}"
    return Answer(values, pd.DataFrame(rows))


def _growth_in_first_tenth(table: pd.DataFrame, depth: int) -> float:
    """Geometric mean over seeds of the gradient at the first block over that a tenth further on."""
    rows = rows_where(table, epochs=0, depth=depth, network="residual", norm="batch")
    logs = rows.assign(log=logarithm(rows.norm_of_g)).pivot(
        index="seed", columns="block", values="log"
    )
    return float(10.0 ** (logs[0] - logs[logs.columns.max() // 10]).mean())


def rounded(number: float) -> str:
    """A number above zero to two digits, or to one with its power of ten.

    Args:
        number: The number.

    Example:

    >>> rounded(194.7), rounded(0.016), rounded(8.27e7), rounded(1.6e-17)
    ('190', '0.016', '8·10⁷', '2·10⁻¹⁷')
    """
    if 0.01 <= number < 1e4 or not np.isfinite(number):
        return f"{float(f'{number:.2g}'):g}"
    digit, power = f"{number:.0e}".split("e")
    return f"{digit}·10{str(int(power)).translate(_RAISED)}"


def _in_words(ratios: pd.DataFrame) -> str:
    """Geometric mean of some ratios, and how many of them are zero or not finite."""
    logs = ratios.log_ratio.to_numpy(float)
    mean, low, high = (10.0**end for end in interval(logs))
    text = rounded(mean) if np.isnan(low) else f"{rounded(mean)} [{rounded(low)}, {rounded(high)}]"
    text = "not defined" if np.isnan(mean) else text
    return text + _left_out(logs, "zero or not finite")


def _left_out(values: np.ndarray, reason: str) -> str:
    number = int(np.isnan(values).sum())
    return f" ({number} of {len(values)} {reason})" if number else ""


STUDY = Study(
    name="gradient_by_depth",
    question=4,
    title="gradient at each block against depth, with and without skips and normalization",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
