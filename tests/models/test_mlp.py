"""`ResidualMLP`: parameters, names, gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo.models import ResidualMLP


def test_trainable_parameters():
    model = ResidualMLP(num_classes=10, input_shape=(8, 8, 1), width=16, blocks=3)
    block = 2 * (16 * 16 + 16 + 2 * 16)
    expected = (64 * 16 + 16) + 3 * block + 2 * 16 + (16 * 10 + 10)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == expected


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"shortcut": "none"},
        {"shortcut": "constant_scale"},
        {"gate": "half_both"},
        {"gate": "scale_branch"},
        {"norm": None, "branch_scale": 0.5},
        {"drop_path": 0.5, "activation": "gelu"},
    ],
)
def test_every_trainable_weight_receives_a_gradient(options):
    model = ResidualMLP(input_shape=(12,), width=16, blocks=2, **options)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(tf.random.normal((8, 12)), training=True)[:, 0] ** 2)
    assert all(np.any(g) for g in tape.gradient(loss, model.trainable_variables))


def test_blocks_are_named_and_features_can_be_had():
    model = ResidualMLP(num_classes=0, input_shape=(12,), width=16, blocks=2)
    assert model.output_shape == (None, 16)
    assert model.get_layer("stage1_block2").output.shape == (None, 16)


def test_rezero_starts_as_the_identity():
    model = ResidualMLP(input_shape=(12,), width=16, blocks=2, branch_scale=0.0)
    x = np.random.default_rng(0).normal(size=(8, 12)).astype("float32")
    blocks = model.get_layer("stem").output, model.get_layer("stage1_block2").output
    before, after = keras.Model(model.inputs[0], blocks)(x)
    np.testing.assert_array_equal(before, after)


def test_drop_path_rises_linearly():
    model = ResidualMLP(blocks=4, drop_path=0.2)
    ends = [model.get_layer(f"stage1_block{i}").branch.layers[-1] for i in (1, 2, 3, 4)]
    assert [end.rate for end in ends] == pytest.approx([0.05, 0.1, 0.15, 0.2])


def test_nothing_passes_a_gate_that_stops_the_skip():
    model = ResidualMLP(input_shape=(12,), width=16, blocks=2, gate="stop_skip", branch_scale=0.0)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(tf.ones((8, 12))) ** 2)
    assert not np.any(tape.gradient(loss, model.get_layer("stem").kernel.value))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wdith": 3}, "no option 'wdith'. Did you mean"),
        ({"drop_path": 1.0}, "drop_path must be in"),
        ({"gate": "exclusive"}, "made of a convolution, but the branch has none"),
        ({"width": 0}, "width=0"),
        ({"shortcut": "always_projection"}, "no projections"),
    ],
)
def test_bad_arguments_say_what_is_expected(options, message):
    with pytest.raises(ValueError, match=message):
        ResidualMLP(**options)
