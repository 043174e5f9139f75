import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from reszoo.data import Augmentation, Pipeline, load_source
from reszoo.training.callbacks.confusion_counts import ConfusionCounts
from reszoo.training.callbacks.confusion_picture import ConfusionPicture
from reszoo.training.callbacks.example_images import ExampleImages
from reszoo.training.callbacks.model_graph import ModelGraph
from reszoo.training.event_files import EventFiles
from reszoo.training.loop import evaluate

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


def test_the_examples_are_written_once_a_run(tmp_path, pipeline):
    for epoch in range(3):
        files = EventFiles(tmp_path)
        ExampleImages(files, pipeline).on_epoch_end(epoch)
        files.close()
    ((step, picture),) = pixels(tmp_path / "train", "examples")
    assert step == 0
    assert picture.shape == (400, 480, 3)
    assert len(np.unique(picture)) > 50


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


def test_the_graph_has_the_layers(tmp_path, workdir):
    model = keras.models.load_model(workdir / "model.keras")
    files = EventFiles(tmp_path)
    graph = ModelGraph(files)
    graph.set_model(model)
    graph.on_epoch_end(0)
    files.close()
    names = [node.name for node in events(tmp_path / "train").Graph().node]
    assert any("dense" in name and "MatMul" in name for name in names)
