"""Question 4: the shortcuts of He et al. 2016, table 1, and a stopped one.

Varies the shortcut of every block. Measures the test error, and draws it beside the published one.
"""

import itertools
import math
import re
from pathlib import Path
from typing import Any

import keras
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from reszoo.keras_internals import sublayers
from reszoo.layers import Gate
from reszoo.studies.drawing import KINDS, TRUNK
from reszoo.studies.intervals import in_words, interval, over_seeds
from reszoo.studies.recipes import blocks_of, on_cifar10, on_digits
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study
from reszoo.studies.trained_cell import configuration, train

# Fields of the model by shortcut. The gates of the options start at a bias of -6.
SHORTCUTS: dict[str, dict[str, str]] = {
    "identity": {},
    "no shortcut": {"model.shortcut": "none"},
    "0.5 on the shortcut": {"model.shortcut": "constant_scale"},
    "0.5 on both": {"model.gate": "half_both"},
    "exclusive gate (bias -6)": {"model.gate": "exclusive"},
    "exclusive gate (bias 0)": {"model.gate": "exclusive"},
    "shortcut-only gate (bias -6)": {"model.shortcut": "gated"},
    "shortcut-only gate (bias 0)": {"model.shortcut": "gated"},
    "1x1 convolution": {"model.shortcut": "always_projection"},
    "dropout 0.5": {"model.shortcut": "dropout"},
    "stop-gradient skip": {"model.gate": "stop_skip"},
}
# Test error in %, median of 5 runs of ResNet-110 on CIFAR-10; infinite for "fail", over 20.
FAIL = 20.0
PUBLISHED: dict[str, float] = {
    "identity": 6.61,
    "no shortcut": float("inf"),
    "0.5 on the shortcut": float("inf"),
    "0.5 on both": 12.35,
    "exclusive gate (bias -6)": 8.70,
    "exclusive gate (bias 0)": float("inf"),
    "shortcut-only gate (bias -6)": 6.91,
    "shortcut-only gate (bias 0)": 12.86,
    "1x1 convolution": 12.22,
    "dropout 0.5": float("inf"),
}
STOPPED = "stop-gradient skip"
_DEPTHS = {"smoke": 8, "small": 56, "paper": 110}
_COSTS = {"smoke": 5.0, "small": 30.0, "paper": 45_000.0}
_EPOCHS = {"smoke": 1, "small": 8}


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each shortcut and seed, seed by seed."""
    shortcuts = ("shortcut-only gate (bias 0)",) if scale == "smoke" else tuple(SHORTCUTS)
    return [
        Cell({"scale": scale, "shortcut": shortcut, "seed": seed}, cost=_COSTS[scale])
        for seed in range(1 if scale == "smoke" else 5)
        for shortcut in shortcuts
    ]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns the test error in %, the loss, and the number of parameters."""
    opened = parameters["shortcut"].endswith("(bias 0)")
    run = train(config(parameters), folder, at_start=open_gates if opened else None)
    weights = run.run.model.trainable_weights
    return [
        {
            "error": 100 * (1 - run.accuracy),
            "test_loss": run.test_loss,
            "diverged": int(bool(run.diverged)),
            "parameters": sum(int(weight.numpy().size) for weight in weights),
        }
    ]


def config(parameters: Parameters) -> ConfigDict:
    """Returns the configuration of a cell.

    Args:
        parameters: The parameters of the cell.
    """
    scale, seed = parameters["scale"], parameters["seed"]
    depth = _DEPTHS[scale]
    if scale == "paper":
        fields: dict[str, Any] = on_cifar10(depth, seed)
    else:
        fields = on_digits(_EPOCHS[scale], seed)
        fields |= {"model.name": "resnet20", "model.width": 8, "recording.every_steps": 0}
        fields |= {"model.blocks": (blocks_of(depth),) * 3, "model.shortcut": "zero_pad"}
    return configuration(fields | SHORTCUTS[parameters["shortcut"]])


def open_gates(model: keras.Model) -> None:
    """Sets the bias of all gates to 0, so that each is half open.

    Args:
        model: The model.
    """
    for layer in sublayers(model):
        if isinstance(layer, Gate):
            layer.bias.assign(0.0 * layer.bias)


