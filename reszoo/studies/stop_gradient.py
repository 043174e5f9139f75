"""Question 1: a stopped skip, `sg(x) + f(x)`, against no skip, a whole one, and other stops.

Varies where the gradient stops (nowhere, on the skip, on the branch's input, on its output) beside
plain networks, the depth, the kind of layers and the normalization. Measures the test accuracy, the
gradient that blocks receive, how far their weights move, and the mean length of the paths that the
gradient takes. Draws accuracy and the first block's gradient against depth.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from reszoo.gradients.blocks import find_blocks
from reszoo.keras_internals import sublayers
from reszoo.layers import GradientScale
from reszoo.studies.drawing import draw_with_band, note, seeds_of
from reszoo.studies.intervals import in_words, interval, over_seeds
from reszoo.studies.recipes import blocks_of, on_cifar10, on_digits, on_fashion_mnist
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study
from reszoo.studies.trained_cell import TrainedRun, configuration, train

# Fields of the model by variant. The scale of the residual network's branches is 1 while it trains;
# by it the path lengths are measured.
VARIANTS: dict[str, dict[str, str]] = {
    "residual": {"model.gate": "scale_branch"},
    "stopped skip": {"model.gate": "stop_skip"},
    "stopped branch input": {"model.gate": "stop_branch_input"},
    "stopped branch output": {"model.gate": "stop_branch_output"},
    "plain": {"model.shortcut": "none"},
}
_SHORT = dict(zip(VARIANTS, ("residual", "skip", "input", "output", "plain"), strict=True))
LAYERS = ("convolutions", "dense")
NORMS = ("batch", "without")
# Of networks without normalization, of which deep ones could not take their first steps otherwise.
WITHOUT_NORMALIZATION: dict[str, Any] = {"model.norm": None, "optimizer.clip_norm": 1.0}
_LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
_SETTING = ["data", "layers", "norm", "depth"]
_NORMALIZED = {"batch": "batch normalization", "without": "no normalization"}
CHANCE = 10.0  # accuracy in % of a guess
_POSITIONS = 7  # blocks whose gradient is in the table, evenly spaced, the first and last included


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each network, variant and seed, seed by seed."""
    variants = ("residual", "stopped skip") if scale == "smoke" else tuple(VARIANTS)
    return [
        Cell(network | {"variant": variant, "seed": seed}, _cost(network))
        for seed in range(1 if scale == "smoke" else 5)
        for network in _networks(scale)
        for variant in variants
    ]


def _networks(scale: str) -> list[Parameters]:
    if scale == "smoke":
        return [_network("digits", "dense", "batch", 8, 1)]
    if scale == "paper":
        return [_network("cifar10", "convolutions", "batch", depth, 165) for depth in (20, 56, 110)]
    return [
        *(
            _network("digits", layers, norm, depth, 8)
            for layers in LAYERS
            for norm in NORMS
            for depth in (8, 20, 56, 110)
        ),
        _network("fashion_mnist", "convolutions", "batch", 20, 1),
    ]


def _network(data: str, layers: str, norm: str, depth: int, epochs: int) -> Parameters:
    return {"data": data, "layers": layers, "norm": norm, "depth": depth, "epochs": epochs}


