"""Question 3: the gradient on the bus is changed by every block, and one term of it by none.

Varies the network: ResNet-20, whose activation follows the addition, and dense blocks in series in
pre-activation order. Records trainings, and measures how much each block alters the gradient,
by norm and direction, and whether the recorded norms of the paths add up to that of their sum. For
the dense blocks it measures how much of the gradient at the last block is still in that of the
first, and the distance of the latter from the product of the blocks' matrices.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Path2D
from ml_collections import ConfigDict

from reszoo.layers import ResidualBlock
from reszoo.studies.drawing import BRANCH, KINDS, MARKERS, SKIP, TRUNK
from reszoo.studies.input_skip import digits
from reszoo.studies.intervals import in_words, interval, over_seeds, size_of_error
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study

RESNET, DENSE = "ResNet-20", "dense blocks"
NETWORKS: dict[str, dict[str, Any]] = {
    RESNET: {"model.name": "resnet20", "model.width": 8},
    DENSE: {"model.name": "residual_mlp", "model.width": 16, "model.blocks": 12},
}
_COSTS = {RESNET: 11.0, DENSE: 11.0}
_EXAMPLES = 64  # on which gradients and matrices of dense blocks are computed

# Statistics of a block's record, by the names that they have here.
_RECORDED = {
    "g_skip": "skip_gradient_norm",
    "g_branch": "branch_gradient_norm",
    "g_x": "input_gradient_norm",
    "g_y": "output_gradient_norm",
    "cosine of the paths": "skip_branch_cosine",
    "gain": "gradient_gain",
    "share of the skip": "skip_share",
}
_DRAWN_OVER_STEPS = ("cosine of g_x and g_y",)


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each seed and network."""
    seeds, networks = (range(1), [DENSE]) if scale == "smoke" else (range(5), list(NETWORKS))
    return [
        Cell({"network": network, "seed": seed}, _COSTS[network])
        for seed in seeds
        for network in networks
    ]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns what was recorded of each block at a few steps, and what is computed of it."""
    from reszoo.studies.trained_cell import train

    network = parameters["network"]
    trained = train(configuration_of(network, parameters["seed"]), folder)
    if trained.diverged:  # its records would end early
        raise ValueError(trained.diverged)
    rows = of_records(trained.gradients)
    rows.append(_row("accuracy", trained.accuracy))
    model = trained.run.model
    rows.append(_row("parameters", sum(np.prod(w.shape) for w in model.trainable_weights)))
    if network == DENSE:
        rows += _of_dense_blocks(model, trained.first_weights)
    return rows


def _of_dense_blocks(model: keras.Model, first_weights: Mapping[str, np.ndarray]) -> list[Row]:
    images, labels = digits()[0]
    images, labels = images[:_EXAMPLES], labels[:_EXAMPLES]
    rows = [_of_product(model, images, labels), *_kept(model, images, labels, "trained")]
    for weight in model.weights:
        weight.assign(first_weights[weight.path])
    return [*rows, *_kept(model, images, labels, "initialised")]


def configuration_of(network: str, seed: int) -> ConfigDict:
    """Returns the configuration of a training.

    Args:
        network: Name of the network.
        seed: Its seed.
    """
    from reszoo.studies.trained_cell import configuration

    return configuration(
        {
            "data.name": "digits",
            "data.image_size": 8,
            "data.flip": False,
            **NETWORKS[network],
            "optimizer.name": "sgd",
            "optimizer.learning_rate": 0.05,
            "optimizer.momentum": 0.9,
            "recording.every_steps": 20,
            "recording.statistics": ("paths",),
            "tensorboard.examples": False,
            "tensorboard.graph": False,
            "epochs": 4,
            "batch_size": 64,
            "seed": seed,
        }
    )


def of_records(log: pd.DataFrame) -> list[Row]:
    """Returns norms, gain and cosines of each block at three steps: first, middle and last.

    The cosine of `g_x` and `g_y` follows from the records where the skip is the identity, since
    `g_skip` is `g_y` there.

    Args:
        log: From `reszoo.gradients.load`.
    """
    wide: Any = log.pivot(index=["step", "block"], columns="statistic", values="value")
    steps = sorted(log.step.unique())
    kept = (steps[0], steps[len(steps) // 2], steps[-1])
    rows, distances = [], []
    for (step, block), record in wide.astype(float).iterrows():
        found = {name: record[statistic] for name, statistic in _RECORDED.items()}
        skip, branch, cosine = found["g_skip"], found["g_branch"], found["cosine of the paths"]
        square = skip**2 + branch**2 + 2 * skip * branch * cosine
        distances.append(abs(square / found["g_x"] ** 2 - 1))
        identity = np.isclose(skip, found["g_y"], rtol=1e-5)
        along = (skip + branch * cosine) / found["g_x"]
        found["cosine of g_x and g_y"] = along if identity else np.nan
        if step in kept:
            names = found if step == steps[-1] else _DRAWN_OVER_STEPS
            rows += [_row(name, found[name], block, step) for name in names]
    return [
        *rows,
        _row("distance of the sum", max(distances)),
        _row("records", len(distances)),
    ]


def _of_product(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> Row:
    gradients, matrices = gradients_on_bus(model, images, labels, training=False)
    product = gradients[-1]
    for matrix in matrices[::-1]:
        product = product + np.einsum("eij,ei->ej", matrix, product)
    error = np.linalg.norm(product - gradients[0]) / np.linalg.norm(gradients[0])
    return _row("distance from the product", error)


def _kept(model: keras.Model, images: np.ndarray, labels: np.ndarray, when: str) -> list[Row]:
    gradients, _ = gradients_on_bus(model, images, labels, training=True)
    last, rows = gradients[-1], []
    for number, gradient in enumerate(gradients[:-1], start=1):
        norms = np.linalg.norm(gradient), np.linalg.norm(last)
        cosine = np.vdot(gradient, last) / np.prod(norms)
        rows += [
            _row(f"cosine with g_L, {when}", cosine, f"stage1_block{number}", number),
            _row(f"norm over g_L's, {when}", norms[0] / norms[1], f"stage1_block{number}", number),
        ]
    return rows


def gradients_on_bus(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, training: bool
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Returns the gradients on the bus, and the matrices of the branches.

    Args:
        model: A network of dense blocks in series.
        images: Its inputs.
        labels: Their labels.
        training: Whether normalizations use the batch. There are no matrices then, since examples
            depend on each other.

    Returns:
        The gradient at each block's input and at the last one's output, of shape
        `(examples, width)`, then the Jacobian `J` of each branch, `(examples, width, width)`.
    """
    buses, branches, x = [], [], tf.constant(images)
    with tf.GradientTape(persistent=True) as tape:
        for layer in model.layers[1:]:
            if isinstance(layer, ResidualBlock):
                tape.watch(x)
                buses.append(x)
                branches.append(layer.branch(x, training=training))
                x = x + branches[-1]
            else:
                buses += [x] if buses and len(buses) == len(branches) else []
                x = layer(x, training=training)
        loss: Any = keras.losses.sparse_categorical_crossentropy(labels, x, from_logits=True)
        loss = tf.reduce_mean(loss)
    gradients: Any = tape.gradient(loss, buses)
    pairs = [] if training else zip(branches, buses, strict=False)
    return [g.numpy() for g in gradients], [_jacobian(tape, *pair) for pair in pairs]


