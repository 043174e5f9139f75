"""Batch normalization by PyTorch's kernel, beside its formula in float64."""

import keras
import numpy as np
import pytest
import torch

from reszoo.layers import BatchNormalization, ResidualBlock

PRECISION = {"float64": 1e-12, "float32": 1e-5, "mixed_float16": 1e-2, "mixed_bfloat16": 5e-2}
MODES = {"training": (True, True), "inference": (False, True), "frozen": (True, False)}
SHAPES = [(4, 5, 3, 6), (7, 6), (2, 5, 3)]


def new_layer(shape, **options):
    """Returns a layer none of whose weights has its initial value."""
    layer, random = BatchNormalization(**options), np.random.default_rng(1)
    layer.build(shape)
    layer.set_weights([random.uniform(0.5, 2.0, weight.shape) for weight in layer.weights])
    return layer


def derived(y, x, weights):
    torch.sin(y.double() * 0.7).sum().backward()
    return [value.detach().double() for value in (y, x.grad, *(w.grad for w in weights))]


def by_hand(layer, x, training):
    """Returns the output, its gradients and the moving averages, by the formula in float64."""
    x = x.detach().double().requires_grad_()
    of_weight = {w.name: w.value.detach().double() for w in layer.weights}
    weights = [of_weight[w.name].requires_grad_() for w in layer.trainable_variables]
    moments = of_weight["moving_mean"], of_weight["moving_variance"]
    averages = moments
    if training and layer.trainable:
        others = tuple(range(x.ndim - 1))
        center = x.mean(others)
        moments = center, ((x - center) ** 2).mean(others)
        averages = [0.9 * a + 0.1 * b.detach() for a, b in zip(averages, moments, strict=True)]
    y = (x - moments[0]) / torch.sqrt(moments[1] + 1e-5)
    y = y * of_weight.get("gamma", 1.0) + of_weight.get("beta", 0.0)
    return [*derived(y, x, weights), *averages]


def by_layer(layer, x, training):
    """Returns the same of a layer."""
    x = x.detach().clone().requires_grad_()
    y = layer(x, training=training)
    assert y.dtype == x.dtype
    values = derived(y, x, [weight.value for weight in layer.trainable_variables])
    return [*values, layer.moving_mean.value.double(), layer.moving_variance.value.double()]


def check(layer, x, training, precision):
    expected = by_hand(layer, x, training)
    for found, exact in zip(by_layer(layer, x, training), expected, strict=True):
        atol = precision * float(exact.abs().max())
        np.testing.assert_allclose(found, exact, rtol=0, atol=atol + precision)


def images(shape, dtype):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3 + 2
    return x.to(getattr(torch, dtype))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("policy", PRECISION)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_gradients_and_averages_are_those_of_the_formula(shape, policy, mode):
    training, trainable = MODES[mode]
    layer = new_layer(shape, dtype=policy)
    layer.trainable = trainable
    check(layer, images(shape, layer.compute_dtype), training, PRECISION[policy])


def test_a_single_value_trains():
    # PyTorch's kernel refuses it, and Keras's layer computes in float32.
    check(new_layer((1, 3)), images((1, 3), "float32"), True, 1e-5)


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}])
def test_the_scale_or_the_offset_may_be_missing(options):
    layer = new_layer((4, 5, 3, 6), dtype="float64", **options)
    check(layer, images((4, 5, 3, 6), "float64"), True, 1e-12)


def test_a_model_trains_and_is_loaded_again(tmp_path):
    layers = [BatchNormalization(), keras.layers.Activation("relu")]
    model = keras.Sequential([keras.Input((4, 4, 3)), ResidualBlock(layers)])
    model.compile("sgd", "mse")
    x = np.random.default_rng(0).normal(size=(8, 4, 4, 3)).astype("float32")
    model.fit(x, x, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