def _cost(network: Parameters) -> float:
    """Returns the seconds of a training, most of which go into the graph of deep networks."""
    if network["data"] == "cifar10":
        return 500.0 * network["depth"]
    if network["data"] == "fashion_mnist":
        return 30.0
    of_a_layer = 0.4 if network["layers"] == "convolutions" else 0.3
    part = 1.0 if network["norm"] == "batch" else 0.8
    return 2.0 + of_a_layer * part * network["depth"]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns accuracy, loss, gradients, movements of weights and the length of paths."""
    run = train(config(parameters), folder)
    rows = [
        _row("accuracy", run.accuracy),
        _row("test loss", run.test_loss),
        _row("diverged", float(bool(run.diverged))),
        _row("parameters", float(_parameters(run.run.model))),
        *_gradients(run),
        *_movements(run),
    ]
    if parameters["variant"] == "residual" and not run.diverged:
        rows.append(_row("path length", path_length(run.run.model, *_batch(run))))
    return rows


def config(parameters: Parameters) -> ConfigDict:
    """Returns the configuration of a cell.

    Args:
        parameters: The parameters of the cell.
    """
    depth, seed = parameters["depth"], parameters["seed"]
    if parameters["data"] == "cifar10":
        return configuration(on_cifar10(depth, seed) | VARIANTS[parameters["variant"]])
    if parameters["data"] == "fashion_mnist":
        fields = on_fashion_mnist(seed)
    else:
        fields = on_digits(parameters["epochs"], seed)
    blocks = blocks_of(depth)
    if parameters["layers"] == "dense":
        fields |= {"model.name": "residual_mlp", "model.width": 32, "model.blocks": 3 * blocks}
    else:
        fields |= {"model.name": "resnet20", "model.width": 8, "model.blocks": (blocks,) * 3}
        fields |= {"model.shortcut": "zero_pad"}
    if parameters["norm"] == "without":
        fields |= WITHOUT_NORMALIZATION
    return configuration(fields | VARIANTS[parameters["variant"]])


def _row(quantity: str, value: float, at: str = "end", block: int = 0) -> Row:
    return {"quantity": quantity, "at": at, "block": block, "value": float(value)}


def _parameters(model: keras.Model) -> int:
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def _gradients(run: TrainedRun) -> list[Row]:
    """Rows of the gradient at the outputs of some blocks, at the start, in the middle, at the end.

    And of the skip's share of the gradient, as the mean over all blocks.
    """
    table, rows = run.gradients, []
    steps = sorted(table.step.unique())
    moments = {"start": steps[0], "middle": steps[len(steps) // 2], "end": steps[-1]}
    for at, step in moments.items():
        received = rows_where(table, step=step, statistic="output_gradient_norm").value.to_numpy()
        for block in positions(len(received)):
            rows.append(_row("gradient", float(f"{received[block - 1]:.4g}"), at, block))
        shares = rows_where(table, step=step, statistic="skip_share").value.to_numpy(float)
        known = shares[np.isfinite(shares)]
        rows.append(_row("skip share", known.mean() if len(known) else np.nan, at))
    return rows


def positions(blocks: int) -> list[int]:
    """Numbers of some blocks, from 1, evenly spaced, with the first and the last.

    Args:
        blocks: Number of blocks.

    Example:

    >>> positions(3), positions(54)
    ([1, 2, 3], [1, 10, 19, 28, 36, 45, 54])
    """
    return sorted({round(place) for place in np.linspace(1, blocks, min(blocks, _POSITIONS))})


def _movements(run: TrainedRun) -> list[Row]:
    """Rows of how far the kernels of the stem (block 0) and of some blocks moved."""
    parts = [run.run.model.get_layer("stem"), *find_blocks(run.run.model).values()]
    return [
        _row("movement", _movement(parts[block], run.first_weights), "end", block)
        for block in [0, *positions(len(parts) - 1)]
    ]


def _movement(part: keras.layers.Layer, first: Mapping[str, np.ndarray]) -> float:
    """Returns the relative change of a part's kernels, in the Euclidean norm."""
    kernels = [weight for weight in part.trainable_weights if weight.name == "kernel"]
    before = [first[kernel.path].astype(np.float64) for kernel in kernels]
    changes = [kernel.numpy() - value for kernel, value in zip(kernels, before, strict=True)]
    return np.sqrt(sum(np.sum(c**2) for c in changes) / sum(np.sum(b**2) for b in before))