def _jacobian(tape: tf.GradientTape, branch: Any, bus: Any) -> np.ndarray:
    """Returns a matrix for each example, a row at a time (`batch_jacobian` traces a graph)."""
    units = tf.eye(branch.shape[-1])
    rows: Any = [tape.gradient(branch, bus, [tf.zeros_like(branch) + unit]) for unit in units]
    return np.stack([row.numpy() for row in rows], axis=1)


def _row(quantity: str, value: Any, block: str = "", step: int = 0) -> Row:
    return {"quantity": quantity, "block": block, "step": int(step), "value": float(value)}


def draw(table: pd.DataFrame) -> Figure:
    """Draws the bus with the measured norms, and how much the gradient turns on it."""
    figure = Figure(figsize=(8.4, 5.6), layout="constrained")
    bus, turned, kept = figure.subplot_mosaic("AA;BC", height_ratios=(1, 1.25)).values()
    name = RESNET if (table.network == RESNET).any() else DENSE
    of_network = rows_where(table, network=name)
    last = of_network.step.max()
    _draw_bus(bus, rows_where(of_network, step=last))
    bus.set_title(f"The bus of {name}, step {last}: widths are norms of gradients")
    _draw_turned(turned, of_network)
    turned.set_title("Cosine of g_x and g_y, block by block")
    _draw_kept(kept, rows_where(table, network=DENSE))
    kept.set_title("Dense blocks: cosine of g_x and g_L")
    return figure


