"""What TensorBoard shows of a run beside its scalars: pictures, and the graph of the model."""

from collections.abc import Sequence

import keras
import matplotlib.figure
import numpy as np
import tensorflow as tf
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm

from reszoo.data import Pipeline
from reszoo.figure_text import AS_TEXT, drawable
from reszoo.training.confusion import ConfusionCounts
from reszoo.training.event_files import EventFiles
from reszoo.training.metrics_file import steps_done
from reszoo.training.state import TrainingState

# Small pictures with large letters, for TensorBoard shows them 350 pixels wide.
DOTS_PER_INCH = 80
ROWS, COLUMNS = 4, 6  # of example images
LETTERS = 11  # of a class above its image

# With more classes than this there is no room for numbers, or for names.
CLASSES_WITH_NUMBERS, CLASSES_WITH_NAMES = 20, 50


class ExampleImages(keras.callbacks.Callback):
    """Shows the first training images as the model sees them, when the training begins.

    Args:
        files: Where to write; the run is `train`.
        pipeline: The batches.
        state: Where the training is; one that goes on has shown them.
    """

    def __init__(self, files: EventFiles, pipeline: Pipeline, state: TrainingState):
        super().__init__()
        self._files = files
        self._pipeline = pipeline
        self._state = state

    def on_train_begin(self, logs=None):
        if _has_begun(self._state):
            return
        images, labels = next(iter(self._pipeline.train_batches(epoch=0)))
        names = self._pipeline.source.class_names
        figure = examples_figure(images.numpy(), labels.numpy(), names)
        _write(self._files, "train", "examples", figure, step=0)


class ModelGraph(keras.callbacks.Callback):
    """Shows the graph of the model, from images to logits, when the training begins.

    Args:
        files: Where to write; the run is `train`.
        state: Where the training is; one that goes on has shown it.
    """

    def __init__(self, files: EventFiles, state: TrainingState):
        super().__init__()
        self._files = files
        self._state = state

    def on_train_begin(self, logs=None):
        if _has_begun(self._state):
            return
        answer = tf.function(lambda images: self.model(images, training=False), autograph=False)
        images = tf.TensorSpec((None, *self.model.input_shape[1:]))
        graph = answer.get_concrete_function(images).graph
        with self._files.writing("train", step=0):
            tf.summary.graph(graph)


class ConfusionPicture(keras.callbacks.Callback):
    """Shows now and then which classes the model takes for which.

    Args:
        files: Where to write; the run is `test`.
        confusion: What counts them in every test.
        class_names: Names of the classes.
        every_epochs: After how many epochs.
    """

    def __init__(
        self,
        files: EventFiles,
        confusion: ConfusionCounts,
        class_names: Sequence[str],
        every_epochs: int,
    ):
        super().__init__()
        self._files = files
        self._confusion = confusion
        self._class_names = class_names
        self._every_epochs = every_epochs

    def on_epoch_end(self, epoch, logs=None):
        if (epoch + 1) % self._every_epochs:
            return
        step = steps_done(self.model)
        show_confusion(self._files, self._confusion.counts, self._class_names, step)


def show_confusion(
    files: EventFiles, counts: np.ndarray, class_names: Sequence[str], step: int
) -> None:
    """Writes a picture of a confusion matrix for TensorBoard.

    Args:
        files: Where to write; the run is `test`.
        counts: Those of `reszoo.training.confusion.ConfusionCounts`.
        class_names: Names of the classes.
        step: The optimizer's step.
    """
    _write(files, "test", "confusion", confusion_figure(counts, class_names), step)


def examples_figure(
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


def confusion_figure(counts: np.ndarray, class_names: Sequence[str]) -> matplotlib.figure.Figure:
    """Draws a confusion matrix: rows are what is true, columns what the model says.

    The colour is the share of the row, so that rare classes are seen as well as common ones, on a
    scale of square roots, so that a few mistakes are seen too.

    Args:
        counts: Those of `reszoo.training.confusion.ConfusionCounts`.
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
            axis.text(column, row, counts[row, column], color=color, ha="center", va="center")
    return figure


def _has_begun(state):
    return bool(state.epoch or state.batch)


def _label(label, class_names):
    """Returns the name of a label; of a mixed one the two largest, with their shares."""
    if label.ndim == 0:
        return drawable(class_names[int(label)], LETTERS)
    first, second = np.argsort(label)[::-1][:2]
    if label[second] < 0.005:
        return drawable(class_names[first], LETTERS)
    return "\n".join(f"{drawable(class_names[i], LETTERS)} {label[i]:.0%}" for i in (first, second))


def _write(files, run, tag, figure, step):
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]
    with files.writing(run, step):
        tf.summary.image(tag, pixels[np.newaxis])
