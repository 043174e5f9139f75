"""`StopGradient` and `GradientScale`: identities forward, and their gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from reszoo.layers import GradientScale, ResidualBlock, StopGradient


def gradients(block, x):
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = block(x)
    return y, tape.gradient(y, [x, *block.trainable_variables], 2 * tf.ones_like(y))


def test_stop_on_the_branchs_output_leaves_only_the_skip():
    x, dense = tf.random.normal((3, 4)), layers.Dense(4)
    y, (to_x, *to_weights) = gradients(ResidualBlock([dense, StopGradient()]), x)
    np.testing.assert_allclose(y, x + dense(x), rtol=1e-6)
    np.testing.assert_array_equal(to_x, 2 * tf.ones_like(x))
    assert to_weights == [None, None]


def test_stop_on_the_branchs_input_still_teaches_the_branch():
    x, dense = tf.random.normal((3, 4)), layers.Dense(4)
    y, (to_x, to_kernel, _) = gradients(ResidualBlock([StopGradient(), dense]), x)
    np.testing.assert_allclose(y, x + dense(x), rtol=1e-6)
    np.testing.assert_array_equal(to_x, 2 * tf.ones_like(x))
    np.testing.assert_allclose(
        to_kernel, tf.transpose(x) @ (2 * tf.ones((3, 4))), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("scale", [0.0, 0.25, 1.0])
def test_gradient_is_scaled_and_the_value_is_not(scale):
    x = tf.random.normal((3, 4))
    y, (to_x,) = gradients(GradientScale(scale), x)
    np.testing.assert_array_equal(y, x)
    np.testing.assert_array_equal(to_x, 2 * scale * tf.ones_like(x))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_scale_set_later_counts_without_retracing(jit_compile):
    gate = GradientScale()
    step = tf.function(lambda x: gradients(gate, x)[1][0], jit_compile=jit_compile)
    x = tf.ones((2, 3))
    assert float(step(x)[0, 0]) == 2.0
    gate.set_scale(0.5)
    assert float(step(x)[0, 0]) == 1.0
    assert step.experimental_get_tracing_count() == 1


def test_scale_is_no_trainable_weight_and_is_saved(tmp_path):
    inputs = keras.Input((3,))
    gate = GradientScale(name="gate")
    model = keras.Model(inputs, gate(inputs))
    gate.set_scale(0.25)
    assert not model.trainable_weights
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.get_layer("gate").scale) == 0.25


@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_any_dtype(dtype):
    x = tf.ones((2, 3), dtype.removeprefix("mixed_"))
    y, (to_x,) = gradients(GradientScale(0.5, dtype=dtype), x)
    assert y.dtype == to_x.dtype == x.dtype


@pytest.mark.parametrize("scale", [-0.1, 1.5, float("nan")])
def test_scale_outside_zero_and_one_is_refused(scale):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        GradientScale(scale)
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        GradientScale().set_scale(scale)
