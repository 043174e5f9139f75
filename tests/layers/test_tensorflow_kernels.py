"""The convolution for TensorFlow on CPU against its own: value, gradients, their gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo.layers import tensorflow_kernels
from reszoo.layers.tensorflow_kernels import convolve_on_cpu, serves_images_on_cpu


def plain(x, kernel):
    return tf.nn.conv2d(x, kernel, 1, "SAME")


def derivatives(convolve, x, kernel):
    """Returns the value, its gradients, and the gradients of the norm of those."""
    with tf.GradientTape() as outer:
        outer.watch([x, kernel])
        with tf.GradientTape() as inner:
            inner.watch([x, kernel])
            y = convolve(x, kernel)
            loss = tf.reduce_sum(tf.sin(y))
        first = inner.gradient(loss, [x, kernel])
        penalty = tf.reduce_sum(first[0] ** 2) + tf.reduce_sum(tf.sin(first[1]))
    return [y, *first, *outer.gradient(penalty, [x, kernel])]


@pytest.mark.parametrize("size", [1, 3, 7])
@pytest.mark.parametrize("shape", [(5, 4), (1, 1), (2, 6)])
@pytest.mark.parametrize("jit_compile", [None, False, True])
def test_value_and_derivatives_are_tensorflows(size, shape, jit_compile):
    x = tf.random.normal((3, *shape, 4), dtype="float64", seed=1)
    kernel = tf.random.normal((size, size, 4, 6), dtype="float64", seed=2)
    run = derivatives
    if jit_compile is not None:
        run = tf.function(derivatives, jit_compile=jit_compile)
    expected = derivatives(plain, x, kernel)
    for ours, theirs in zip(run(convolve_on_cpu, x, kernel), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


@pytest.fixture
def no_onednn(monkeypatch):
    monkeypatch.setattr(tensorflow_kernels, "has_onednn", lambda: False)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind=None: [])


@pytest.mark.usefixtures("no_onednn")
def test_serves_images_without_stride_or_dilation():
    images = tf.ones((1, 4, 4, 2))
    assert serves_images_on_cpu(images, 1, 1)
    assert not serves_images_on_cpu(images, 2, 1)
    assert not serves_images_on_cpu(images, 1, 2)
    assert not serves_images_on_cpu(images[0], 1, 1)


@pytest.mark.usefixtures("no_onednn")
def test_leaves_them_to_onednn_xla_and_gpus(monkeypatch):
    images, served = tf.ones((1, 4, 4, 2)), []
    compiled = tf.function(lambda x: served.append(serves_images_on_cpu(x, 1, 1)), jit_compile=True)
    compiled(images)
    assert served[-1] is False
    monkeypatch.setattr(keras.distribution, "list_devices", lambda kind: [kind])
    assert not serves_images_on_cpu(images, 1, 1)
    monkeypatch.undo()
    monkeypatch.setattr(tensorflow_kernels, "has_onednn", lambda: True)
    assert not serves_images_on_cpu(images, 1, 1)
