"""Pictures of a run for TensorBoard: training images and confusion matrices."""

from collections.abc import Sequence

import matplotlib.figure
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm

from reszoo.figure_text import AS_TEXT, drawable
from reszoo.training.event_files import EventFiles

# Small pictures with large letters, since TensorBoard shows them 350 pixels wide.
DOTS_PER_INCH = 80
ROWS, COLUMNS = 4, 6  # of example images
LETTERS = 11  # of the class name above an image

# Above these numbers of classes there is no room for numbers, or for names.
CLASSES_WITH_NUMBERS, CLASSES_WITH_NAMES = 20, 50


def show_examples(
    files: EventFiles, images: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> None:
    """Writes a picture of training images for TensorBoard.

    Args:
        files: Event files; the picture is written to the run `train`.
        images: A batch, `(batch, height, width, channels)`.
        labels: Whole numbers, or distributions over the classes.
        class_names: Names of the classes.
    """
    _write(files, "train", "examples", draw_examples(images, labels, class_names), step=0)


def show_confusion(
    files: EventFiles, counts: np.ndarray, class_names: Sequence[str], step: int
) -> None:
    """Writes a picture of a confusion matrix for TensorBoard.

    Args:
        files: Event files; the picture is written to the run `test`.
        counts: Counts of `reszoo.training.callbacks.confusion_counts.ConfusionCounts`.
        class_names: Names of the classes.
        step: Number of the optimizer's steps done.
    """
    _write(files, "test", "confusion", draw_confusion(counts, class_names), step)


def draw_examples(
    images: np.ndarray, labels: np.ndarray, class_names: Sequence[str]
) -> matplotlib.figure.Figure:
    """Draws images with the names of their classes.

    Args:
        images: A batch; if values leave `[0, 1]`, the lowest is drawn black, the highest white.
        labels: Whole numbers, or distributions over the classes.
        class_names: Names of the classes.
    """
    low, high = min(images.min(), 0.0), max(images.max(), 1.0)
    figure = matplotlib.figure.Figure((6, 5), DOTS_PER_INCH, layout="constrained")
    axes = figure.subplots(ROWS, COLUMNS).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, image, label in zip(axes, (images - low) / (high - low), labels, strict=False):
        axis.imshow(image, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_title(_label(label, class_names), fontsize=9, **AS_TEXT)
    return figure


def draw_confusion(counts: np.ndarray, class_names: Sequence[str]) -> matplotlib.figure.Figure:
    """Draws a confusion matrix: rows are true classes, columns the model's answers.

    The colour shows the share of the row, so that rare classes are as visible as common ones, on a
    square-root scale, so that a few mistakes are visible too.

    Args:
        counts: Counts of `reszoo.training.callbacks.confusion_counts.ConfusionCounts`.
        class_names: Names of the classes.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = (6, 5.25) if len(class_names) <= CLASSES_WITH_NUMBERS else (10, 8.75)
    figure = matplotlib.figure.Figure(size, DOTS_PER_INCH, layout="constrained")
    axis = figure.subplots()
    drawn = axis.imshow(shares, cmap="Blues", norm=PowerNorm(0.5, 0, 1), interpolation="nearest")
    figure.colorbar(drawn, ax=axis, label="share of the true class", shrink=0.8)
    axis.set(xlabel="the model says", ylabel="true class")
    axis.set_title(f"{np.trace(counts):,} of {counts.sum():,} test images right", loc="left")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    if len(class_names) <= CLASSES_WITH_NAMES:
        names = [drawable(name, length=16) for name in class_names]
        rotation = 90 if max(map(len, names)) > 3 else 0
        axis.set_xticks(range(len(names)), names, rotation=rotation, fontsize=9, **AS_TEXT)
        axis.set_yticks(range(len(names)), names, fontsize=9, **AS_TEXT)
    if len(class_names) <= CLASSES_WITH_NUMBERS:
        for row, column in np.argwhere(counts):
            color = "white" if shares[row, column] > 0.3 else "black"
            axis.text(column, row, str(counts[row, column]), color=color, ha="center", va="center")
    return figure


def _label(label: np.ndarray, class_names: Sequence[str]) -> str:
    """Returns the name of a label's class; for a mixed label the two largest, with their shares."""
    if label.ndim == 0:
        return drawable(class_names[int(label)], LETTERS)
    first, second = (int(index) for index in np.argsort(label)[::-1][:2])
    if label[second] < 0.005:
        return drawable(class_names[first], LETTERS)
    return "\n".join(f"{drawable(class_names[i], LETTERS)} {label[i]:.0%}" for i in (first, second))


def _write(
    files: EventFiles, run: str, tag: str, figure: matplotlib.figure.Figure, step: int
) -> None:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    with files.writing(run, step):
        tf.summary.image(tag, pixels[np.newaxis])
