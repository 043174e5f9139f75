"""Layers on PyTorch: convolutions against sums in NumPy, recomputed activations beside stored."""

import keras
import numpy as np
import pytest
from keras import ops

from reszoo import ResidualBlock
from reszoo.layers import BasicBranch, Convolution, DropPath, ProjectionShortcut
from reszoo.layers.shapes import per_axis
from reszoo.models import fold_normalization
from tests.gradients.described import assert_layers_are_described
from tests.layers.windows import padded, taps


@pytest.mark.parametrize("padding", ["symmetric", "same", "valid"])
@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "strides": 2},
        {"kernel_size": (3, 5), "strides": (2, 1), "groups": 2},
        {"kernel_size": (3, 3), "dilation_rate": (1, 2), "groups": 4},
    ],
    ids=str,
)
def test_a_convolution_is_the_sum_over_its_taps(options, padding):
    layer = Convolution(8, padding=padding, **options)
    sizes = [per_axis("", "", getattr(layer, name), 2) for name in layer.sizes]
    x = np.random.default_rng(0).normal(size=(2, 8, 9, 4)).astype("float32")
    y = ops.convert_to_numpy(layer(x))
    kernel = ops.convert_to_numpy(layer.kernel)
    groups = zip(*(np.split(a, layer.groups, -1) for a in (x, kernel)), strict=True)
    expected = [
        sum(seen @ part[tap] for tap, seen in taps(padded(group, *sizes, padding), *sizes))
        for group, part in groups
    ]
    np.testing.assert_allclose(y, np.concatenate(expected, -1), rtol=1e-4, atol=1e-5)


def two_steps(remat):
    """Returns outputs, gradients and variables of two steps of nested blocks."""
    keras.utils.set_random_seed(0)
    branch = [ResidualBlock(BasicBranch(4)), BasicBranch(6, 2), DropPath(0.3, seed=1)]
    block, found = ResidualBlock(branch, ProjectionShortcut(6, 2), "relu", remat=remat), []
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 4)).astype("float32")
    x = ops.convert_to_tensor(x).requires_grad_()
    for _ in range(2):
        y = block(x, training=True)
        ops.sum(ops.sin(y) * y).backward()
        found += [y, x.grad, *(variable.value.grad for variable in block.trainable_variables)]
        found += [variable.value for variable in block.non_trainable_variables]
    return list(map(ops.convert_to_numpy, found))


def test_recomputed_activations_give_the_numbers_of_stored_ones():
    for ours, stored in zip(two_steps(True), two_steps(False), strict=True):
        np.testing.assert_array_equal(ours, stored)


def test_folded_normalizations_give_the_outputs_of_the_network():
    inputs = keras.Input((3, 8, 8))
    first = {"data_format": "channels_first", "use_bias": False}
    x = keras.layers.BatchNormalization(axis=1)(keras.layers.Conv2D(4, 3, **first)(inputs))
    block = ResidualBlock(BasicBranch(6, 2), ProjectionShortcut(6, 2), "relu")
    model = keras.Model(inputs, block(keras.layers.Permute((2, 3, 1))(x)))
    generator = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(generator.uniform(0.2, 3.0, weight.shape))
    folded = fold_normalization(model)
    assert not [w.path for w in folded.weights if w.name == "moving_mean"]
    x = generator.normal(size=(2, 3, 8, 8)).astype("float32")
    y, expected = (ops.convert_to_numpy(m(x)) for m in (folded, model))
    np.testing.assert_allclose(y, expected, rtol=0, atol=1e-5 * np.max(expected))


def test_the_layers_of_blocks_and_of_graphs_are_described():
    assert_layers_are_described()


def two_steps_of_an_rnn(remat):
    """Returns outputs and seeds of two steps of a layer that keeps its mask during a call."""
    keras.utils.set_random_seed(0)
    lstm = keras.layers.LSTM(3, return_sequences=True, dropout=0.3, recurrent_dropout=0.3, seed=1)
    block = ResidualBlock([lstm], remat=remat)
    x, found = np.random.default_rng(0).normal(size=(2, 4, 3)).astype("float32"), []
    for _ in range(2):
        y = block(x, training=True)
        ops.sum(ops.sin(y) * y).backward()
        found += [y, *(variable.value for variable in block.non_trainable_variables)]
    return list(map(ops.convert_to_numpy, found))


def test_a_layer_is_run_again_to_its_end():
    for ours, stored in zip(two_steps_of_an_rnn(True), two_steps_of_an_rnn(False), strict=True):
        np.testing.assert_array_equal(ours, stored)
