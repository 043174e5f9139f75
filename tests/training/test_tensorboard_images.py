import io

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from reszoo.data import Augmentation, Pipeline, load_source
from reszoo.training.confusion import ConfusionCounts
from reszoo.training.event_files import EventFiles
from reszoo.training.loop import evaluate
from reszoo.training.state import TrainingState
from reszoo.training.tensorboard_images import (
    ConfusionPicture,
    ExampleImages,
    ModelGraph,
    confusion_figure,
    examples_figure,
)
from tests.odd_names import ODD_NAMES

NAMES = tuple("0123456789")


@pytest.fixture
def pipeline():
    return Pipeline(load_source("digits"), batch_size=100, augmentation=Augmentation(mixup=0.2))


def events(directory):
    return EventAccumulator(str(directory)).Reload()


def pixels(directory, tag):
    """Returns `(step, pixels)` of each picture."""
    found = events(directory).Tensors(tag)
    pictures = [tensor_util.make_ndarray(event.tensor_proto)[2] for event in found]
    return [
        (event.step, tf.io.decode_png(picture).numpy())
        for event, picture in zip(found, pictures, strict=True)
    ]


def titles(figure):
    return [axis.get_title() for axis in figure.axes if axis.get_title()]


def test_the_examples_are_written_once_a_run(tmp_path, pipeline):
    for state in (TrainingState(), TrainingState(batch=3), TrainingState(epoch=1)):
        files = EventFiles(tmp_path)
        ExampleImages(files, pipeline, state).on_train_begin()
        files.close()
    ((step, picture),) = pixels(tmp_path / "train", "examples")
    assert step == 0
    assert picture.shape == (400, 480, 3)
    assert len(np.unique(picture)) > 50


def test_each_example_has_the_name_of_its_class_or_of_those_mixed():
    images, labels = np.zeros((40, 8, 8, 1)), np.arange(40) % 10
    assert titles(examples_figure(images, labels, NAMES)) == [*"0123456789" * 2, *"0123"]
    mixed = np.array([[0.25, 0, 0.75], [0, 1, 0]])
    assert titles(examples_figure(images[:2], mixed, ["a", "b", "c" * 20])) == [
        "c" * 10 + "… 75%\na 25%",
        "b",
    ]


def test_normalized_images_are_drawn_within_the_range():
    images = np.array([-2.0, 0.0, 2.0]).reshape(1, 1, 3, 1)
    figure = examples_figure(images, np.array([0]), NAMES)
    np.testing.assert_allclose(figure.axes[0].images[0].get_array().ravel(), [0, 0.5, 1])


def test_the_confusion_matrix_is_drawn_every_so_many_epochs(tmp_path, pipeline, workdir):
    model = keras.models.load_model(workdir / "model.keras")
    model.optimizer.iterations.assign(28)
    files = EventFiles(tmp_path)
    confusion = ConfusionCounts(10)
    picture = ConfusionPicture(files, confusion, NAMES, every_epochs=2)
    picture.set_model(model)
    evaluate(model, pipeline, callbacks=[confusion])
    for epoch in range(3):
        picture.on_epoch_end(epoch)
    files.close()
    ((step, drawn),) = pixels(tmp_path / "test", "confusion")
    assert step == 28
    assert drawn.shape == (420, 480, 3)


@pytest.mark.parametrize(("classes", "numbers", "names"), [(3, 5, 3), (30, 0, 30), (60, 0, 0)])
def test_many_classes_have_no_room_for_numbers_or_names(classes, numbers, names):
    counts = np.diag(np.full(classes, 9))
    counts[0, 1] = counts[1, 0] = 1
    figure = confusion_figure(counts, [f"class {index}" for index in range(classes)])
    axis = figure.axes[0]
    assert len(axis.texts) == numbers
    assert len([text for text in axis.get_yticklabels() if "class" in text.get_text()]) == names
    assert axis.get_title("left") == f"{9 * classes:,} of {9 * classes + 2:,} test images right"
    np.testing.assert_allclose(axis.images[0].get_array()[0, :2], [0.9, 0.1])


def test_the_graph_has_the_layers(tmp_path, workdir):
    model = keras.models.load_model(workdir / "model.keras")
    files = EventFiles(tmp_path)
    graph = ModelGraph(files, TrainingState())
    graph.set_model(model)
    graph.on_train_begin()
    files.close()
    names = [node.name for node in events(tmp_path / "train").Graph().node]
    assert any("dense" in name and "MatMul" in name for name in names)


def test_names_of_classes_are_text_whatever_is_in_them():
    """Drawn without a warning, which here is an error."""
    labels = np.arange(len(ODD_NAMES))
    images = np.zeros((len(ODD_NAMES), 2, 2, 1))
    for figure in (
        examples_figure(images, labels, ODD_NAMES),
        examples_figure(images[-20:], labels[-20:], ODD_NAMES),
        confusion_figure(np.eye(len(ODD_NAMES), dtype=int), ODD_NAMES),
    ):
        figure.savefig(io.BytesIO())
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert labels[:3] == ["$a_$", r"$\frac{$", "_a"]
    mixed = examples_figure(images[:1], np.eye(len(ODD_NAMES))[:1] / 2 + 0.01, ODD_NAMES)
    assert mixed.axes[0].get_title().startswith("$a_$ 51%\n")
