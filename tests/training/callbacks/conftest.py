"""Model that callbacks of an epoch look at."""

import keras
import pytest


@pytest.fixture
def model():
    """A compiled model, 22 steps after its beginning."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd")
    model.optimizer.iterations.assign(22)
    return model