def _batch(run: TrainedRun) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the first batch of the training, images and classes."""
    return next(iter(run.run.pipeline.train_batches(0)))


def path_length(model: keras.Model, images: Any, classes: Any, step: float = 0.01) -> float:
    """Returns the mean length of the paths that the gradient at the first block's input takes.

    With the gradients of all branches scaled by t, that gradient is `g(t) = sum_k t^k G_k`, where
    `G_k` comes by all paths through k branches. Each length counts by the part of the whole
    gradient that its paths bring, `<G_k, g(1)> / <g(1), g(1)>`; these parts add up to 1, and the
    mean of k is `<g'(1), g(1)> / <g(1), g(1)>`. The derivative is taken from g at 1, `1 - step` and
    `1 - 2 step`.

    Args:
        model: A model whose layer `"stem"` comes before the blocks, each with a `GradientScale`
            at its branch's input.
        images: A batch of inputs.
        classes: Its classes, as numbers.
        step: The distance of t.
    """
    scales = [layer for layer in sublayers(model) if isinstance(layer, GradientScale)]
    before = model.get_layer("stem").output
    stem, rest = keras.Model(model.input, before), keras.Model(before, model.output)
    x, gradients = stem(images, training=True), []
    for number in range(3):
        for scale in scales:
            scale.set_scale(1 - number * step)
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss: Any = _LOSS(classes, rest(x, training=True))
        gradients.append(np.asarray(tape.gradient(loss, x), np.float64))
    for scale in scales:
        scale.set_scale(1.0)
    whole, less, least = gradients
    slope = (3 * whole - 4 * less + least) / (2 * step)
    return float(np.sum(slope * whole) / np.sum(whole**2))


def draw(table: pd.DataFrame) -> Figure:
    """Draws accuracy and the first block's gradient against depth; gradient and movement by block.

    The latter two for a network of 56 layers, or of the most there are, after the training.
    """
    digits: Any = table[table.data != "fashion_mnist"]
    layers, norms = list(digits.layers.unique()), list(digits.norm.unique())
    rows = -(-(len(layers) + 1) * len(norms) // 2) + 1
    figure = Figure(figsize=(8.4, 2.6 * rows + 0.9), layout="constrained")
    axes = iter(figure.subplots(rows, 2, squeeze=False).flat)
    for kind in layers:
        for norm in norms:
            axis, some = next(axes), rows_where(digits, layers=kind, norm=norm)
            _draw_accuracy(axis, some, f"{kind.capitalize()}, {_NORMALIZED[norm]}")
    for norm in norms:
        _draw_first_gradient(next(axes), rows_where(digits, layers=layers[0], norm=norm))
    deep = rows_where(digits, layers=layers[0], norm="batch")
    deep = rows_where(deep, depth=56 if 56 in set(deep.depth) else deep.depth.max())
    _draw_by_block(next(axes), deep, "gradient", "gradient over the last block's")
    _draw_by_block(next(axes), deep, "movement", "change of the kernels")
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3)
    numbers = rows_where(digits, quantity="parameters").value
    note(
        figure,
        f"{numbers.min():,.0f} to {numbers.max():,.0f} parameters, {seeds_of(digits)}. "
        "Dotted: a guess.",
    )
    return figure


def _draw_accuracy(axis: Axes, rows: pd.DataFrame, title: str) -> None:
    intervals = over_seeds(accuracies(rows), ["variant", "depth"], "percent")
    for number, variant in enumerate(VARIANTS):
        draw_with_band(axis, rows_where(intervals, variant=variant), "depth", variant, number)
    axis.axhline(CHANCE, color="black", linewidth=0.8, linestyle=":")
    axis.set_ylim(0, 103)
    axis.set_ylabel("test accuracy in %")
    axis.set_title(title)
    _mark_depths(axis, rows)


def _draw_first_gradient(axis: Axes, rows: pd.DataFrame) -> None:
    ratios = rows_where(gradient_ratios(rows, "start"), block=1)
    _draw_powers(axis, ratios, "depth")
    axis.set_ylabel("first gradient over last")
    axis.set_title(f"{rows.layers.iloc[0].capitalize()}, {_NORMALIZED[rows.norm.iloc[0]]}, step 1")
    _mark_depths(axis, rows)


def _draw_by_block(axis: Axes, rows: pd.DataFrame, quantity: str, label: str) -> None:
    if quantity == "gradient":
        powers = gradient_ratios(rows, "end")
    else:
        moved = rows_where(rows, quantity=quantity)
        powers = moved[moved.block > 0].pipe(lambda some: some.assign(log10=log10(some.value)))
    _draw_powers(axis, powers, "block")
    axis.set_xlabel("block")
    axis.set_ylabel(label)
    axis.set_title(f"{rows.depth.iloc[0]} layers, {_NORMALIZED['batch']}, last step")


def _draw_powers(axis: Axes, rows: pd.DataFrame, x: str) -> None:
    """Draws geometric means, with their intervals."""
    intervals = over_seeds(rows, ["variant", x], "log10")
    powers = intervals.assign(**{end: 10.0 ** intervals[end] for end in ("mean", "low", "high")})
    for number, variant in enumerate(VARIANTS):
        draw_with_band(axis, rows_where(powers, variant=variant), x, variant, number)
    axis.set_yscale("log")


def _mark_depths(axis: Axes, rows: pd.DataFrame) -> None:
    depths = sorted(rows.depth.unique())
    axis.set_xscale("log")
    axis.set_xticks(depths, [str(depth) for depth in depths], minor=False)
    axis.set_xticks([], minor=True)
    axis.set_xlabel("layers")


def accuracies(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the test accuracies in %, NaN for a run that diverged.

    Args:
        table: The table of the study.
    """
    rows = rows_where(table, quantity="accuracy")
    return rows.assign(percent=100 * rows.value.astype(float))


def gradient_ratios(table: pd.DataFrame, at: str) -> pd.DataFrame:
    """Returns the gradient at the blocks over that at the last one, as `log10`.

    Args:
        table: The table of the study.
        at: `"start"`, `"middle"` or `"end"` of the training.
    """
    rows = rows_where(table, quantity="gradient", at=at).sort_values("block", kind="stable")
    last = rows.groupby([*_SETTING, "variant", "seed"], sort=False).value.transform("last")
    return rows.assign(log10=log10(rows.value / last))


def log10(values: pd.Series) -> pd.Series:
    """Returns logarithms, NaN for 0, which a figure leaves out.

    Args:
        values: Numbers from 0.
    """
    logs: Any = np.log10(values.where(values > 0))
    return logs


