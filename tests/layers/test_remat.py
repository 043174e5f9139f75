"""Blocks whose paths are run again in the backward pass: the numbers are those of stored ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import reszoo
from reszoo import BasicBranch, DropPath, ExclusiveGatedBlock, ProjectionShortcut, ResidualBlock
from reszoo.models.gates import GATES

SMALL = {"num_classes": 5, "input_shape": (8, 8, 3), "stem": "cifar", "width": 4, "blocks": (1, 1)}


def images(size=6, channels=4):
    return np.random.default_rng(0).normal(size=(4, size, size, channels)).astype("float32")


def random(remat):
    """A block with averages that training moves and masks that it draws."""
    branch = [BasicBranch(6, 2), DropPath(0.3, seed=1), layers.Dropout(0.3, seed=2)]
    return ResidualBlock(branch, ProjectionShortcut(6, 2), "gelu", remat=remat)


def gated(remat):
    shortcut = ProjectionShortcut(6, 2)
    return ExclusiveGatedBlock(BasicBranch(6, 2), shortcut=shortcut, activation="relu", remat=remat)


def nested(remat):
    inside = [ResidualBlock(BasicBranch(4), remat=remat), ResidualBlock(BasicBranch(4))]
    return ResidualBlock(inside, activation="relu", remat=remat)


def around_reversible(remat):
    block = reszoo.ReversibleBlock(BasicBranch(2), BasicBranch(2))
    return ResidualBlock(reszoo.ReversibleChain([block]), remat=remat)


class OfOnesOwn(ResidualBlock):
    """A block that does not hand on `training`."""

    def call(self, x):
        return super().call(x) * 2


def in_bfloat16(remat):
    dtype = "mixed_bfloat16"
    return OfOnesOwn(BasicBranch(4, dtype=dtype), dtype=dtype, remat=remat)


def numbers(make, remat, wrap, training):
    """Returns outputs, gradients and variables of two steps."""
    keras.utils.set_random_seed(0)
    block, x = make(remat), tf.constant(images())
    block.build(x.shape)

    @wrap
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = tf.cast(block(x, training=training), "float32")
            loss = tf.reduce_sum(tf.sin(y) * y)
        return y, *tape.gradient(loss, [x, *(v.value for v in block.trainable_variables)])

    found = [*step(x), *step(x)]
    return [ops.convert_to_numpy(ops.cast(z, "float32")) for z in (*found, *block.variables)]


def jitted(function):
    return tf.function(function, jit_compile=True)


@pytest.mark.parametrize(
    ("make", "wrap"),
    [
        *((make, tf.function) for make in (random, gated, nested, around_reversible, in_bfloat16)),
        # Not `random`: XLA draws other masks in another function.
        *((make, jitted) for make in (gated, nested)),
    ],
)
def test_two_steps_give_the_numbers_of_stored_activations(make, wrap):
    got, expected = (numbers(make, remat, wrap, training=True) for remat in (True, False))
    for ours, stored in zip(got, expected, strict=True):
        np.testing.assert_allclose(ours, stored, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("training", [True, False])
def test_step_by_step_the_numbers_are_the_same_to_the_bit(training):
    got, expected = (numbers(random, remat, lambda run: run, training) for remat in (True, False))
    for ours, stored in zip(got, expected, strict=True):
        np.testing.assert_array_equal(ours, stored)


class Counted(layers.Layer):
    runs = 0

    def call(self, x):
        Counted.runs += 1
        return ops.tanh(x)


@pytest.mark.parametrize(("remat", "runs"), [(True, 4), (False, 2)])
def test_paths_are_run_again_for_the_gradient_alone(remat, runs):
    block, x = ResidualBlock([Counted(), Counted()], remat=remat), tf.ones((2, 4))
    block.build(x.shape)
    Counted.runs = 0
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = block(x)
    assert Counted.runs == 2
    assert tape.gradient(y, x) is not None
    assert Counted.runs == runs


def derivatives(remat):
    """Returns the gradients of a gradient's square, and a derivative in forward mode."""
    keras.utils.set_random_seed(0)
    block, x = ResidualBlock([layers.Dense(4, "tanh")], remat=remat), tf.constant(images()[0, 0])
    block.build(x.shape)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = tf.reduce_sum(tf.sin(block(x)))
        penalty = tf.reduce_sum(inner.gradient(y, x) ** 2)
    second = outer.gradient(penalty, [v.value for v in block.trainable_variables])
    with tf.autodiff.ForwardAccumulator(x, tf.ones_like(x)) as forward:
        y = block(x)
    return [*second, forward.jvp(y)]


