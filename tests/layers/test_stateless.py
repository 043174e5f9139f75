"""Calls without state, in training or not, beside calls that change the layer."""

import keras
import numpy as np
import pytest
from keras import ops

import reszoo
from reszoo import layers

X = np.random.default_rng(0).normal(size=(4, 6, 6, 4)).astype("float32")


def dropped():
    return layers.Chain([layers.BatchNormalization(), layers.DropPath(0.5, seed=1)])


def regularized():
    return layers.Chain([keras.layers.Dense(4, activity_regularizer="l2")])


def built(make):
    keras.utils.set_random_seed(0)
    layer = make()
    layer.build(X.shape)
    return layer


def values(variables):
    return [ops.convert_to_tensor(variable.value) for variable in variables]


def called_without_state(layer, **options):
    before = values(layer.trainable_variables), values(layer.non_trainable_variables)
    results = layer.stateless_call(*before, ops.convert_to_tensor(X), **options)
    for old, kept in zip(before[1], values(layer.non_trainable_variables), strict=True):
        np.testing.assert_array_equal(old, kept)
    return results


@pytest.mark.parametrize("training", [None, False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: reszoo.ResidualBlock(layers.BasicBranch(4), activation="relu"),
        lambda: reszoo.ResidualBlock(dropped(), remat=True),
        lambda: layers.StopGradSkip(dropped()),
        lambda: layers.Coupling(layers.BasicBranch(2), "first"),
        lambda: layers.ReversibleBlock(layers.BasicBranch(2), layers.BasicBranch(2)),
        lambda: layers.ExclusiveGatedBlock([reszoo.ResidualBlock(layers.BasicBranch(4))]),
        layers.GroupNorm,
        lambda: layers.GradientScale(0.5),
    ],
)
def test_outputs_and_averages_are_those_of_a_call(make, training):
    options = {} if training is None else {"training": training}
    y, averages = called_without_state(built(make), **options)
    layer = built(make)
    expected = [layer(X, **options), *values(layer.non_trainable_variables)]
    for found, true in zip([y, *averages], expected, strict=True):
        np.testing.assert_array_equal(found, true)


def test_a_call_without_state_within_another_layer_is_told_what_that_one_is():
    class Outer(keras.layers.Layer):
        def call(self, x, training=None):
            return called_without_state(chain, **options)[0]

    chain, options = built(dropped), {}
    assert not np.array_equal(Outer()(X, training=True), Outer()(X, training=False))
    options = {"training": False}
    np.testing.assert_array_equal(Outer()(X, training=True), Outer()(X, training=False))


def twice_regularized():
    return layers.Chain([keras.layers.Dense(4, activity_regularizer="l2") for _ in range(2)])


def shared_regularized():
    return layers.Chain([keras.layers.Dense(4, activity_regularizer="l2")] * 2)


@pytest.mark.parametrize("options", [{}, {"training": False}, {"training": True}])
@pytest.mark.parametrize(
    "make",
    [
        twice_regularized,
        shared_regularized,
        lambda: layers.ExclusiveGatedBlock([twice_regularized()]),
        lambda: reszoo.ResidualBlock(twice_regularized()),
    ],
)
def test_losses_are_those_of_this_call_alone(make, options):
    layer = built(make)
    layer(X)
    for _ in range(50 if "training" in options else 2):
        _, _, losses = called_without_state(layer, return_losses=True, **options)
        assert len(losses) == 2
    layer(X)
    assert len(layer.losses) == 2


def test_losses_are_returned():
    y, _, losses = called_without_state(built(regularized), training=True, return_losses=True)
    np.testing.assert_allclose(losses, [0.01 * np.sum(np.square(y)) / len(X)], rtol=1e-6)
