"""Question 8: a residual connection may start at the input of the network.

Trains a small network on digits whose first block's skip is the `Input` itself. Measures the
gradient at each pixel through skip and branch, how far their sum is from finite differences, the
share of test images that are still right after a small step along each gradient, and whether a
stopped gradient on this skip alters the gradient of any weight.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.figure import Figure

from reszoo.data import load_source
from reszoo.layers import ResidualBlock, StopGradSkip
from reszoo.studies.drawing import BRANCH, SKIP, TRUNK, bars_with_intervals
from reszoo.studies.drawing import SIGNED as COLOURS
from reszoo.studies.intervals import in_words, over_seeds, size_of_error
from reszoo.studies.rows import rows_where
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study

STEP = 0.1  # of a pixel, whose values are 0 to 1
ATTACKS = {
    "none": "no step",
    "random": "random signs",
    "skip": "along g_skip",
    "branch": "along g_branch",
    "both": "along their sum",
}
_EXAMPLES = 3  # drawn
_SIDE = 8
_SILENT: Any = 0


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each seed."""
    return [Cell({"seed": seed}, 6.0) for seed in range(1 if scale == "smoke" else 5)]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns the numbers of a trained network; of the first seed, pixels to be drawn too."""
    seed = parameters["seed"]
    keras.utils.set_random_seed(seed)
    (images, labels), (test_images, test_labels) = digits()
    model = network()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(3e-3), loss, metrics=["accuracy"])
    model.fit(images, labels, batch_size=64, epochs=10, verbose=_SILENT)
    skip, branch = path_gradients(model, test_images, test_labels)
    rows = [
        *_checked(model, test_images[:2], test_labels[:2], seed),
        _row("alters weight gradients by", _altered(model, images[:64], labels[:64])),
        *_accuracies(model, test_images, test_labels, {"skip": skip, "branch": branch}),
        _row("parameters", model.count_params()),
    ]
    if seed == 0:
        pictures = {"image": test_images, "skip": skip, "branch": branch, "both": skip + branch}
        rows += _pixels({name: picture[:_EXAMPLES] for name, picture in pictures.items()})
    return rows


def network() -> keras.Model:
    """Returns a network whose first block forks at its `Input`."""
    x = keras.Input((_SIDE, _SIDE, 1))
    convolutions = [
        keras.layers.Conv2D(8, 3, padding="same", activation="tanh"),
        keras.layers.Conv2D(1, 3, padding="same"),
    ]
    y = ResidualBlock(convolutions, name="at_the_input")(x)
    y = keras.layers.Conv2D(16, 3, strides=2, padding="same", activation="tanh")(y)
    return keras.Model(x, keras.layers.Dense(10)(keras.layers.Flatten()(y)))


def path_gradients(
    model: keras.Model, images: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the gradient of each example's loss at its pixels, through skip and branch.

    Args:
        model: A `network`.
        images: The images.
        labels: Their labels.
    """
    block, to_skip, to_branch = model.layers[1], tf.constant(images), tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch([to_skip, to_branch])
        y = block.merge(block.shortcut(to_skip), block.branch(to_branch))
        loss = _loss(model, y, labels)
    found: Any = tape.gradient(loss, [to_skip, to_branch])
    return found[0].numpy(), found[1].numpy()


def _loss(model: keras.Model, after_block: Any, labels: np.ndarray) -> tf.Tensor:
    """Returns the sum of the examples' losses."""
    y = after_block
    for layer in model.layers[2:]:
        y = layer(y)
    loss: Any = keras.losses.sparse_categorical_crossentropy(labels, y, from_logits=True)
    return tf.reduce_sum(loss)


