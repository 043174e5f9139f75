"""Gradients are checked in float64, whatever the precision and the devices around the check."""

import jax
import keras
import numpy as np
import pytest
from keras import layers, ops

from reszoo import ResidualBlock
from reszoo.gradients import check

X = np.random.default_rng(0).normal(size=(4, 4))


def model(*others):
    return keras.Sequential([ResidualBlock([layers.Dense(4, "tanh")], name="b"), *others])


def assert_right(table):
    assert table.candidate[table.finite_differences_agree].tolist() == ["sum"]
    assert table.candidate[table.reverse_mode_agrees].tolist() == ["sum"]


def test_precision_is_put_back():
    assert_right(check(model(), X))
    with pytest.raises(ValueError, match="output must be float64, but is float32"):
        check(model(layers.Lambda(lambda x: ops.cast(x, "float32"))), X)
    assert not jax.config.jax_enable_x64
    assert ops.tanh(ops.convert_to_tensor(X)).dtype == "float32"
    assert jax.nn.dot_product_attention.__module__.startswith("jax")


def test_a_model_on_several_devices_is_checked():
    devices = keras.distribution.list_devices("cpu")
    keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
    assert_right(check(model(), X))
