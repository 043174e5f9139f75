"""Blocks whose backward pass is in a graph of its own: conditions, loops and functions."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import reszoo
from reszoo.gradients import load
from tests.gradients.expected import expected_statistics
from tests.gradients.tiny import recorded

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
Y = np.ones((8, 1), "float32")


def in_condition(block, x):
    return tf.cond(tf.reduce_sum(x) < 1e9, lambda: block(x), lambda: x)


def in_loop(block, x):
    return ops.fori_loop(0, 3, lambda _, x: block(x), x)


def in_loops(block, x):
    return ops.fori_loop(0, 2, lambda _, x: in_loop(block, in_condition(block, x)), x)


def in_function(block, x):
    return tf.function(lambda x: block(x) - block(2 * x) + in_loop(block, x))(x)


def in_functions(block, x):
    inner = tf.function(block)
    return tf.function(lambda x: inner(inner(x)) + inner(x) + inner(2 * x))(x)


# What each does, as Python alone.
BY_HAND = {
    in_condition: lambda block, x: block(x),
    in_loop: lambda block, x: block(block(block(x))),
    in_loops: lambda block, x: BY_HAND[in_loop](block, block(BY_HAND[in_loop](block, block(x)))),
    in_function: lambda block, x: block(x) - block(2 * x) + BY_HAND[in_loop](block, x),
    in_functions: lambda block, x: block(block(x)) + block(x) + block(2 * x),
}


class Model(keras.Model):
    """Calls a block as it is told to."""

    def __init__(self, way):
        super().__init__(name="model")
        self.way = way
        self.block = reszoo.ResidualBlock([layers.Dense(4, "tanh")], name="b")
        self.head = layers.Dense(1)

    def build(self, shape):
        self.block.build(shape)
        self.head.build(shape)

    def call(self, x):
        return self.head(self.way(self.block, x))


def gradients_by_hand(model):
    """Returns `g_skip`, `g_branch` and `g_y` of all calls of the block."""
    tensors = ([], [], [])
    with tf.GradientTape(persistent=True) as tape:

        def block(x):
            tape.watch(ends := [tf.identity(x), tf.identity(x)])
            y = ends[0] + model.block.branch(ends[1])
            for kind, tensor in zip(tensors, (*ends, y), strict=True):
                kind.append(tensor)
            return y

        y = model.head(BY_HAND[model.way](block, tf.constant(X)))
        loss = tf.reduce_mean((y - Y) ** 2)
    return [np.concatenate(tape.gradient(loss, kind)) for kind in tensors]


@pytest.mark.parametrize("way", BY_HAND)
@pytest.mark.parametrize("eagerly", [False, True])
def test_each_is_recorded_as_a_tape_by_hand_finds(way, eagerly, tmp_path):
    keras.utils.set_random_seed(0)
    model = Model(way)
    model.build(X.shape)
    model.compile("sgd", "mse", jit_compile=False, run_eagerly=eagerly)
    by_hand = expected_statistics(*gradients_by_hand(model))
    recorder = reszoo.GradientRecorder(tmp_path, 1, ("paths", "weights"))
    model.fit(X, Y, verbose=0, callbacks=[recorder])
    for statistic, expected in by_hand.items():
        assert recorded(tmp_path, statistic)[0] == pytest.approx(expected, rel=1e-5), statistic


def kept_function():
    """Returns a way to call a block in one function, which TensorFlow traces once."""
    kept = {}
    return lambda block, x: kept.setdefault("function", tf.function(block))(x)


@pytest.mark.parametrize("eagerly", [False, True])
def test_a_function_traced_in_a_recorded_step_adds_nothing_in_other_steps(eagerly, tmp_path):
    logs = []
    for every in (1, 2):
        keras.utils.set_random_seed(0)
        model = Model(kept_function())
        model.build(X.shape)
        model.compile("sgd", "mse", jit_compile=False, run_eagerly=eagerly)
        recorder = reszoo.GradientRecorder(tmp_path / str(every), every, ("paths", "forward"))
        model.fit(X, Y, epochs=3, validation_data=(X, Y), verbose=0, callbacks=[recorder])
        logs.append(load(recorder.log_dir))
    third = [table[table.step == 2].value for table in logs]
    np.testing.assert_allclose(*third, rtol=1e-5)


def only(block, x):
    return block(x)


@pytest.mark.parametrize("eagerly", [False, True])
@pytest.mark.parametrize("way", [only, in_condition, lambda block, x: tf.function(block)(x)])
def test_a_block_in_a_vectorized_map_is_an_error(way, eagerly, tmp_path):
    model = Model(lambda block, x: tf.vectorized_map(lambda row: way(block, row[None])[0], x))
    model.build(X.shape)
    model.compile("sgd", "mse", jit_compile=False, run_eagerly=eagerly)
    with pytest.raises(ValueError, match=r"that tf\.vectorized_map runs cannot be recorded"):
        model.fit(X, Y, verbose=0, callbacks=[reszoo.GradientRecorder(tmp_path, 1)])
