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
    """Draws number, norm and share of the paths by their length."""
    figure, axes = panels(3)
    columns = ("share_of_paths", "norm_of_a_path", "share")
    for axis, column in zip(axes, columns, strict=True):
        for number, when in enumerate(WHEN):
            band = over_seeds(rows_where(table, when=when), ["length"], column)
            if column == "share_of_paths":
                axis.plot(band.length, band["mean"], color=TRUNK)
                break
            colour = KINDS[number]
            axis.plot(band.length, band["mean"], color=colour, label=when)
            low = band.low.clip(lower=band["mean"] / 100)  # below zero there is no logarithm
            axis.fill_between(band.length, low, band.high, color=colour, alpha=0.15, linewidth=0)
        axis.set_xlabel("branches on the path")
        axis.set_ylim(bottom=None if column == "norm_of_a_path" else 0)
    axes[1].set_yscale("log")
    axes[0].set_title("Share of the paths")
    axes[1].set_title("Gradient by one path")
    axes[2].set_title("Share of the gradient")
    axes[1].legend(fontsize=9)
    if table.depth.iloc[0] == 110:
        axes[2].axvspan(*PUBLISHED, color=TRUNK, alpha=0.15, linewidth=0)
        axes[2].set_ylim(top=1.25 * axes[2].get_ylim()[1])
        place = (sum(PUBLISHED) / 2, 0.97)
        axes[2].text(
            *place, "Veit et al.", transform=axes[2].get_xaxis_transform(), ha="center", va="top"
        )
    number = f"{table.depth.iloc[0]} layers, {table.parameters.iloc[0]:,} parameters"
    note(figure, f"{number}, digits; {seeds_of(table)}.")
    return figure


def answer(table: pd.DataFrame) -> Answer:
    """Says how long the paths are by which most of the gradient comes."""
    rows, values = [], {}
    networks: list[Any] = []
    for when, name in zip(WHEN, ("initial", "trained"), strict=True):
        networks = [group for _, group in rows_where(table, when=when).groupby("seed")]
        lengths = {
            "mean": [mean_length(network, "share") for network in networks],
            "low": [quantile(network, 0.05) for network in networks],
            "high": [quantile(network, 0.95) for network in networks],
            "published": [100 * _published_share(network) for network in networks],
            "fall": [network.norm_of_a_path.iloc[-1] / network.norm_of_a_path.iloc[0]
                     for network in networks],
        }  # fmt: skip
        means = {key: interval(np.array(some, float)) for key, some in lengths.items()}
        low, high = (f"{means[key][0]:.0f}" for key in ("low", "high"))
        rows.append(
            {
                "network": when,
                "mean length of the gradient's paths": in_words(*means["mean"]),
                "90% of the gradient, lengths": f"{low} to {high}",
                f"gradient by lengths {PUBLISHED[0]} to {PUBLISHED[1]}": in_words(
                    *means["published"], unit="%"
                ),
                "longest path / shortest": f"{np.median(lengths['fall']):.1g}",
                "seeds": str(len(networks)),
                "parameters": f"{table.parameters.iloc[0]:,}",
            }
        )
        values |= {
            f"{name}_mean": in_words(*means["mean"]),
            f"{name}_low": low,
            f"{name}_high": high,
            f"{name}_published": in_words(*means["published"], unit="%"),
            f"{name}_fall": f"{np.median(lengths['fall']):.1g}",
        }
    values["blocks"] = str(table.length.max())
    values["mean_of_paths"] = f"{mean_length(networks[0], 'share_of_paths'):.0f}"
    values["accuracy"] = in_words(
        *interval(100 * table.groupby("seed").accuracy.first().to_numpy()), unit="%"
    )
    values["seeds"] = rows[0]["seeds"]
    return Answer(values, pd.DataFrame(rows))


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
        share: The share.
    """
    return int(network.length[network.share.cumsum() >= share].iloc[0])


def _published_share(network: pd.DataFrame) -> float:
    return float(network.share[network.length.between(*PUBLISHED)].sum())


STUDY = Study(
    name="path_lengths",
    question=4,
    title="gradient by the length of its path, at initialization and after training",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
