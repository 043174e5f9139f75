"""A finished run, as small as can be."""

import keras
import pytest
from keras import layers
from ml_collections import ConfigDict

from reszoo.data import load_source
from reszoo.training.config import complete


@pytest.fixture
def config():
    fields = {"data": {"name": "digits"}, "model": {"name": "resnet18"}, "batch_size": 100}
    return complete(ConfigDict(fields | {"optimizer": {"learning_rate": 0.1}}))


@pytest.fixture
def workdir(tmp_path):
    """A work directory with a model that knows the digits somewhat: a linear one."""
    model = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"])
    images, labels = next(iter(load_source("digits").train.batch(1437)))
    model.fit(images, labels, epochs=5, verbose=0)
    model.save(tmp_path / "model.keras")
    return tmp_path
