"""What can be done with the model of a finished run: test it, export it, ask it."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from reszoo.data import Pipeline
from reszoo.data.folder import decode
from reszoo.training.loop import evaluate
from reszoo.training.run import MODEL_FILE, create_pipeline

EXPORT_DIRECTORY = "export"


def evaluate_run(config: ConfigDict, workdir: str | Path) -> dict[str, float]:
    """Tests the model of a run, prints its figures, and returns them.

    Args:
        config: The configuration of the run.
        workdir: Its work directory.

    Raises:
        ValueError: If there is no model.
    """
    figures = evaluate(_load(workdir), create_pipeline(config))
    for name, value in figures.items():
        print(f"test {name.replace('_', ' ')}: {value:.4f}")
    return figures


def export_run(config: ConfigDict, workdir: str | Path) -> Path:
    """Exports the model of a run as a SavedModel, after a check that it answers the same.

    Args:
        config: The configuration of the run.
        workdir: Its work directory; the SavedModel is `export` in it.

    Returns:
        The directory of the SavedModel.

    Raises:
        ValueError: If there is no model, or the exported one answers differently.
    """
    model = _load(workdir)
    directory = Path(workdir) / EXPORT_DIRECTORY
    model.export(directory, verbose=False)
    images, *_ = next(iter(create_pipeline(config).test_batches()))
    exported = tf.saved_model.load(directory)  # its function does not keep its variables alive
    found, expected = exported.serve(images), model(images, training=False)
    difference = float(tf.reduce_max(tf.abs(tf.cast(found - expected, tf.float32))))
    if not np.allclose(found, expected, rtol=1e-4, atol=1e-4):
        raise ValueError(
            f"The exported model's logits differ by up to {difference}; do not use it."
        )
    print(f"The SavedModel is {directory}; its logits differ by {difference:.1g} at most.")
    return directory


def predict_run(
    config: ConfigDict, workdir: str | Path, images: Sequence[str]
) -> list[tuple[str, float]]:
    """Prints and returns the most likely class of each image, with its probability.

    Args:
        config: The configuration of the run.
        workdir: Its work directory.
        images: Files.

    Raises:
        ValueError: If there is no model, no image, or an image cannot be read.
    """
    if not images:
        raise ValueError("There is nothing to predict. Give --images=FILE,FILE.")
    model, pipeline = _load(workdir), create_pipeline(config)
    batch = tf.stack([_read(file, pipeline) for file in images])
    probabilities = keras.ops.softmax(tf.cast(model(batch, training=False), tf.float32)).numpy()
    best = probabilities.argmax(axis=1)
    names = pipeline.source.class_names
    answers = [
        (names[label], float(p[label])) for label, p in zip(best, probabilities, strict=True)
    ]
    for file, (name, probability) in zip(images, answers, strict=True):
        print(f"{file}: {name} ({probability:.1%})")
    return answers


def _load(workdir):
    path = Path(workdir) / MODEL_FILE
    if not path.exists():
        raise ValueError(f"There is no {path}. Train first, with --mode=train.")
    return keras.models.load_model(path)


def _read(file: str, pipeline: Pipeline) -> tf.Tensor:
    try:
        image = decode(tf.constant(file))
    except tf.errors.OpError as error:
        raise ValueError(f"The image {file} cannot be read ({error.message[:200]}).") from error
    if pipeline.image_shape[-1] == 1:
        image = tf.image.rgb_to_grayscale(image)
    return pipeline.test_image(image)