def test_second_derivatives_and_those_in_forward_mode_are_the_same():
    for ours, stored in zip(derivatives(True), derivatives(False), strict=True):
        np.testing.assert_allclose(ours, stored, rtol=1e-5, atol=1e-6)


class Masked(layers.Layer):
    supports_masking = True

    def call(self, x, mask=None):
        return x if mask is None else x * ops.cast(mask, x.dtype)[..., None]


def test_a_mask_reaches_the_layers():
    x = layers.Embedding(5, 4, mask_zero=True)(np.array([[1, 0, 2]]))
    block = ResidualBlock([Masked(), layers.Dense(4)])
    expected = block(x)
    block.remat = True
    np.testing.assert_array_equal(block(x), expected)


class Noisy(layers.Layer):
    def call(self, x):
        return x + keras.random.normal(ops.shape(x))


class Renewed(layers.Dense):
    def call(self, x):
        self.kernel.assign(self.kernel / ops.norm(self.kernel))
        return super().call(x)


class Foreign(layers.Layer):
    def build(self, input_shape):
        self.scale = tf.Variable(2.0)

    def call(self, x):
        return x * self.scale


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (lambda: layers.Dense(4, activity_regularizer="l2"), "adds a loss of its activations"),
        (Noisy, "changes a variable that belongs to no layer in it"),
        (Foreign, "must be variables of Keras"),
        (lambda: Renewed(4), "changes the weight '.*kernel' in its call"),
    ],
)
def test_what_would_be_lost_is_refused(layer, text):
    block, x = ResidualBlock([layer()], remat=True), tf.ones((1, 4))

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = block(x)
        return tape.gradient(y, x)

    with pytest.raises(ValueError, match=text):
        gradient(x)


@pytest.mark.parametrize("gate", [None, *GATES])
def test_every_block_of_a_network_has_the_option(gate):
    model = reszoo.ResNet18V2(**SMALL, gate=gate, remat=True)
    assert {layer.remat for layer in model.layers if isinstance(layer, ResidualBlock)} == {True}


def test_a_gate_that_makes_no_residual_block_is_refused():
    with pytest.raises(ValueError, match="needs a gate that returns a ResidualBlock, but got Den"):
        reszoo.ResNet18(**SMALL, gate=lambda *paths, **block: layers.Dense(4), remat=True)


def test_networks_that_recompute_by_themselves_are_refused():
    with pytest.raises(ValueError, match="so remat must be False"):
        reszoo.RevNet38(remat=True)
    coupled = ResidualBlock(reszoo.Coupling(None, "first"), remat=True)
    with pytest.raises(ValueError, match="neither activation nor remat"):
        reszoo.ReversibleChain([coupled])


def test_it_is_saved_and_weights_fit_a_network_without_it(tmp_path):
    model, plain = reszoo.ResNet18(**SMALL, remat=True), reszoo.ResNet18(**SMALL)
    model.save(tmp_path / "model.keras")
    model.save_weights(tmp_path / "model.weights.h5")
    plain.load_weights(tmp_path / "model.weights.h5")
    again, x = keras.models.load_model(tmp_path / "model.keras"), images(8, 3)
    assert again.get_layer("stage1_block1").remat
    assert not plain.get_layer("stage1_block1").remat
    np.testing.assert_array_equal(again(x), model(x))
    np.testing.assert_array_equal(plain(x), model(x))
    assert list(reszoo.models.named_weights(plain)) == list(reszoo.models.named_weights(model))


@pytest.mark.parametrize("remat", [True, False])
def test_a_weight_that_its_layer_changes_is_refused_where_it_is_run_again(remat):
    conv = layers.SpectralNormalization(layers.Conv2D(2, 3, padding="same"))
    whole = layers.SpectralNormalization(layers.Conv2D(4, 3, padding="same"))
    for block in (reszoo.ReversibleBlock([conv], None), ResidualBlock([whole], remat=remat)):
        block(images(), training=False)
        if remat or isinstance(block, reszoo.ReversibleBlock):
            with pytest.raises(ValueError, match="in its call, as keras"):
                block(images(), training=True)
        else:
            block(images(), training=True)
        block.trainable = False
        block(images(), training=True)
