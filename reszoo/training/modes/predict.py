"""Predictions of a trained model for images."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from reszoo.data.images import read_image
from reszoo.files import as_path
from reszoo.names import printable
from reszoo.training.config import checked
from reszoo.training.data_description import describe_data, read_data_description
from reszoo.training.modes.trained_model import check_fits, load_model
from reszoo.training.pipeline import create_crop, create_pipeline


def predict_run(
    config: ConfigDict, workdir: str | os.PathLike, images: Sequence[str]
) -> list[tuple[str, float]]:
    """Prints and returns the most likely class of each image, with its probability.

    Args:
        config: The configuration of the run.
        workdir: Its work directory.
        images: Paths of image files.

    Raises:
        ValueError: If there is no model, no image, or an image cannot be read.
    """
    config = checked(config)
    if not images:
        raise ValueError("There is nothing to predict. Give --images=FILE,FILE.")
    model = load_model(workdir)
    # The data set is needed only for models that an older version of this package trained.
    description = read_data_description(as_path(workdir)) or describe_data(create_pipeline(config))
    check_fits(model, description, workdir)
    crop = create_crop(config)
    batch = tf.stack([description.image(read_image(file), crop) for file in images])
    of_images: Any = keras.ops.softmax(tf.cast(model(batch, training=False), tf.float32))
    probabilities = of_images.numpy()
    best = probabilities.argmax(axis=1)
    names = description.class_names
    answers = [
        (names[label], float(p[label])) for label, p in zip(best, probabilities, strict=True)
    ]
    for file, (name, probability) in zip(images, answers, strict=True):
        print(f"{file}: {printable(name)} ({probability:.1%})")
    return answers
