"""`ResidualBlock` against the formula written out, in every way a layer is used."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import reszoo
from reszoo import (
    BasicBranch,
    BottleneckBranch,
    ProjectionShortcut,
    ResidualBlock,
    StopGradSkip,
    ZeroPadShortcut,
)

BLOCKS = {
    "basic": lambda: ResidualBlock(BasicBranch(3)),
    "basic_projection": lambda: ResidualBlock(
        BasicBranch(6, strides=2), ProjectionShortcut(6, strides=2), activation="relu"
    ),
    "bottleneck": lambda: ResidualBlock(
        BottleneckBranch(2, strides=2), ProjectionShortcut(8, strides=2), activation="relu"
    ),
    "zero_pad": lambda: ResidualBlock(BasicBranch(6, strides=2), ZeroPadShortcut(6, strides=2)),
    "stop_gradient": lambda: ResidualBlock(BasicBranch(3), StopGradSkip()),
    "stop_gradient_projection": lambda: ResidualBlock(
        BasicBranch(6), StopGradSkip(ProjectionShortcut(6))
    ),
    "long_skip": lambda: ResidualBlock(
        [ResidualBlock(BasicBranch(3)), ResidualBlock(BasicBranch(3))]
    ),
}


def images(batch=2, size=8, channels=3):
    return np.random.default_rng(0).normal(size=(batch, size, size, channels)).astype("float32")


def test_public_names():
    for layer in (BasicBranch, BottleneckBranch, ProjectionShortcut, ResidualBlock, StopGradSkip):
        assert getattr(reszoo.layers, layer.__name__) is layer
    assert reszoo.layers.ZeroPadShortcut is ZeroPadShortcut


def test_is_activation_of_shortcut_plus_branch():
    block = ResidualBlock(
        BasicBranch(6, strides=2), ProjectionShortcut(6, strides=2), activation="relu"
    )
    x = images()
    y = block(x, training=True)
    expected = tf.nn.relu(block.shortcut(x, training=True) + block.branch(x, training=True))
    np.testing.assert_array_equal(y, expected)
    assert block.activation is keras.activations.relu


def test_none_is_identity_on_either_path():
    x = images()
    np.testing.assert_array_equal(ResidualBlock(None)(x), 2 * x)
    dense = layers.Dense(3)
    np.testing.assert_allclose(ResidualBlock(dense)(x), x + dense(x), rtol=1e-6)


def test_a_list_of_dense_layers_is_a_branch():
    first, last = layers.Dense(16, activation="relu"), layers.Dense(5)
    x = np.random.default_rng(0).normal(size=(4, 5)).astype("float32")
    block = ResidualBlock([first, last])
    np.testing.assert_allclose(block(x), x + last(first(x)), rtol=1e-6)
    assert len(block.trainable_variables) == 4


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_any_number_of_spatial_axes(rank):
    x = np.ones((2, *[8] * rank, 3), "float32")
    block = ResidualBlock(BasicBranch(4, strides=2), ProjectionShortcut(4, strides=2))
    assert block(x).shape == (2, *[4] * rank, 4)


@pytest.mark.parametrize("name", BLOCKS)
def test_saves_and_loads_with_the_same_outputs(name, tmp_path):
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, BLOCKS[name]()(inputs))
    x = images()
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(x), loaded(x))
    for saved, restored in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(saved, restored)


@pytest.mark.parametrize("name", BLOCKS)
def test_config_round_trips(name):
    block = BLOCKS[name]()
    config = block.get_config()
    assert set(config) == {"name", "trainable", "dtype", *ResidualBlock.arguments}
    assert ResidualBlock.from_config(block.get_config()).get_config() == config


@pytest.mark.parametrize("name", BLOCKS)
def test_symbolic_shape_is_the_real_one(name):
    block = BLOCKS[name]()
    symbolic = block(keras.Input((8, 8, 3), batch_size=2))
    assert symbolic.shape == block(images()).shape


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("name", BLOCKS)
def test_mixed_precision(name, policy):
    keras.config.set_dtype_policy(policy)
    block = BLOCKS[name]()
    y = block(images(), training=True)
    assert y.dtype == policy.removeprefix("mixed_")
    assert all(v.dtype == "float32" for v in block.variables)
    assert np.isfinite(ops.cast(y, "float32")).all()


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_equals_eager(name, jit_compile):
    block = BLOCKS[name]()
    x = tf.constant(images())
    block.build(x.shape)
    weights = block.get_weights()
    eager = block(x, training=True)
    block.set_weights(weights)
    compiled = tf.function(lambda x: block(x, training=True), jit_compile=jit_compile)(x)
    np.testing.assert_allclose(eager, compiled, rtol=2e-5, atol=2e-5)


def test_mismatched_paths_name_both_shapes_and_the_projection():
    block = ResidualBlock(BasicBranch(64, strides=2), name="stage2_block1")
    with pytest.raises(ValueError, match="stage2_block1") as error:
        block.build((None, 32, 32, 16))
    message = str(error.value)
    assert "(None, 32, 32, 16)" in message
    assert "(None, 16, 16, 64)" in message
    assert "ProjectionShortcut(64, strides=2)" in message


def test_differing_strides_are_found_for_unknown_image_sizes():
    block = ResidualBlock(BasicBranch(64, strides=2), ProjectionShortcut(64))
    with pytest.raises(ValueError, match=r"ProjectionShortcut\(64, strides=2\)"):
        block.build((None, None, None, 64))


def test_paths_that_would_broadcast_are_refused():
    with pytest.raises(ValueError, match=r"\(None, 8, 8, 1\)"):
        ResidualBlock(BasicBranch(1)).build((None, 8, 8, 3))


def test_mismatched_vectors_name_a_dense_shortcut():
    with pytest.raises(ValueError, match=r"keras\.layers\.Dense\(7\)"):
        ResidualBlock(layers.Dense(7)).build((None, 5))


class Taken(layers.Layer):
    """Every second step along each axis from the given one on."""

    def __init__(self, first):
        super().__init__()
        self.first = first

    def call(self, x):
        return x[(slice(None), *[slice(self.first, None, 2)] * (len(x.shape) - 2))]


@pytest.mark.parametrize(
    ("branch", "shape"),
    [
        ([layers.Conv2D(8, 3, 2)], (32, 32, 4)),
        ([layers.Conv2D(8, 3, 2, padding="same")], (32, 32, 4)),
        ([layers.Conv2D(8, (1, 3), (1, 2), padding="same")], (9, 32, 4)),
        ([layers.Conv2D(8, (3, 5), (1, 2))], (9, 32, 4)),
        ([layers.Conv2D(8, 2, 2)], (7, 9, 4)),
        ([layers.Conv1D(8, 5)], (32, 4)),
        ([layers.Conv3D(8, 3, (1, 2, 2), padding="same")], (4, 9, 8, 4)),
        ([BasicBranch(8, 2)], (1, 1, 4)),
        ([BasicBranch(8, 2)], (2, 3, 4)),
        ([layers.Dense(8)], (4,)),
        ([layers.Dense(8)], (2, 3, 4, 5, 4)),
        ([Taken(1), layers.Dense(8)], (9, 4)),
        ([layers.MaxPooling2D((2, 1)), Taken(1)], (16, 16, 4)),
    ],
)
def test_a_shortcut_that_is_advised_makes_the_paths_meet(branch, shape):
    with pytest.raises(ValueError, match="cannot be added") as error:
        ResidualBlock(branch).build((None, *shape))
    call = str(error.value).split("Use shortcut=")[1].removesuffix(".")
    names = {name: getattr(reszoo, name) for name in reszoo.__all__}
    shortcut = eval(call, names | {"keras": keras})
    ResidualBlock(branch, shortcut).build((None, *shape))


@pytest.mark.parametrize(
    ("branch", "shape"),
    [
        ([layers.UpSampling2D()], (8, 8, 4)),
        ([layers.Conv2D(8, 9)], (32, 32, 4)),
        ([layers.Flatten()], (4, 4)),
    ],
)
def test_no_shortcut_is_advised_where_none_is_known(branch, shape):
    with pytest.raises(ValueError, match="Give a shortcut that ends in the branch's shape"):
        ResidualBlock(branch).build((None, *shape))


@pytest.mark.parametrize("branch", ["relu", 3, [3], tf.nn.relu])
def test_a_branch_that_is_no_layer_is_refused(branch):
    with pytest.raises(ValueError, match="Keras layer"):
        ResidualBlock(branch)


def test_mask_reaches_what_follows():
    x = layers.Masking()(np.array([[[1.0], [0.0]]], "float32"))
    y = ResidualBlock(layers.Dense(1))(x)
    np.testing.assert_array_equal(y._keras_mask, [[True, False]])


@pytest.mark.parametrize("branch", [layers.LSTM, lambda *a, **k: [layers.LSTM(*a, **k)]])
def test_mask_reaches_the_branch(branch):
    x = layers.Masking()(np.array([[[1.0], [2.0], [0.0]]], "float32"))
    block = ResidualBlock(branch(1, return_sequences=True))
    block.build((1, 3, 1))
    lstm = next(part for part in block._flatten_layers() if isinstance(part, layers.LSTM))
    np.testing.assert_array_equal(block(x), x + lstm(x, mask=x._keras_mask))
