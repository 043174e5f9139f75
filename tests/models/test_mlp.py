"""`ResidualMLP`: parameters, names, gradients."""

import numpy as np
import pytest
import tensorflow as tf

from reszoo.models import ResidualMLP


def test_trainable_parameters():
    model = ResidualMLP(num_classes=10, input_shape=(8, 8, 1), width=16, blocks=3)
    block = 2 * (16 * 16 + 16 + 2 * 16)
    expected = (64 * 16 + 16) + 3 * block + 2 * 16 + (16 * 10 + 10)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == expected


@pytest.mark.parametrize("shortcut", ["projection", "none", "constant_scale"])
def test_every_trainable_weight_receives_a_gradient(shortcut):
    model = ResidualMLP(input_shape=(12,), width=16, blocks=2, shortcut=shortcut)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(tf.random.normal((8, 12)), training=True)[:, 0] ** 2)
    assert all(np.any(g) for g in tape.gradient(loss, model.trainable_variables))


def test_blocks_are_named_and_features_can_be_had():
    model = ResidualMLP(num_classes=0, input_shape=(12,), width=16, blocks=2)
    assert model.output_shape == (None, 16)
    assert model.get_layer("stage1_block2").output.shape == (None, 16)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width=0"),
        ({"shortcut": "always_projection"}, "no projections"),
    ],
)
def test_bad_arguments_say_what_is_expected(options, message):
    with pytest.raises(ValueError, match=message):
        ResidualMLP(**options)