def digits() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Returns the images, with values 0 to 1, and labels of the training and the test digits."""
    source = load_source("digits")
    parts = []
    for data in (source.train, source.test):
        pairs = list(data.as_numpy_iterator())
        images = np.stack([image for image, _ in pairs]).astype("float32")
        parts.append((images / images.max(), np.array([label for _, label in pairs])))
    return parts[0], parts[1]


def _checked(model: keras.Model, images: np.ndarray, labels: np.ndarray, seed: int) -> list[Row]:
    from reszoo.gradients import check

    def loss(logits: Any) -> Any:
        return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)

    table = check(model, images, loss, number_of_directions=4, seed=seed)
    return [
        _row(f"error of the {name}", error)
        for name, error in zip(table.candidate, table.finite_differences_error, strict=True)
    ]


def _altered(model: keras.Model, images: np.ndarray, labels: np.ndarray) -> float:
    """Returns the largest change of a weight's gradient if the skip's gradient is stopped."""
    block = model.layers[1]
    stopped = ResidualBlock(block.branch, StopGradSkip())
    weights = [weight.value for weight in model.trainable_weights]

    def gradients(first: Callable) -> Any:
        with tf.GradientTape() as tape:
            loss = _loss(model, first(tf.constant(images)), labels)
        return tape.gradient(loss, weights)

    pairs = zip(gradients(block), gradients(stopped), strict=True)
    return max(float(tf.reduce_max(tf.abs(a - b))) for a, b in pairs)


def _accuracies(
    model: keras.Model, images: np.ndarray, labels: np.ndarray, gradients: dict[str, np.ndarray]
) -> list[Row]:
    signs = {
        "none": np.zeros_like(images),
        "random": np.random.default_rng(0).choice([-1, 1], images.shape),
        **{name: np.sign(gradient) for name, gradient in gradients.items()},
        "both": np.sign(gradients["skip"] + gradients["branch"]),
    }
    rows = []
    for name in ATTACKS:
        logits = model.predict_on_batch(np.float32(images + STEP * signs[name]))
        rows.append(_row(f"right, {name}", (logits.argmax(axis=1) == labels).mean()))
    return rows


def _pixels(pictures: dict[str, np.ndarray]) -> list[Row]:
    return [
        _row(name, value, example * _SIDE**2 + pixel)
        for name, picture in pictures.items()
        for example, of_example in enumerate(picture)
        for pixel, value in enumerate(of_example.ravel())
    ]


def _row(quantity: str, value: Any, number: int = 0) -> Row:
    return {"quantity": quantity, "number": number, "value": float(value)}


def draw(table: pd.DataFrame) -> Figure:
    """Draws the gradients at the pixels of a few images, and what a step along each does."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    grid = figure.add_gridspec(_EXAMPLES, 5, width_ratios=(1, 1, 1, 1, 3))
    titles = {"image": "image", "skip": "g_skip", "branch": "+ g_branch", "both": "= g_x"}
    colours = {"image": "black", "skip": SKIP, "branch": BRANCH, "both": TRUNK}
    for column, (name, title) in enumerate(titles.items()):
        values = rows_where(table, quantity=name).value.to_numpy().reshape(-1, _SIDE, _SIDE)
        for row in range(_EXAMPLES):
            axis = figure.add_subplot(grid[row, column])
            _draw_pixels(axis, values[row], name, _largest(table, row))
            if row == 0:
                axis.set_title(title, color=colours[name], loc="center")
    axis = figure.add_subplot(grid[:, 4])
    found = _accuracy(table)
    bars_with_intervals(axis, list(ATTACKS.values()), found)
    axis.set_title(f"Still right after a step of {STEP}, %")
    axis.set_xlim(0, 100)
    return figure


def _draw_pixels(axis: Any, values: np.ndarray, name: str, largest: float) -> None:
    colours = {"cmap": "gray_r"} if name == "image" else {"cmap": COLOURS}
    limits = {} if name == "image" else {"vmin": -largest, "vmax": largest}
    axis.pcolormesh(values, **colours, **limits)
    axis.set(aspect="equal", ylim=(_SIDE, 0), xticks=[], yticks=[])
    axis.spines[:].set(visible=True, color=TRUNK)


def _largest(table: pd.DataFrame, example: int) -> float:
    gradients: Any = table[table.quantity.isin(["skip", "branch", "both"])]
    return gradients[gradients.number // _SIDE**2 == example].value.abs().max()


def _accuracy(table: pd.DataFrame) -> pd.DataFrame:
    """Returns the percentages of right images with their intervals, in the order of the attacks."""
    rows: Any = table[table.quantity.isin([f"right, {name}" for name in ATTACKS])]
    return over_seeds(rows.assign(value=100 * rows.value), ["quantity"], "value")


def answer(table: pd.DataFrame) -> Answer:
    """Says how far the input's gradient is off, and what a step along it does."""
    accuracy = _accuracy(table).set_index("quantity")
    words = {
        name: in_words(*accuracy.loc[f"right, {name}", ["mean", "low", "high"]], unit="%")
        for name in ATTACKS
    }
    rows = [{"step of each pixel": ATTACKS[name], "right": words[name]} for name in ATTACKS]
    largest: Any = table.groupby("quantity").value.max()
    smallest: Any = table.groupby("quantity").value.min()
    values = {
        **words,
        "sum": f"{largest['error of the sum']:.0e}",
        "constant": f"{smallest['error of the skip as a constant']:.0%}",
        "altered": size_of_error(largest["alters weight gradients by"]),
        "parameters": f"{largest['parameters']:,.0f}",
        "seeds": str(table.seed.nunique()),
        "step": str(STEP),
    }
    return Answer(values, pd.DataFrame(rows))


STUDY = Study(
    name="input_skip",
    question=8,
    title="a skip that starts at the input",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
