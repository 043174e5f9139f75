"""Shortcuts forward and, against their derivative written out, backward."""

import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from reszoo import ProjectionShortcut, StopGradSkip, ZeroPadShortcut


def gradient(layer, x, upstream):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=False)
    return tape.gradient(y, x, upstream)


def test_projection_is_a_strided_matrix_product_and_its_transpose():
    x = tf.random.normal((2, 4, 4, 3))
    shortcut = ProjectionShortcut(5, strides=2)
    y = shortcut(x, training=False)
    matrix = shortcut.trainable_variables[0][0, 0] / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(y, x[:, ::2, ::2] @ matrix, rtol=1e-5, atol=1e-6)
    upstream = tf.random.normal(y.shape)
    expected = np.zeros(x.shape, "float32")
    expected[:, ::2, ::2] = upstream @ tf.transpose(matrix)
    np.testing.assert_allclose(gradient(shortcut, x, upstream), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [4, 5])
def test_zero_pad_subsamples_and_pads_and_backward_crops(size):
    x = tf.random.normal((2, size, size, 3))
    shortcut = ZeroPadShortcut(5, strides=2)
    y = shortcut(x)
    assert not shortcut.weights
    np.testing.assert_array_equal(y[..., :3], x[:, ::2, ::2])
    np.testing.assert_array_equal(y[..., 3:], 0.0)
    upstream = tf.random.normal(y.shape)
    expected = np.zeros(x.shape, "float32")
    expected[:, ::2, ::2] = upstream[..., :3]
    np.testing.assert_array_equal(gradient(shortcut, x, upstream), expected)


def test_zero_pad_cannot_remove_channels():
    with pytest.raises(ValueError, match=r"ProjectionShortcut\(2, strides=1\)"):
        ZeroPadShortcut(2).build((None, 4, 4, 3))


@pytest.mark.parametrize("shortcut", [None, ProjectionShortcut(5, strides=2), layers.Dense(5)])
def test_stop_grad_skip_is_its_shortcut_forward_and_nothing_backward(shortcut):
    x = tf.random.normal((2, 4, 4, 3))
    skip = StopGradSkip(shortcut)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = skip(x)
    np.testing.assert_array_equal(y, x if shortcut is None else shortcut(x))
    assert tape.gradient(y, [x, *skip.trainable_variables]) == [None] * (
        1 + len(skip.trainable_variables)
    )


def test_stop_grad_skip_of_no_layer_is_refused():
    with pytest.raises(ValueError, match="Keras layer or None"):
        StopGradSkip("projection")


@pytest.mark.parametrize("shortcut", [ProjectionShortcut, ZeroPadShortcut])
def test_arguments_out_of_range_are_refused(shortcut):
    with pytest.raises(ValueError, match="filters=0"):
        shortcut(0)
    with pytest.raises(ValueError, match="strides=-1"):
        shortcut(4, strides=-1)
