"""Layers on JAX: convolutions against sums in NumPy, recomputed activations beside stored ones."""

import functools

import jax
import keras
import numpy as np
import pytest
from keras import ops

from reszoo import GradientRecorder, ResidualBlock
from reszoo.gradients import records
from reszoo.layers import BasicBranch, Convolution, DropPath, ProjectionShortcut, standardized
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
@pytest.mark.parametrize("pixels", [(8, 9), (2, 2), (1, 3)])
def test_a_convolution_is_the_sum_over_its_taps(options, padding, pixels):
    if padding == "valid" and pixels != (8, 9):
        pytest.skip("no kernel fits")
    layer = Convolution(8, padding=padding, **options)
    sizes = [per_axis("", "", getattr(layer, name), 2) for name in layer.sizes]
    x = np.random.default_rng(0).normal(size=(2, *pixels, 4)).astype("float32")
    y = ops.convert_to_numpy(layer(x))
    kernel = ops.convert_to_numpy(layer.kernel)
    groups = zip(*(np.split(a, layer.groups, -1) for a in (x, kernel)), strict=True)
    expected = [
        sum(seen @ part[tap] for tap, seen in taps(padded(group, *sizes, padding), *sizes))
        for group, part in groups
    ]
    np.testing.assert_allclose(y, np.concatenate(expected, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strides", [1, 2])
def test_gradients_on_images_smaller_than_the_kernel_are_those_of_jax(strides):
    layer = Convolution(6, 3, strides)
    x = np.random.default_rng(0).normal(size=(3, 2, 2, 4)).astype("float32")
    layer.build(x.shape)

    def ours(x, kernel):
        return jax.numpy.sum(jax.numpy.sin(layer.stateless_call([kernel], [], x)[0]))

    def theirs(x, kernel):
        options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
        y = jax.lax.conv_general_dilated(x, kernel, (strides, strides), [(1, 1), (1, 1)], **options)
        return jax.numpy.sum(jax.numpy.sin(y))

    kernel = layer.kernel.value
    expected = jax.grad(theirs, (0, 1))(x, kernel)
    for value, true in zip(jax.jit(jax.grad(ours, (0, 1)))(x, kernel), expected, strict=True):
        np.testing.assert_allclose(value, true, rtol=1e-4, atol=1e-5)


def test_standardized_filters_are_differentiated():
    layer, x = standardized(Convolution(8, 3)), ops.ones((1, 4, 4, 4))
    layer.build(x.shape)

    def loss(kernel):
        y, _ = layer.stateless_call([kernel], [], x)
        return ops.sum(y * y)

    assert float(ops.max(ops.abs(jax.grad(loss)(layer.kernel.value)))) > 0


def two_steps(remat):
    """Returns outputs, gradients and variables of two steps of nested blocks."""
    keras.utils.set_random_seed(0)
    branch = [ResidualBlock(BasicBranch(4)), BasicBranch(6, 2), DropPath(0.3, seed=1)]
    inputs = keras.Input((6, 6, 4))
    block = ResidualBlock(branch, ProjectionShortcut(6, 2), "relu", remat=remat)
    model, found = keras.Model(inputs, block(inputs)), []
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 4)).astype("float32")

    def loss(trainable, x):
        others = [variable.value for variable in model.non_trainable_variables]
        y, others = model.stateless_call(trainable, others, x, training=True)
        return ops.sum(ops.sin(y) * y), (y, others)

    for _ in range(2):
        trainable = [variable.value for variable in model.trainable_variables]
        gradients, (y, others) = jax.grad(loss, (0, 1), has_aux=True)(trainable, x)
        for variable, value in zip(model.non_trainable_variables, others, strict=True):
            variable.assign(value)
        found += [y, *jax.tree.leaves(gradients), *others]
    return list(map(np.asarray, found))


def test_recomputed_activations_give_the_numbers_of_stored_ones():
    for ours, stored in zip(two_steps(True), two_steps(False), strict=True):
        np.testing.assert_allclose(ours, stored, rtol=1e-4, atol=1e-4)


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


@pytest.mark.parametrize("remat", [False, True])
def test_a_block_without_state_moves_its_averages_under_jit(remat):
    block = ResidualBlock(BasicBranch(4), remat=remat)
    x = np.random.default_rng(0).normal(size=(4, 6, 6, 4)).astype("float32")
    block.build(x.shape)
    weights = [v.value for v in block.trainable_variables]
    averages = [v.value for v in block.non_trainable_variables]

    @jax.jit
    @jax.value_and_grad
    def loss(weights):
        y, _ = call(weights, averages, x)
        return jax.numpy.sum(y**2)

    call = functools.partial(block.stateless_call, training=True)
    _, moved = jax.jit(call)(weights, averages, x)
    value, gradients = loss(weights)
    np.testing.assert_allclose(value, np.sum(np.square(block(x, training=True))), rtol=1e-5)
    assert all(np.any(gradient) for gradient in gradients)
    for average, true in zip(moved, block.non_trainable_variables, strict=True):
        np.testing.assert_allclose(average, true.value, rtol=1e-5, atol=1e-7)


class OwnCode(keras.layers.Layer):
    """A layer that defines no shape of its output."""

    def __init__(self, **options):
        super().__init__(**options)
        self.convolution = keras.layers.Conv2D(3, 3, 2, padding="same")

    def call(self, x):
        return self.convolution(x)


def test_shapes_and_strides_are_known_while_fit_holds_the_weights(tmp_path):
    inputs = keras.Input((8, 8, 3))
    block = ResidualBlock([OwnCode(name="own")], ProjectionShortcut(3, 2), name="block")
    model = keras.Model(inputs, block(inputs))
    model.compile("sgd", "mse")
    x, y = np.ones((2, 8, 8, 3), "float32"), np.ones((2, 4, 4, 3), "float32")
    model.fit(x, y, verbose=0, callbacks=[GradientRecorder(tmp_path, every_steps=1)])
    (record,) = records(str(tmp_path))
    (described,) = record.blocks
    assert described["strides"] == 2
    assert described["layers"]["branch"][0]["shape"] == [4, 4, 3]