def answer(table: pd.DataFrame) -> Answer:
    """Says which variants train, what their first blocks receive, and how far these move."""
    return Answer(dict(_texts(table)) | _verdicts(table), _table(table))


def _texts(table: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yields the texts of each setting and variant, such as `skip_56` and `plain_20_dense`."""
    for row in over_seeds(accuracies(table), [*_SETTING, "variant"], "percent").to_dict("records"):
        yield _name(row), in_words(row["mean"], row["low"], row["high"], unit="%")
    for at in ("start", "end"):
        first = rows_where(gradient_ratios(table, at), block=1)
        for row in over_seeds(first, [*_SETTING, "variant"], "log10").to_dict("records"):
            yield f"{_name(row)}_ratio_{at}", power_in_words(row["mean"])
    for quantity, form in (("path length", ".1f"), ("movement", ".2g"), ("skip share", ".0%")):
        rows = rows_where(table, quantity=quantity, at="end")
        means = over_seeds(rows, [*_SETTING, "variant", "block"], "value").to_dict("records")
        for row in means:
            place = f"_{row['block']}" if quantity == "movement" else ""
            yield f"{_name(row)}_{quantity.replace(' ', '_')}{place}", f"{row['mean']:{form}}"


def power_in_words(log: float) -> str:
    """Returns a power of ten as text.

    Args:
        log: The logarithm.

    Example:

    >>> power_in_words(-6.52), power_in_words(0.3), power_in_words(float("nan"))
    ('$10^{-6.5}$', '2', 'not defined')
    """
    if np.isnan(log):
        return "not defined"
    return f"{float(f'{10**log:.2g}'):g}" if -3 < log < 3 else f"$10^{{{log:.1f}}}$"


def _name(row: Mapping[str, Any]) -> str:
    parts = [_SHORT[row["variant"]], str(row["depth"])]
    parts += ["dense"] if row["layers"] == "dense" else []
    parts += ["without"] if row["norm"] == "without" else []
    parts += ["fashion"] if row["data"] == "fashion_mnist" else []
    return "_".join(parts)


def _verdicts(table: pd.DataFrame) -> dict[str, str]:
    """Returns in how many settings a stopped skip does better than a plain network, or worse."""
    better, worse = _compared(table, "stopped skip", "plain")
    below, above = _compared(table, "residual", "stopped skip")
    settings = len(table[_SETTING].drop_duplicates())
    return {
        "settings": str(settings),
        "skip_better_than_plain": str(better),
        "skip_worse_than_plain": str(worse),
        "residual_better_than_skip": str(below),
        "residual_worse_than_skip": str(above),
        "seeds": str(table.seed.nunique()),
    }


def _compared(table: pd.DataFrame, one: str, other: str) -> tuple[int, int]:
    """Returns in how many settings one variant is better than another, and in how many worse.

    Only where the 95% interval of the difference over the seeds has no 0 in it.
    """
    percents = accuracies(table).pivot(
        index=[*_SETTING, "seed"], columns="variant", values="percent"
    )
    if not {one, other} <= set(percents):
        return 0, 0
    percents = percents.fillna(CHANCE)  # of runs that diverged
    better = worse = 0
    for _, seeds in percents.groupby(level=_SETTING):
        _, low, high = interval((seeds[one] - seeds[other]).to_numpy())
        better, worse = better + (low > 0), worse + (high < 0)
    return better, worse


def _table(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the accuracies, a row a setting and a column a variant."""
    percents, rows = accuracies(table), []
    settings: Any = percents[_SETTING].drop_duplicates()
    for setting in settings.sort_values(_SETTING).to_dict("records"):
        of_setting = rows_where(percents, **setting)
        parameters = rows_where(table, **setting, quantity="parameters").value.iloc[0]
        row = {"data": setting["data"].replace("fashion_mnist", "Fashion-MNIST")}
        row |= {"blocks of": setting["layers"], "normalization": _NORMALIZED[setting["norm"]]}
        row |= {"layers": setting["depth"], "parameters": f"{parameters:,.0f}"}
        for variant in VARIANTS:
            seeds = rows_where(of_setting, variant=variant).percent.to_numpy()
            row[variant] = _accuracy_in_words(seeds) if len(seeds) else ""
        rows.append(row)
    return pd.DataFrame(rows)


def _accuracy_in_words(percents: np.ndarray) -> str:
    mean, _, high = interval(percents)
    diverged = int(np.isnan(percents).sum())
    if diverged == len(percents):
        return "diverged"
    half = "" if np.isnan(high) else f" ± {high - mean:.1f}"
    return f"{mean:.1f}%{half}" + (f", {diverged} diverged" if diverged else "")


STUDY = Study(
    name="stop_gradient",
    question=1,
    title="a stopped skip, against no skip, a whole one, and other stops",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
