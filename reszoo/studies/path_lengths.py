"""Question 4: the length of the paths by which the gradient comes.

Varies the seed of a residual network. Measures the gradient at the first block's input by the
number of branches on its path, at initialization and after training, as Veit et al. 2016 did. Draws
the number of paths of each length, the norm of one path's gradient and the share of all of them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from reszoo.gradients import gradient_by_path_length
from reszoo.studies.drawing import KINDS, TRUNK, note, panels, seeds_of
from reszoo.studies.intervals import in_words, interval, over_seeds
from reszoo.studies.networks import (
    LOSS,
    held_out,
    on_cifar10,
    on_digits,
    set_first_weights,
)
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study
from reszoo.studies.trained_cell import train

WHEN = ("at initialization", "after training")
# Veit et al. 2016, section 4.2: most of the gradient comes by paths of 10 to 34 layers, which are
# 5 to 17 blocks of two layers.
PUBLISHED = (5, 17)


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each seed."""
    if scale == "smoke":
        return [Cell({"data": "digits", "depth": 8, "epochs": 1, "paths": 2, "seed": 0}, 8.0)]
    data, epochs, paths = ("digits", 12, 3) if scale == "small" else ("CIFAR-10", 165, 100)
    fixed = {"data": data, "depth": 110, "epochs": epochs, "paths": paths}
    return [Cell(fixed | {"seed": seed}, 120.0 if scale == "small" else 1e5) for seed in range(5)]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns the gradient by path length after training and before it."""
    trained = train(configuration_of(parameters), folder)
    images, labels = (tf.constant(part) for part in held_out(trained.run.pipeline, 32))
    model, rows = trained.run.model, []
    known = {"accuracy": trained.accuracy, "parameters": model.count_params()}
    for when in ("after training", "at initialization"):
        if when == "at initialization":
            set_first_weights(trained)
        table = gradient_by_path_length(
            model, images, labels, LOSS, parameters["paths"], parameters["seed"]
        )
        rows += [known | {"when": when} | row for row in by_length(table).to_dict("records")]
    return rows


def configuration_of(parameters: Parameters) -> ConfigDict:
    """Returns the configuration of a cell.

    Args:
        parameters: The parameters of the cell.
    """
    depth, seed = parameters["depth"], parameters["seed"]
    if parameters["data"] == "CIFAR-10":
        return on_cifar10("residual", depth, seed)
    return on_digits("residual", depth, seed, parameters["epochs"])


def by_length(paths: pd.DataFrame) -> pd.DataFrame:
    """Returns for each length the number of paths, the mean norm of one, and the share of all.

    Args:
        paths: A table of `reszoo.gradients.gradient_by_path_length`.
    """
    groups = paths.groupby("length")
    number, norm = groups.number_of_paths.first(), groups.gradient_norm.mean()
    table = pd.DataFrame(
        {"share_of_paths": number / number.sum(), "norm_of_a_path": norm, "share": number * norm}
    )
    table["share"] /= table.share.sum()
    return table.reset_index()


def draw(table: pd.DataFrame) -> Figure:
    """Draws the norm of one path's gradient by length, and the shares of paths and gradient."""
    figure, axes = panels(2, height=4.0)
    for number, when in enumerate(WHEN):
        rows = rows_where(table, when=when)
        logs = np.log(rows.norm_of_a_path.where(rows.norm_of_a_path > 0))
        band = over_seeds(rows.assign(log=logs), ["length"], "log")
        axes[0].plot(band.length, np.exp(band["mean"]), color=KINDS[number], label=when)
        ends = np.exp(band.low), np.exp(band.high)
        axes[0].fill_between(band.length, *ends, color=KINDS[number], alpha=0.15, linewidth=0)
        share = over_seeds(rows, ["length"], "share")
        axes[1].plot(
            share.length, 100 * share["mean"], color=KINDS[number], label=f"gradient {when}"
        )
    paths = rows_where(table, when=WHEN[0]).groupby("length").share_of_paths.first()
    axes[1].plot(paths.index, 100 * paths, "--", color=TRUNK, label="number of paths")
    axes[0].set_yscale("log")
    # Of the lines: intervals of what nearly underflows are as wide as the axis.
    lines = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes[0].lines])
    axes[0].set_ylim(np.nanmin(lines[lines > 0]) / 1e4, 1e4 * np.nanmax(lines))
    axes[0].set_title("Gradient by one path")
    axes[1].set_title("Share of all paths, %")
    axes[1].set_ylim(bottom=0)
    if table.depth.iloc[0] == 110:
        axes[1].axvspan(*PUBLISHED, color=TRUNK, alpha=0.15, linewidth=0, label="Veit et al. 2016")
    for axis in axes:
        axis.set_xlabel("branches on the path")
        axis.legend(fontsize=9)
    number = f"{table.depth.iloc[0]} layers, {table.parameters.iloc[0]:,} parameters"
    note(figure, f"{number}, digits; {seeds_of(table)}.")
    return figure