def draw(table: pd.DataFrame) -> Figure:
    """Draws the error of each shortcut, a point for each seed, and the published one beside it."""
    intervals = over_seeds(table, ["shortcut"], "error").sort_values("mean")
    figure = Figure(figsize=(8.0, 0.4 * len(intervals) + 1.4), layout="constrained")
    here, published = figure.subplots(1, 2, sharey=True)
    for place, row in enumerate(intervals.to_dict("records")):
        shortcut, mean = row["shortcut"], row["mean"]
        colour = KINDS[1] if shortcut == STOPPED else TRUNK
        errors = rows_where(table, shortcut=shortcut).error
        here.barh(place, mean, color=colour, alpha=0.5)
        here.plot(errors, [place] * len(errors), "o", color="black", markersize=3, alpha=0.6)
        _draw_published(published, place, PUBLISHED.get(shortcut))
    here.set_yticks(range(len(intervals)), intervals.shortcut)
    here.invert_yaxis()
    here.set_xlim(0, 95)
    here.set_xlabel("test error in %, mean and each seed")
    here.set_title(f"Here: {_setting(table)}")
    published.set_xlim(0, 33)
    published.set_xlabel("test error in %, median of 5 runs")
    published.set_title("He et al. 2016: ResNet-110, CIFAR-10")
    return figure


def _draw_published(axis: Axes, place: int, error: float | None) -> None:
    if error is None:
        axis.text(0.5, place, "not in the paper", va="center", color=KINDS[1])
    elif math.isinf(error):
        axis.barh(place, FAIL, color=TRUNK, alpha=0.25, hatch="//")
        axis.text(FAIL + 0.5, place, "fail (over 20)", va="center")
    else:
        axis.barh(place, error, color=TRUNK, alpha=0.5)
        axis.text(error + 0.5, place, f"{error:.2f}", va="center")


def _setting(table: pd.DataFrame) -> str:
    scale = table.scale.iloc[0]
    return f"ResNet-{_DEPTHS[scale]}, {'CIFAR-10' if scale == 'paper' else 'digits'}"


def answer(table: pd.DataFrame) -> Answer:
    """Says how large each error is, and whether their order is that of the paper."""
    rows, values = [], {}
    for row in over_seeds(table, ["shortcut"], "error").to_dict("records"):
        shortcut = row["shortcut"]
        seeds = rows_where(table, shortcut=shortcut)
        failed = f"{(seeds.error.isna() | (seeds.error > FAIL)).sum()} of {len(seeds)}"
        error = in_words(row["mean"], row["low"], row["high"], unit="%")
        name = re.sub(r"\W+", "_", shortcut).strip("_")
        values |= {name: error, f"{name}_fails": failed}
        rows.append(
            {
                "shortcut": shortcut,
                "error here": error,
                "runs over 20% or diverged": failed,
                "error in He et al. 2016": _published(shortcut),
                "parameters": f"{seeds.parameters.iloc[0]:,}",
            }
        )
    return Answer(values | _order_in_words(table), pd.DataFrame(rows))


def _published(shortcut: str) -> str:
    error = PUBLISHED.get(shortcut)
    if error is None:
        return "not measured"
    return "fail (over 20%)" if math.isinf(error) else f"{error:.2f}%"


def _order_in_words(table: pd.DataFrame) -> dict[str, str]:
    orders = compared(table)
    turned = rows_where(orders, order="reversed").to_dict("records")
    texts = [f"{row['better']} before {row['worse']}" for row in turned]
    counts = orders.order.value_counts()
    return {
        "pairs": str(len(orders)),
        **{order: str(counts.get(order, 0)) for order in ("same", "reversed", "undecided")},
        "reversed_pairs": "; ".join(texts) or "none",
    }


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Returns whether each pair of shortcuts stands here in the order of the paper.

    Args:
        table: The table of the study.

    Returns:
        A row for each pair whose published errors differ, `better` and `worse` by the paper.
        `order` is `"same"` or `"reversed"` where the 95% interval of the difference over the seeds
        has no 0 in it, else `"undecided"`.
    """
    errors = table.pivot(index="seed", columns="shortcut", values="error")
    rows = []
    for better, worse in itertools.permutations([name for name in errors if name in PUBLISHED], 2):
        if PUBLISHED[better] < PUBLISHED[worse]:
            _, low, high = interval((errors[worse] - errors[better]).to_numpy())
            order = "same" if low > 0 else "reversed" if high < 0 else "undecided"
            rows.append({"better": better, "worse": worse, "order": order})
    return pd.DataFrame(rows, columns=["better", "worse", "order"])


STUDY = Study(
    name="shortcut_table",
    question=4,
    title="the shortcuts of He et al. 2016, and a stopped one",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