def _draw_bus(axis: Axes, records: pd.DataFrame) -> None:
    blocks = _blocks(records)
    norms = {
        name: [rows_where(records, quantity=name, block=b).value.mean() for b in blocks]
        for name in ("g_skip", "g_branch", "g_x", "g_y")
    }
    largest = max(max(values) for values in norms.values())
    for place in range(len(blocks)):
        x, skip, branch, y = (
            norms[name][place] / largest for name in ("g_x", "g_skip", "g_branch", "g_y")
        )
        fork, merge = place + 0.15, place + 0.75
        _path(axis, [(merge, 0), (merge, 0.9), (fork, 0.9), (fork, 0)], branch, BRANCH)
        _path(axis, [(merge, 0), (fork, 0)], skip, SKIP)
        _path(axis, [(fork, 0), (place - 0.25, 0)], x, TRUNK)
        if place == len(blocks) - 1:
            _path(axis, [(place + 1.1, 0), (merge, 0)], y, TRUNK)
        gain = norms["g_x"][place] / norms["g_y"][place]
        axis.text(place + 0.45, -0.36, f"{gain:.2f}", ha="center", fontsize=9, color=TRUNK)
    axis.text(-0.35, -0.36, "|g_x| / |g_y|", ha="right", fontsize=9, color=TRUNK)
    axis.text(len(blocks) + 0.2, 0, "from\nthe loss", va="center", fontsize=9, color=TRUNK)
    axis.text(-0.35, 0.02, "skip", ha="right", va="center", color=SKIP)
    axis.text(-0.35, 0.68, "branch", ha="right", va="center", color=BRANCH)
    axis.set(xlim=(-1.5, len(blocks) + 1.2), ylim=(-0.5, 0.95))
    _name_blocks(axis, blocks, 0.45)
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    axis.grid(False)


def _path(axis: Axes, points: list[tuple[float, float]], width: float, colour: str) -> None:
    """Draws a line, or a curve by its control points, and an arrowhead in its middle."""
    codes = [Path2D.MOVETO, *[Path2D.CURVE4 if len(points) == 4 else Path2D.LINETO] * len(points)]
    line = Path2D(points, codes[: len(points)])
    points_wide = max(0.8, 10 * width)
    axis.add_patch(
        PathPatch(line, fill=False, edgecolor=colour, linewidth=points_wide, capstyle="butt")
    )
    weights = [0.125, 0.375, 0.375, 0.125] if len(points) == 4 else [0.5, 0.5]
    axis.plot(*np.dot(weights, points), marker="<", color=colour, markersize=points_wide + 4)


def _name_blocks(axis: Axes, blocks: Sequence[str], offset: float = 0.0) -> None:
    names = [block.replace("stage", "").replace("_block", ".") for block in blocks]
    axis.set_xticks(np.arange(len(blocks)) + offset, names, fontsize=9)