def answer(table: pd.DataFrame) -> Answer:
    """Says how long the paths are by which most of the gradient comes."""
    rows, values = [], {"blocks": str(table.length.max())}
    for when, name in zip(WHEN, ("initial", "trained"), strict=True):
        words = _in_words(rows_where(table, when=when))
        rows.append(
            {
                "network": when,
                "mean length of the gradient's paths": words["mean"],
                "90% of the gradient, lengths": f"{words['low']} to {words['high']}",
                f"gradient by lengths {PUBLISHED[0]} to {PUBLISHED[1]}": words["published"],
                "gradient of a path, each branch more": f"x {words['factor']}",
                "seeds": str(table.seed.nunique()),
                "parameters": f"{table.parameters.iloc[0]:,}",
            }
        )
        values |= {f"{name}_{figure}": text for figure, text in words.items()}
    accuracy = 100 * table.groupby("seed").accuracy.first().to_numpy(float)
    values["accuracy"] = in_words(*interval(accuracy), unit="%")
    values["mean_of_paths"] = f"{mean_length(table, 'share_of_paths'):.0f}"
    return Answer(values, pd.DataFrame(rows))


def _in_words(table: pd.DataFrame) -> dict[str, str]:
    """Figures of the networks at one time, by name."""
    networks: list[Any] = [network for _, network in table.groupby("seed")]
    ends = [np.mean([quantile(network, end) for network in networks]) for end in (0.05, 0.95)]
    mean, share, factor = (
        interval(np.array([figure(network) for network in networks]))
        for figure in (_mean_of_gradient, _published_share, factor_of_a_branch)
    )
    return {
        "mean": in_words(*mean),
        "low": f"{ends[0]:.0f}",
        "high": f"{ends[1]:.0f}",
        "published": in_words(*share, unit="%"),
        "factor": in_words(*factor, ".2f"),
        "predicted": f"{table.length.max() / (1 + 1 / factor[0]):.1f}",
    }


def _mean_of_gradient(network: pd.DataFrame) -> float:
    return mean_length(network, "share")


def mean_length(network: pd.DataFrame, weight: str) -> float:
    """Mean length of the paths of one network.

    Args:
        network: A table of `by_length`.
        weight: The column of the weights.
    """
    return float((network.length * network[weight]).sum() / network[weight].sum())


def quantile(network: pd.DataFrame, share: float) -> int:
    """Smallest length such that paths up to it carry a share of the gradient.

    Args:
        network: A table of `by_length`.
        share: What the paths must carry, from 0 to 1.
    """
    return int(network.length[network.share.cumsum() >= share].iloc[0])


def factor_of_a_branch(network: pd.DataFrame) -> float:
    """Factor of a path's gradient for each branch more, fitted to the shorter half of the paths.

    Args:
        network: A table of `by_length`.
    """
    is_short = network.length <= network.length.max() / 2
    shorter: Any = network[is_short & (network.norm_of_a_path > 0)]  # float32 ends at 1e-45
    slope, _ = np.polyfit(shorter.length, np.log(shorter.norm_of_a_path), 1)
    return float(np.exp(slope))


def _published_share(network: pd.DataFrame) -> float:
    return 100 * float(network.share[network.length.between(*PUBLISHED)].sum())


STUDY = Study(
    name="path_lengths",
    question=4,
    title="gradient by the length of its path, at initialization and after training",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
