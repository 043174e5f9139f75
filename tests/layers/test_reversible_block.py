"""Reversible blocks: what they compute, and gradients equal to those of stored activations."""

import contextlib
import gc
import importlib.util
import os
import subprocess
import sys
import weakref
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import reszoo
from reszoo import BasicBranch, Chain, Coupling, ResidualBlock, ReversibleBlock, ReversibleChain
from reszoo.layers import stored_activations

TOLERANCE = {"float32": 1e-4, "float64": 1e-9, "mixed_float16": 5e-2}


def dense_branch(seed, dtype=None, units=4, norm=True):
    """Returns layers with averages that training moves and a mask that it draws."""
    return [
        *([keras.layers.BatchNormalization(dtype=dtype)] if norm else []),
        keras.layers.Dense(units, "tanh", dtype=dtype),
        keras.layers.Dropout(0.3, seed=seed, dtype=dtype),
        keras.layers.Dense(units, dtype=dtype),
    ]


def dense_chain(blocks=3, dtype=None, **options):
    return ReversibleChain(
        [
            ReversibleBlock(
                dense_branch(2 * i, dtype, **options),
                dense_branch(2 * i + 1, dtype, **options),
                name=f"block{i}",
                dtype=dtype,
            )
            for i in range(blocks)
        ],
        dtype=dtype,
    )


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def differentiated(layer, x, training=True, wrap=lambda run: run, stored=False):
    """Returns output, gradients of input and weights, and variables after one training pass."""
    before = [variable.numpy() for variable in layer.variables]

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tf.reduce_sum(tf.cast(tf.sin(y) * y, x.dtype))
        return y, tape.gradient(loss, [x, *[v.value for v in layer.trainable_variables]])

    with stored_activations() if stored else contextlib.nullcontext():
        y, gradients = wrap(run)(tf.convert_to_tensor(x))
    after = [variable.numpy() for variable in layer.variables]
    for variable, value in zip(layer.variables, before, strict=True):
        variable.assign(value)
    return y.numpy(), [gradient.numpy() for gradient in gradients], after


def assert_same(got, expected, tolerance):
    y, gradients, variables = got
    np.testing.assert_allclose(y, expected[0], rtol=tolerance, atol=tolerance)
    assert len(gradients) == len(expected[1])
    for gradient, other in zip(gradients, expected[1], strict=True):
        assert np.linalg.norm(gradient - other) <= tolerance * np.linalg.norm(other)
    for variable, other in zip(variables, expected[2], strict=True):
        np.testing.assert_allclose(variable, other, rtol=tolerance, atol=1e-6)


def test_the_output_is_that_of_the_equations():
    block = ReversibleBlock([keras.layers.Dense(2, "tanh")], [keras.layers.Dense(2, "tanh")])
    x = normal(3, 4).astype("float32")
    y = block(x).numpy()
    of_f, of_g = (
        [w.numpy() for w in branch.weights] for branch in (block.branch_f, block.branch_g)
    )
    first = x[:, :2] + np.tanh(x[:, 2:] @ of_f[0] + of_f[1])
    second = x[:, 2:] + np.tanh(first @ of_g[0] + of_g[1])
    np.testing.assert_allclose(y, np.concatenate([first, second], axis=1), rtol=1e-5)


def jitted(run):
    return tf.function(run, jit_compile=True)


@pytest.mark.parametrize(
    ("wrap", "dtype"),
    [
        pytest.param(lambda run: run, "float32", id="eager, float32"),
        pytest.param(lambda run: run, "float64", id="eager, float64"),
        pytest.param(tf.function, "float32", id="graph, float32"),
        pytest.param(jitted, "float64", id="XLA, float64"),
    ],
)
def test_gradients_averages_and_masks_are_those_of_stored_activations(wrap, dtype):
    keras.utils.set_random_seed(0)
    layer, x = dense_chain(2, dtype), normal(16, 8).astype(dtype)
    layer.build(x.shape)
    # XLA draws other numbers for dropout, so that both are compiled.
    expected = differentiated(layer, x, wrap=wrap, stored=True)
    assert_same(differentiated(layer, x, wrap=wrap), expected, TOLERANCE[dtype])


def test_gradients_of_convolutions_are_those_of_stored_activations():
    keras.utils.set_random_seed(0)
    blocks = [ReversibleBlock(BasicBranch(4), BasicBranch(4)) for _ in range(2)]
    layer, x = ReversibleChain(blocks), normal(4, 6, 6, 8).astype("float32")
    layer.build(x.shape)
    for training in (True, False):
        expected = differentiated(layer, x, training, stored=True)
        assert_same(differentiated(layer, x, training), expected, 1e-4)


class Watched(keras.layers.Layer):
    """Keeps weak references to its outputs."""

    outputs = ()

    def call(self, x):
        y = ops.tanh(x)
        Watched.outputs = (*Watched.outputs, weakref.ref(y))
        return y


