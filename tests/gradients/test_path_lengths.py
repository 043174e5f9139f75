"""The gradient by path length is that of products of matrices worked out by hand."""

import itertools
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo import BasicBranch, ResidualBlock
from reszoo.gradients import gradient_by_path_length, instrument
from reszoo.gradients.backend import path_gradients
from reszoo.gradients.blocks import find_blocks

SIZE = 5


def sum_of_products(y, prediction):
    return tf.reduce_sum(y * prediction)


def linear_model(blocks=3, before=True):
    """Blocks `x + x W`, after a layer that is in none."""
    layers = [keras.layers.Dense(SIZE, use_bias=False)] if before else []
    layers += [
        ResidualBlock([keras.layers.Dense(SIZE, use_bias=False)], name=f"block{i}")
        for i in range(blocks)
    ]
    return keras.Sequential([keras.Input((SIZE,)), *layers])


def functional_model(blocks=3):
    x = inputs = keras.Input((SIZE,))
    for i in range(blocks):
        branch = keras.layers.Dense(SIZE, use_bias=False)(x)
        x = keras.layers.Add(name=f"block{i}")([x, branch])
    return keras.Model(inputs, x)


@pytest.fixture
def batch():
    random = np.random.default_rng(0)
    return [tf.constant(random.normal(size=(4, SIZE)), tf.float32) for _ in range(2)]


def by_hand(model, y, taken):
    """Returns the gradient of sum(y * model(x)) at the first block by one path, in float64."""
    gradient = y.numpy().astype(float)
    kernels = [w.numpy().astype(float) for w in model.weights][-3:]
    for position in reversed(range(3)):
        if position in taken:
            gradient = gradient @ kernels[position].T
    return gradient


def all_sets(blocks):
    return [s for k in range(blocks + 1) for s in itertools.combinations(range(blocks), k)]


@pytest.mark.parametrize("build", [linear_model, functional_model])
def test_every_path_of_three_blocks_is_the_product_of_its_matrices(build, batch):
    model = build()
    blocks = find_blocks(model) if build is linear_model else instrument(model)
    gradients = list(path_gradients(model, *batch, sum_of_products, all_sets(3), blocks))
    for taken, gradient in zip(all_sets(3), gradients, strict=True):
        np.testing.assert_allclose(gradient, by_hand(model, batch[1], taken), rtol=1e-5, atol=1e-6)
    table = gradient_by_path_length(model, *batch, sum_of_products, samples=3, blocks=blocks)
    assert table.length.tolist() == [0, 1, 1, 1, 2, 2, 2, 3]
    assert table["sample"].tolist() == [0, 0, 1, 2, 0, 1, 2, 0]
    assert table.number_of_paths.tolist() == [1, 3, 3, 3, 3, 3, 3, 1]
    expected = [np.linalg.norm(by_hand(model, batch[1], taken)) for taken in all_sets(3)]
    assert table.gradient_norm.tolist() == pytest.approx(expected, rel=1e-5)


def test_the_paths_add_up_to_the_whole_gradient(batch):
    model = linear_model()
    gradients = path_gradients(model, *batch, sum_of_products, all_sets(3), find_blocks(model))
    x = model.layers[0](batch[0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = x
        for block in model.layers[1:]:
            y = block(y)
        total = sum_of_products(batch[1], y)
    np.testing.assert_allclose(sum(gradients), tape.gradient(total, x), rtol=1e-4, atol=1e-5)


def test_of_many_sets_some_are_drawn_without_repetition(batch):
    model = linear_model(blocks=6, before=False)
    table = gradient_by_path_length(model, *batch, sum_of_products, samples=4, seed=1)
    assert table.groupby("length").size().tolist() == [1, 4, 4, 4, 4, 4, 1]
    assert table.groupby("length").number_of_paths.first().tolist() == [
        math.comb(6, k) for k in range(7)
    ]
    # Different sets of matrices have different products.
    assert table.gradient_norm.nunique() == len(table)
    options = {"samples": 4, "seed": 1}
    again = gradient_by_path_length(model, *batch, sum_of_products, **options)
    assert again.equals(table)
    other = gradient_by_path_length(model, *batch, sum_of_products, samples=4, seed=2)
    assert not other.equals(table)


def test_the_model_comes_out_as_it_was():
    layers = [ResidualBlock(BasicBranch(2), name=f"block{i}") for i in range(2)]
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), *layers, keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    )
    x = tf.random.normal((4, 4, 4, 2))
    before = [variable.numpy() for variable in model.variables]
    attributes = [sorted(vars(block)) for block in layers]
    table = gradient_by_path_length(model, x, x, keras.losses.MeanSquaredError())
    assert (table.gradient_norm > 0).all()
    for variable, old in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), old)
    assert [sorted(vars(block)) for block in layers] == attributes


def test_a_loss_for_each_example_is_averaged(batch):
    model = linear_model()
    each = gradient_by_path_length(model, *batch, keras.losses.mean_squared_error)
    mean = gradient_by_path_length(model, *batch, keras.losses.MeanSquaredError())
    assert each.gradient_norm.tolist() == pytest.approx(mean.gradient_norm.tolist(), rel=1e-6)


def test_blocks_that_are_not_in_series_are_refused(batch):
    inner = ResidualBlock([keras.layers.Dense(SIZE)], name="inner")
    outer = ResidualBlock([inner], name="outer")
    model = keras.Sequential([keras.Input((SIZE,)), outer])
    with pytest.raises(ValueError, match="'inner' lies in 'outer'"):
        gradient_by_path_length(model, *batch, sum_of_products)
    shared = ResidualBlock([keras.layers.Dense(SIZE)], name="shared")
    model = keras.Sequential([keras.Input((SIZE,)), shared])
    inputs = keras.Input((SIZE,))
    twice = keras.Model(inputs, shared(shared(inputs)))
    with pytest.raises(ValueError, match="'shared' runs 2 times"):
        gradient_by_path_length(twice, *batch, sum_of_products)
    assert "fork" not in vars(shared)


def test_less_than_one_sample_is_refused(batch):
    with pytest.raises(ValueError, match="samples=0"):
        gradient_by_path_length(linear_model(), *batch, sum_of_products, samples=0)
