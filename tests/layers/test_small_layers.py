"""Scaling, stochastic depth, squeeze-and-excitation, pooling, normalization, no shortcut."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo.layers import (
    AveragePool,
    BasicBranch,
    ConstantScale,
    DropPath,
    GroupNorm,
    LearnedScale,
    MaxPool,
    ResidualBlock,
    SqueezeExcitation,
    ZeroShortcut,
    normalization,
)
from tests.layers.windows import padded, taps

LAYERS = {
    "average_pool": lambda: AveragePool(2, 2),
    "constant_scale": lambda: ConstantScale(0.5),
    "drop_path": lambda: DropPath(0.5, seed=1),
    "group_norm": GroupNorm,
    "learned_scale": lambda: LearnedScale(0.5),
    "max_pool": lambda: MaxPool(3, 2),
    "squeeze_excitation": lambda: SqueezeExcitation(2),
    "zero_shortcut": lambda: ZeroShortcut(4, 2),
}


def images(channels=4, size=7):
    return np.random.default_rng(0).normal(size=(4, size, size, channels)).astype("float32")


@pytest.mark.parametrize("name", LAYERS)
def test_round_trips_and_knows_its_shape(name):
    layer, x = LAYERS[name](), images()
    y = layer(x)
    assert y.shape == layer.compute_output_shape(x.shape)
    assert layer(keras.Input((7, 7, 4), batch_size=4)).shape == y.shape
    copy = type(layer).from_config(layer.get_config())
    assert copy.get_config() == layer.get_config()


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_works_compiled_and_in_half_precision(name, jit_compile):
    keras.config.set_dtype_policy("mixed_bfloat16")
    layer, x = LAYERS[name](), tf.constant(images())
    layer.build(x.shape)
    y = tf.function(lambda x: layer(x, training=False), jit_compile=jit_compile)(x)
    assert y.dtype == "bfloat16"


def test_constant_scale_scales_the_gradient_too():
    x = tf.constant(images())
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ConstantScale(0.5)(x)
    np.testing.assert_array_equal(y, 0.5 * x)
    np.testing.assert_array_equal(tape.gradient(y, x), 0.5 * tf.ones_like(x))


def test_learned_scale_starts_a_block_as_its_shortcut_and_learns():
    x = tf.constant(images())
    block = ResidualBlock([BasicBranch(4), LearnedScale()])
    with tf.GradientTape() as tape:
        y = block(x)
        loss = tf.reduce_sum(y**2)
    np.testing.assert_array_equal(y, x)
    assert float(tape.gradient(loss, block.branch.layers[-1].scale.value)) != 0.0


def test_drop_path_drops_whole_examples_and_keeps_the_mean():
    x = np.ones((2000, 2, 2, 1), "float32")
    y = DropPath(0.25, seed=0)(x, training=True).numpy()
    assert set(np.unique(y.round(4))) == {0.0, np.float32(1.3333)}
    np.testing.assert_array_equal(y.min((1, 2, 3)), y.max((1, 2, 3)))
    # Four standard errors of a binomial share.
    assert abs((y[:, 0, 0, 0] == 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 2000)
    np.testing.assert_array_equal(DropPath(0.25)(x, training=False), x)


def test_squeeze_excitation_is_its_formula():
    x, layer = images(), SqueezeExcitation(2)
    y = layer(x)
    hidden = tf.nn.relu(x.mean((1, 2)) @ layer.squeeze.kernel + layer.squeeze.bias)
    gate = tf.sigmoid(hidden @ layer.excite.kernel + layer.excite.bias)
    np.testing.assert_allclose(y, x * gate[:, None, None], rtol=1e-5)


@pytest.mark.parametrize("size", [6, 7])
def test_max_pool_pads_alike_and_never_takes_padding(size):
    x = images(size=size) - 10
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-np.inf)
    expected = tf.nn.max_pool2d(padded, 3, 2, "VALID")
    np.testing.assert_array_equal(MaxPool()(x), expected)


def test_average_pool_averages_what_is_there():
    x = images(size=3)
    y = AveragePool()(x)
    np.testing.assert_allclose(y[:, 0, 0], x[:, :2, :2].mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(y[:, 1, 1], x[:, 2, 2], rtol=1e-5)


@pytest.mark.parametrize("padding", ["symmetric", "same", "valid"])
@pytest.mark.parametrize(
    ("size", "strides"),
    [((3, 3), (2, 2)), ((1, 3), (1, 2)), ((3, 5), (1, 2)), ((3, 3, 1), (1, 2, 2))],
)
@pytest.mark.parametrize("pixels", [7, 8])
def test_pools_of_any_padding_take_the_pixels_in_each_window(size, strides, padding, pixels):
    x = np.random.default_rng(0).normal(size=(2, *[pixels] * len(size), 3)).astype("float32") - 5
    windows = padded(x, size, strides, (1,) * len(size), padding, value=np.nan)
    seen = np.stack([part for _, part in taps(windows, size, strides, (1,) * len(size))])
    for layer, expected in (
        (MaxPool(size, strides, padding=padding), np.nanmax(seen, 0)),
        (AveragePool(size, strides, padding=padding), np.nanmean(seen, 0)),
    ):
        y = layer(x)
        np.testing.assert_allclose(y, expected, rtol=1e-4)
        assert y.shape == layer.compute_output_shape(x.shape)
        assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MaxPool(2), "odd"),
        (lambda: MaxPool((3, 2)), "for example 3"),
        (lambda: AveragePool(2, padding="symmetric"), "odd"),
        (lambda: AveragePool(padding="full"), "'symmetric', 'same', 'valid'"),
        (lambda: MaxPool(padding="same", padding_value=0.0), 'MaxPool\\(padding="valid"\\)'),
        (lambda: MaxPool(3, (2, 2, 2)).build((None, 8, 8, 3)), "2 spatial axes"),
        (lambda: AveragePool(9, padding="valid")(images()), "Give larger images"),
    ],
)
def test_pools_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(("channels", "groups"), [(48, 16), (64, 32), (8, 8), (5, 1)])
def test_group_norm_takes_as_many_groups_as_divide(channels, groups):
    x = images(channels)
    norm = GroupNorm()
    y = norm(x).numpy().reshape(4, 49, groups, -1)
    np.testing.assert_allclose(y.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(y.var((1, 3)), 1, rtol=1e-2)


def test_normalization_by_name_or_function():
    assert normalization(None, "norm") == []
    (norm,) = normalization("batch", "norm1", zero_scale=True)
    assert (norm.epsilon, norm.momentum, norm.name) == (1e-5, 0.9, "norm1")
    norm.build((None, 4))
    np.testing.assert_array_equal(norm.gamma, 0)
    (norm,) = normalization("sync_batch", "norm1")
    assert norm.synchronized
    make = functools.partial(keras.layers.LayerNormalization, epsilon=0.5)
    block = ResidualBlock(BasicBranch(4, norm=make))
    copy = ResidualBlock.from_config(block.get_config())
    assert copy.branch.layers[1].epsilon == 0.5
    with pytest.raises(ValueError, match="'group'"):
        normalization("instance", "norm1")


def test_no_shortcut_gives_the_branch_alone_and_no_gradient_through_the_skip():
    x = tf.constant(images())
    block = ResidualBlock(BasicBranch(6, 2), ZeroShortcut(6, 2))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y, alone = block(x), block.branch(x)
    np.testing.assert_array_equal(y, alone)
    np.testing.assert_array_equal(tape.gradient(y, x), tape.gradient(alone, x))
