"""The gates of He et al. 2016 against their formulas, forward and backward."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo.layers import (
    BasicBranch,
    ExclusiveGatedBlock,
    Gate,
    GatedShortcut,
    ProjectionShortcut,
    ResidualBlock,
    ZeroPadShortcut,
)


def images(channels=3):
    return tf.random.normal((2, 6, 6, channels), seed=1)


def gate_of(gate, x):
    kernel = gate.conv.kernel[0, 0]
    return tf.sigmoid(x[:, :: gate.strides, :: gate.strides] @ kernel + gate.bias)


def test_gate_is_a_sigmoid_of_a_1x1_convolution():
    gate, x = Gate(5, strides=2, initial_bias=-1.0), images()
    np.testing.assert_allclose(gate(x), gate_of(gate, x), rtol=1e-5)


def test_shortcut_only_gating_leaves_the_branch():
    x, branch = images(), BasicBranch(3)
    gate = Gate(3, initial_bias=-1.0)
    block = ResidualBlock(branch, GatedShortcut(gate))
    np.testing.assert_allclose(
        block(x), (1 - gate_of(gate, x)) * x + branch(x), rtol=1e-4, atol=1e-5
    )


def test_exclusive_gating_divides_between_the_paths():
    x, branch, shortcut = images(), BasicBranch(5, 2), ZeroPadShortcut(5, 2)
    gate = Gate(5, strides=2, initial_bias=-1.0)
    block = ExclusiveGatedBlock(branch, gate, shortcut, activation="relu")
    y = block(x)
    g = gate_of(gate, x)
    expected = tf.nn.relu((1 - g) * shortcut(x) + g * branch(x))
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


def test_both_paths_of_an_exclusive_gate_go_through_fork_and_merge():
    x = images()
    block = ExclusiveGatedBlock(BasicBranch(3), Gate(3))
    seen = {}

    def merge(shortcut, branch):
        seen["merge"] = shortcut + branch
        return seen["merge"]

    block.build(x.shape)
    expected = block(x)
    block.fork = lambda x: (x, seen.setdefault("branch", x * 1.0))
    block.merge = merge
    np.testing.assert_allclose(block(x), expected, rtol=1e-6)
    assert set(seen) == {"branch", "merge"}


def test_a_closed_gate_is_the_identity():
    x = images()
    block = ExclusiveGatedBlock(BasicBranch(3), Gate(3, initial_bias=-40.0))
    np.testing.assert_allclose(block(x), x, rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ExclusiveGatedBlock(
            BasicBranch(4, 2), Gate(4, 2), ProjectionShortcut(4, 2), activation="relu"
        ),
        lambda: ResidualBlock(BasicBranch(3), GatedShortcut(Gate(3, initial_bias=-6.0))),
    ],
)
def test_saves_and_loads(make, tmp_path):
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, make()(inputs))
    x = images()
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert len(loaded.weights) == len(model.weights)


@pytest.mark.parametrize(
    "block",
    [
        lambda: ResidualBlock(BasicBranch(3), GatedShortcut(Gate(4))),
        lambda: ExclusiveGatedBlock(BasicBranch(3), Gate(5)),
        lambda: ExclusiveGatedBlock(BasicBranch(3), Gate(3, strides=2)),
    ],
)
def test_a_gate_of_another_shape_than_its_path_is_an_error(block):
    with pytest.raises(ValueError, match=r"must have the filters and strides .* ends in shape"):
        block()(images())


def test_a_gate_of_one_filter_gates_all_channels():
    x, gate, branch = images(), Gate(1), BasicBranch(3)
    block = ExclusiveGatedBlock(branch, gate)
    y = block(x)
    g = gate_of(gate, x)
    np.testing.assert_allclose(y, (1 - g) * x + g * branch(x), rtol=1e-4, atol=1e-5)


@keras.saving.register_keras_serializable(package="test_gates")
class Learned(keras.layers.Layer):
    """A gate that does not depend on its input."""

    def __init__(self, shape=(), **kwargs):
        super().__init__(**kwargs)
        self.shape = shape

    def get_config(self):
        return {**super().get_config(), "shape": self.shape}

    def build(self, input_shape):
        self.w = self.add_weight(shape=self.shape, initializer="normal", name="w")

    def call(self, x):
        return keras.ops.sigmoid(self.w)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 6, 6, 3), (1, 1, 1, 1)])
@pytest.mark.parametrize("gated", [GatedShortcut, lambda g: ExclusiveGatedBlock(BasicBranch(3), g)])
def test_a_gate_that_broadcasts_gates_its_path(gated, shape, tmp_path):
    x, gate = images(), Learned(shape)
    layer = gated(gate)
    y, g = layer(x), tf.sigmoid(gate.w)
    branch = g * layer.branch(x) if layer.name.startswith("exclusive") else 0
    np.testing.assert_allclose(y, (1 - g) * x + branch, rtol=1e-4, atol=1e-5)
    inputs = keras.Input((6, 6, 3))
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))


@pytest.mark.parametrize("axis", [(1, 2), (1, 2, 3)])
def test_a_gate_of_each_image_without_pixels_is_an_error(axis):
    gate = keras.layers.Lambda(lambda x: keras.ops.mean(x, axis))
    with pytest.raises(ValueError, match=r"must have the filters and strides"):
        GatedShortcut(gate).build((None, 6, 6, 3))


def test_a_gated_shortcut_without_a_gate_is_an_error():
    with pytest.raises(ValueError, match=r"takes a Keras layer such as Gate\(64\) as gate"):
        GatedShortcut(None)