@pytest.mark.parametrize("stored", [True, False])
def test_no_activation_is_kept_for_the_backward_pass(stored):
    layers = [ReversibleBlock(Watched(), Watched()) for _ in range(4)]
    layer, x = ReversibleChain(layers), tf.constant(normal(2, 4), "float32")
    layer.build(x.shape)
    Watched.outputs = ()
    with stored_activations() if stored else contextlib.nullcontext(), tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
    gc.collect()
    in_memory = [output for output in Watched.outputs if output() is not None]
    assert len(Watched.outputs) == 8
    assert len(in_memory) == (8 if stored else 0)
    assert tape.gradient(y, x) is not None


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_gradients_and_averages_are_those_of_stored_activations_on_other_backends(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    program = Path(__file__).with_name("reversible_on_backend.py")
    environment = {**os.environ, "KERAS_BACKEND": backend}
    finished = subprocess.run(
        [sys.executable, program], env=environment, capture_output=True, text=True, check=True
    )
    of_gradients, of_state = (line.split() for line in finished.stdout.splitlines())
    assert (of_gradients[0], of_state[0]) == ("25", "12")
    assert float(of_gradients[1]) < 1e-4
    assert float(of_state[1]) < 1e-5


def test_mixed_precision_keeps_weights_and_their_gradients_in_float32():
    keras.utils.set_random_seed(0)
    layer, x = dense_chain(dtype="mixed_float16"), normal(16, 8).astype("float16")
    layer.build(x.shape)
    got = differentiated(layer, x)
    assert {str(gradient.dtype) for gradient in got[1][1:]} == {"float32"}
    assert_same(got, differentiated(layer, x, stored=True), TOLERANCE["mixed_float16"])


def test_frozen_layers_and_a_shared_one_are_differentiated_as_with_stored_activations():
    keras.utils.set_random_seed(0)
    shared = keras.layers.Dense(4, "tanh")
    layers = [ReversibleBlock(shared, shared), ReversibleBlock(dense_branch(0), shared)]
    layer, x = ReversibleChain(layers), normal(16, 8).astype("float32")
    layer.build(x.shape)
    assert_same(differentiated(layer, x), differentiated(layer, x, stored=True), 1e-4)
    layers[1].branch_f.trainable = False
    assert_same(differentiated(layer, x), differentiated(layer, x, stored=True), 1e-4)
    layer.trainable = False
    got = differentiated(layer, x)
    assert len(got[1]) == 1
    assert_same(got, differentiated(layer, x, stored=True), 1e-4)


def test_a_block_is_saved_with_its_branches(tmp_path):
    inputs = keras.Input((8,))
    model = keras.Model(inputs, dense_chain()(inputs))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    x = normal(4, 8).astype("float32")
    np.testing.assert_array_equal(again(x), model(x))
    assert [step.name for step in again.layers[1].steps] == [
        f"block{i}_{letter}" for i in range(3) for letter in "fg"
    ]
    config = model.layers[1].layers[0].get_config()
    assert ReversibleBlock.from_config(config).get_config() == config


def test_fit_learns_as_with_stored_activations():
    def trained(stored):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((8,))
        model = keras.Model(inputs, keras.layers.Dense(1)(dense_chain(2)(inputs)))
        model.compile(keras.optimizers.SGD(0.01), "mse", jit_compile=False, steps_per_execution=2)
        with stored_activations() if stored else contextlib.nullcontext():
            model.fit(normal(32, 8), normal(32, 1), batch_size=8, shuffle=False, verbose=0)
        return model.get_weights()

    for got, expected in zip(trained(False), trained(True), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_odd_channels_are_refused():
    with pytest.raises(ValueError, match="must be even and known, but the input has shape"):
        ReversibleBlock(BasicBranch(2), BasicBranch(2))(np.ones((1, 4, 4, 5)))


def test_a_branch_that_changes_the_shape_is_refused():
    with pytest.raises(ValueError, match="cannot be added"):
        ReversibleBlock(BasicBranch(3), BasicBranch(2))(np.ones((1, 4, 4, 4)))


def test_a_mask_is_refused():
    embedded = keras.layers.Embedding(5, 4, mask_zero=True)(np.array([[1, 0]]))
    block = ReversibleBlock([keras.layers.Dense(2)], [keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="input with a mask"):
        block(embedded)


def test_a_loss_of_activations_is_refused():
    penalized = keras.layers.Dense(2, activity_regularizer="l2")
    block = ReversibleBlock(penalized, [keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="adds a loss of its activations"):
        block(np.ones((1, 4)))


def test_layers_that_change_in_two_blocks_are_refused():
    norm = keras.layers.BatchNormalization()
    block = ReversibleBlock(norm, norm)
    with pytest.raises(ValueError, match="changes in several reversible blocks"):
        block(np.ones((2, 4)), training=True)
    block(np.ones((2, 4)), training=False)


@pytest.mark.parametrize(
    "layer",
    [
        keras.layers.Dense(4),
        ResidualBlock([keras.layers.Dense(4)]),
        ResidualBlock(Coupling(None, "first"), activation="relu"),
        ResidualBlock(Coupling(None, "first"), reszoo.StopGradSkip()),
    ],
)
def test_a_layer_whose_input_does_not_follow_from_its_output_is_refused(layer):
    with pytest.raises(ValueError, match="takes ReversibleBlocks, or ResidualBlocks of a Coupling"):
        ReversibleChain([layer])


def test_half_is_first_or_second():
    with pytest.raises(ValueError, match='must be "first" or "second", but is \'third\''):
        Coupling(None, "third")


@pytest.mark.parametrize("wrap", [lambda run: run, tf.function], ids=["eager", "graph"])
def test_a_second_derivative_is_refused_unless_activations_are_stored(wrap):
    layer, x = dense_chain(1), tf.constant(normal(4, 8), "float32")
    layer.build(x.shape)

    def second(x):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = tf.reduce_sum(layer(x) ** 2)
            penalty = tf.reduce_sum(inner.gradient(y, x) ** 2)
        return outer.gradient(penalty, x)

    with pytest.raises(ValueError, match="cannot be differentiated again"):
        wrap(second)(x)
    with stored_activations():
        assert np.abs(wrap(second)(x)).max() > 0


def test_a_chain_of_couplings_computes_the_same():
    keras.utils.set_random_seed(0)
    chain = dense_chain(2)
    x = normal(4, 8).astype("float32")
    y = chain(x)
    np.testing.assert_allclose(Chain(chain.steps)(x), y, rtol=1e-6)