def _draw_turned(axis: Axes, of_network: pd.DataFrame) -> None:
    rows = rows_where(of_network, quantity="cosine of g_x and g_y")
    blocks, steps = _blocks(rows), sorted(rows.step.unique())
    for number, step in enumerate(steps):
        found = over_seeds(rows_where(rows, step=step), ["block"], "value")
        _line(axis, np.arange(len(blocks)), found, f"step {step}", number)
    axis.set_xlabel("block (stage.block)")
    _name_blocks(axis, blocks)
    axis.legend(fontsize=9)


def _draw_kept(axis: Axes, of_dense: pd.DataFrame) -> None:
    for number, when in enumerate(("initialised", "trained")):
        rows = rows_where(of_dense, quantity=f"cosine with g_L, {when}")
        found = over_seeds(rows, ["step"], "value")
        _line(axis, found.step, found, when, number + 3)
    axis.set_xlabel("block (the gradient comes from the right)")
    axis.legend(fontsize=9)


def _line(axis: Axes, x: Any, found: pd.DataFrame, label: str, number: int) -> None:
    axis.plot(
        x, found["mean"], color=KINDS[number], marker=MARKERS[number], markersize=4, label=label
    )
    axis.fill_between(x, found.low, found.high, color=KINDS[number], alpha=0.15, linewidth=0)
    axis.set_ylim(top=1.05)


def _blocks(records: pd.DataFrame) -> list[str]:
    return list(rows_where(records, quantity=records.quantity.iloc[0]).block.unique())


def answer(table: pd.DataFrame) -> Answer:
    """Says how much each block alters the gradient, and that the recorded norms add up."""
    name = RESNET if (table.network == RESNET).any() else DENSE
    of_network = rows_where(table, network=name)
    last = rows_where(of_network, step=of_network.step.max())
    columns = {
        "norm of g_x over g_y": "gain",
        "cosine of g_x and g_y": "cosine of g_x and g_y",
        "share of the skip": "share of the skip",
    }
    rows = [
        {
            "block": block,
            **{title: _mean(last, block, quantity) for title, quantity in columns.items()},
        }
        for block in _blocks(rows_where(last, quantity="gain"))
    ]
    gains = rows_where(last, quantity="gain").groupby("block").value.mean()
    cosines = rows_where(last, quantity="cosine of g_x and g_y").groupby("block").value.mean()
    dense = rows_where(table, network=DENSE)
    errors = rows_where(table, quantity="distance from the product")
    values = {
        "gains": f"{gains.min():.2f} to {gains.max():.2f}",
        "cosines": f"{cosines.min():.2f} to {cosines.max():.2f}",
        "sum": size_of_error(rows_where(table, quantity="distance of the sum").value.max()),
        "product": size_of_error(errors.value.max()),
        "records": f"{rows_where(table, quantity='records').value.sum():,.0f}",
        "last_step": str(of_network.step.max()),
        "accuracy": in_words(
            *interval(100 * rows_where(of_network, quantity="accuracy").value.to_numpy()), unit="%"
        ),
        "parameters": f"{rows_where(of_network, quantity='parameters').value.max():,.0f}",
        "dense_parameters": f"{rows_where(dense, quantity='parameters').value.max():,.0f}",
        "seeds": str(table.seed.nunique()),
        "dense_blocks": str(NETWORKS[DENSE]["model.blocks"]),
    }
    for when in ("initialised", "trained"):
        for short, quantity, form in (
            ("cosine", "cosine with g_L", ".2f"),
            ("norm", "norm over g_L's", ".1f"),
        ):
            first = rows_where(dense, step=1, quantity=f"{quantity}, {when}").value.to_numpy()
            values[f"{short}_{when}"] = in_words(*interval(first), form=form)
    return Answer(values, pd.DataFrame(rows))


def _mean(records: pd.DataFrame, block: str, quantity: str) -> str:
    mean, low, high = interval(rows_where(records, block=block, quantity=quantity).value.to_numpy())
    return "not defined" if np.isnan(mean) else in_words(mean, low, high, form=".2f")


STUDY = Study(
    name="bus",
    question=3,
    title="what the gradient on the bus keeps and what each block adds",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
