"""Branches: their layers in order, their weights, and what they refuse."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo import BasicBranch, BottleneckBranch, Convolution


def symmetric_convolution(x, kernel, strides):
    """A convolution padded by half the kernel on every side, as torch does it."""
    pad = kernel.shape[0] // 2
    padding = [[0, 0], [pad, pad], [pad, pad], [0, 0]]
    return tf.nn.conv2d(x, kernel, strides, padding)


def batch_norm(x, gamma, beta):
    mean, variance = tf.nn.moments(x, [0, 1, 2])
    return (x - mean) * tf.math.rsqrt(variance + 1e-5) * gamma + beta


@pytest.mark.parametrize("strides", [1, 2])
def test_basic_branch_is_its_formula(strides):
    x = tf.random.normal((4, 8, 8, 3))
    branch = BasicBranch(5, strides)
    y = branch(x, training=True)
    w1, g1, b1, w2, g2, b2 = branch.trainable_variables
    h = tf.nn.relu(batch_norm(symmetric_convolution(x, w1, strides), g1, b1))
    expected = batch_norm(symmetric_convolution(h, w2, 1), g2, b2)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strides", [1, 2])
def test_bottleneck_branch_is_its_formula_with_the_stride_on_the_3x3(strides):
    x = tf.random.normal((4, 8, 8, 3))
    branch = BottleneckBranch(5, strides, expansion=2)
    y = branch(x, training=True)
    w1, g1, b1, w2, g2, b2, w3, g3, b3 = branch.trainable_variables
    h = tf.nn.relu(batch_norm(symmetric_convolution(x, w1, 1), g1, b1))
    h = tf.nn.relu(batch_norm(symmetric_convolution(h, w2, strides), g2, b2))
    expected = batch_norm(symmetric_convolution(h, w3, 1), g3, b3)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    assert y.shape[-1] == 10


@pytest.mark.parametrize(
    ("branch", "parameters"),
    # 3*3*3*8 + 2*8 + 3*3*8*8 + 2*8, and 3*8 + 2*8 + 3*3*8*8 + 2*8 + 8*32 + 2*32
    [(BasicBranch(8), 824), (BottleneckBranch(8), 952)],
)
def test_trainable_parameters(branch, parameters):
    branch.build((None, 8, 8, 3))
    assert branch.count_params() - sum(
        int(np.prod(v.shape)) for v in branch.non_trainable_variables
    ) == (parameters)


@pytest.mark.parametrize("branch", [BasicBranch, BottleneckBranch])
def test_zero_init_last_scale_starts_at_zero(branch):
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    np.testing.assert_array_equal(branch(4, zero_init_last_scale=True)(x, training=True), 0.0)
    assert np.abs(branch(4)(x, training=True)).max() > 0.1


@pytest.mark.parametrize("branch", [BasicBranch, BottleneckBranch])
@pytest.mark.parametrize(
    "arguments", [{"filters": 0}, {"filters": -3}, {"filters": 2.5}, {"filters": 4, "strides": 0}]
)
def test_arguments_out_of_range_are_refused(branch, arguments):
    with pytest.raises(ValueError, match="must be an integer of at least 1"):
        branch(**arguments)


@pytest.mark.parametrize("branch", [BasicBranch(4), BottleneckBranch(4)])
def test_vectors_are_refused_with_a_hint(branch):
    with pytest.raises(ValueError, match=r"keras\.layers\.Dense"):
        branch.build((None, 16))


@pytest.mark.parametrize(
    "branch",
    [
        BasicBranch(4, 2, activation="gelu", zero_init_last_scale=True),
        BottleneckBranch(4, 2, 2, activation="gelu", zero_init_last_scale=True),
    ],
)
def test_config_is_the_constructors_arguments(branch):
    config = branch.get_config()
    arguments = {key: config[key] for key in config if key not in ("name", "trainable", "dtype")}
    assert arguments.pop("expansion", 2) == 2
    assert arguments.pop("inner", None) is None
    assert arguments.pop("dilation_rates", [1, 1]) == [1, 1]
    assert arguments.pop("padding", "symmetric") == "symmetric"
    assert arguments == {
        "filters": 4,
        "strides": 2,
        "activation": "gelu",
        "zero_init_last_scale": True,
        "norm": "batch",
    }
    assert type(branch).from_config(config).get_config() == config


def test_shape_is_known_before_building():
    assert BasicBranch(4, 2).compute_output_shape((None, 7, None, 3)) == (None, 4, None, 4)
    assert keras.ops.shape(BasicBranch(4, 2)(np.zeros((1, 7, 6, 3), "float32"))) == (1, 4, 3, 4)


def test_sublayers_have_stable_names():
    expected = ["conv1", "norm1", "activation1", "conv2", "norm2"]
    assert [layer.name for layer in BasicBranch(4).layers] == expected
    expected = [*expected, "activation2", "conv3", "norm3"]
    assert [layer.name for layer in BottleneckBranch(4).layers] == expected


def test_the_inner_convolution_of_a_bottleneck_can_be_another():
    x = np.ones((1, 8, 8, 8), "float32")
    branch = BottleneckBranch(4, strides=2, inner=Convolution(8, 3, groups=2, name="conv2"))
    assert [conv.strides for conv in branch.convolutions] == [2, 1, 1]
    assert [conv.filters for conv in branch.convolutions] == [8, 8, 16]
    branch = BottleneckBranch(4, strides=2, inner=Convolution(8, 3, strides=2))
    assert [conv.strides for conv in branch.convolutions] == [1, 2, 1]
    copy = BottleneckBranch.from_config(branch.get_config())
    assert copy(x).shape == branch(x).shape == (1, 4, 4, 16)
    assert copy.get_config() == branch.get_config()
    with pytest.raises(ValueError, match="strides=3, but strides must be a multiple"):
        BottleneckBranch(4, strides=2, inner=Convolution(4, 3, strides=3))


@pytest.mark.parametrize("rates", [2, (1,), (1, 1, 2)])
def test_other_than_two_dilation_rates_are_an_error(rates):
    with pytest.raises(ValueError, match="must be two, one for each convolution"):
        BasicBranch(4, dilation_rates=rates)
