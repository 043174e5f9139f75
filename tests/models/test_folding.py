"""Folded normalizations: by hand, in every kind of network, and what stays with its reason."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import reszoo
from reszoo import models
from reszoo.gradients.blocks import find_blocks
from reszoo.keras_internals import sublayers
from reszoo.layers import BasicBranch, BottleneckBranch, Chain, Convolution, ProjectionShortcut
from reszoo.layers import standardized as with_standardized_kernel
from reszoo.models import fold_normalization, named_weights
from tests.layers.windows import padded, taps

BN = layers.BatchNormalization
SMALL = {"num_classes": 5, "width": 4, "blocks": (1, 1), "input_shape": (16, 16, 3)}


def randomized(model):
    """Gives a model weights and averages as if it had been trained."""
    generator = np.random.default_rng(0)
    for weight in model.weights:
        if weight.name == "moving_variance":
            weight.assign(generator.uniform(0.2, 3.0, weight.shape))
        elif weight.name == "gamma":
            weight.assign(generator.normal(1.0, 0.5, weight.shape))
        elif weight.name in ("beta", "moving_mean", "bias"):
            weight.assign(generator.normal(0.0, 0.5, weight.shape))
    return model


def examples(model):
    generator = np.random.default_rng(1)
    shapes = [tuple(size or 16 for size in x.shape[1:]) for x in model.inputs]
    return [generator.normal(size=(2, *shape)).astype("float32") for shape in shapes]


def outputs(model, arrays):
    of_model = model(arrays if len(arrays) > 1 else arrays[0], training=False)
    return [keras.ops.convert_to_numpy(y) for y in keras.tree.flatten(of_model)]


def folded_alike(model, tolerance=1e-5):
    """Returns the folded model after comparing its outputs with the model's."""
    arrays, weights = examples(model), [w.numpy() for w in randomized(model).weights]
    expected = outputs(model, arrays)
    folded = fold_normalization(model)
    for found, true in zip(outputs(folded, arrays), expected, strict=True):
        assert found.dtype == true.dtype
        found, true = np.float64(found), np.float64(true)
        np.testing.assert_allclose(found, true, rtol=0, atol=tolerance * np.abs(true).max())
    for weight, before in zip(model.weights, weights, strict=True):
        np.testing.assert_array_equal(weight, before)
    return folded


def count(model):
    """Returns the number of batch normalizations in a model."""
    return sum(isinstance(part, BN) for part in sublayers(model))


def graph(function, shape=(8, 8, 3)):
    """Returns the functional model of a function of its input."""
    inputs = keras.Input(shape)
    return keras.Model(inputs, function(inputs), name="network")


def test_kernel_bias_and_output_of_a_convolution_are_those_by_hand():
    convolution, norm = Convolution(4, 3, strides=2, use_bias=True), BN(epsilon=0.01)
    model = randomized(graph(lambda x: Chain([convolution, norm], name="chain")(x), (5, 6, 3)))
    folded = fold_normalization(model).get_layer("chain").layers
    values = (np.float64(convolution.kernel), np.float64(convolution.bias))
    gamma, beta, mean, variance = map(np.float64, norm.get_weights())
    kernel, bias = values[0] * gamma / np.sqrt(variance + 0.01), values[1]
    bias = (bias - mean) * gamma / np.sqrt(variance + 0.01) + beta
    assert len(folded) == 1
    np.testing.assert_allclose(folded[0].kernel, kernel, rtol=1e-6)
    np.testing.assert_allclose(folded[0].bias, bias, rtol=1e-6, atol=1e-7)
    (x,), sizes = examples(model), ((3, 3), (2, 2), (1, 1))
    seen = taps(padded(x, *sizes, "symmetric"), *sizes)
    unnormalized = sum(pixels @ values[0][tap] for tap, pixels in seen) + values[1]
    expected = (unnormalized - mean) / np.sqrt(variance + 0.01) * gamma + beta
    np.testing.assert_allclose(folded[0](x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "options", "staying"),
    [
        (models.ResNet18, {}, 0),
        (models.ResNet50D, {"squeeze_excitation": 4, "shortcut": "stop_gradient"}, 0),
        (models.ResNet50V2, {"remat": True}, 3),
        (models.ResNet50V2Keras, {}, 3),
        (models.ResNeXt50x32x4d, {"norm": "sync_batch", "zero_init_last_scale": True}, 0),
        (models.WideResNet16x8, {"blocks": (1, 2), "output_stride": 1}, 4),
        (models.ResNet20, {"gate": "exclusive", "drop_path": 0.2, "branch_scale": 0.5}, 0),
        (models.ResNet20, {"shortcut": "gated", "norm": BN}, 0),
        (models.ResNet18, {"features": ("stem", "stage2"), "padding": "same"}, 0),
        (models.ResNet18x1D, {"input_shape": (16, 3)}, 0),
        (models.ResNet18x3D, {"input_shape": (8, 8, 8, 3)}, 0),
        (models.RevNet38, {"blocks": (2, 1)}, 7),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_networks_of_the_zoo_have_the_same_outputs(make, options, staying, tmp_path):
    folded = folded_alike(make(**{**SMALL, **options}))
    assert count(folded) == staying
    folded.save(tmp_path / "model.keras")
    again, arrays = keras.models.load_model(tmp_path / "model.keras"), examples(folded)
    for found, true in zip(outputs(again, arrays), outputs(folded, arrays), strict=True):
        np.testing.assert_array_equal(found, true)


def test_a_folded_network_has_the_blocks_and_names_of_one_without_normalizations():
    model = models.ResNet18(**SMALL)
    folded, plain = fold_normalization(model), models.ResNet18(**SMALL, norm=None)
    assert list(find_blocks(folded)) == list(find_blocks(model))
    assert list(named_weights(folded)) == list(named_weights(plain))
    assert models.load_weights(plain, folded) == []
    for found, true in zip(*(outputs(m, examples(model)) for m in (plain, folded)), strict=True):
        np.testing.assert_array_equal(found, true)


def nested(x):
    branch = graph(lambda y: BN()(layers.Conv2D(3, 3, padding="same")(y)))
    sequence = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(3, 1), BN(), BN()])
    return reszoo.ResidualBlock([branch, branch, sequence])(x)


def own_branches(x):
    x = reszoo.ResidualBlock(BasicBranch(4), ProjectionShortcut(4), activation="relu")(x)
    inner = Convolution(4, 3, groups=2)
    stopped = reszoo.StopGradSkip(ProjectionShortcut(4))
    block = reszoo.ResidualBlock([BottleneckBranch(2, expansion=2, inner=inner)])
    return reszoo.ResidualBlock([block, layers.ReLU()], stopped)(x)


def adapted(x):
    normalization = layers.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(3.0, 2.0, (50, 8, 8, 3)))
    return BN()(layers.Conv2D(4, 3)(normalization(x)))


def by_keyword(x):
    return BN()(inputs=layers.Conv2D(4, 3)(inputs=x))


def several(x):
    first = BN(scale=False)(layers.Conv2D(4, 3, use_bias=False, dilation_rate=2)(x))
    second = BN(center=False, renorm=True)(layers.Conv2D(4, 3, groups=1)(first), training=False)
    total = keras.ops.mean(second * 2.0, axis=(1, 2))[:, ::2] + 1.0
    return {"total": total, "map": second}


def dense(x):
    x = BN()(layers.Dense(4, use_bias=False)(layers.Flatten()(x)))
    return layers.Lambda(lambda y: np.float32(2) * y)(BN(axis=1)(layers.Dense(6)(x)))


@pytest.mark.parametrize(
    ("function", "shape"),
    [
        (lambda x: BN()(layers.DepthwiseConv2D(3, depth_multiplier=3)(x)), (8, 8, 2)),
        (lambda x: BN()(layers.DepthwiseConv1D(3, depth_multiplier=2)(x)), (8, 2)),
        (lambda x: BN()(layers.SeparableConv2D(5, 3, depth_multiplier=2)(x)), (8, 8, 2)),
        (lambda x: BN()(layers.SeparableConv1D(5, 3, use_bias=False)(x)), (8, 2)),
        (lambda x: BN()(layers.Conv2DTranspose(5, 3, 2, use_bias=False)(x)), (4, 4, 3)),
        (lambda x: BN()(layers.Conv1DTranspose(5, 3, 2)(x)), (8, 3)),
        (lambda x: BN()(layers.Conv3DTranspose(5, 3, 2)(x)), (4, 4, 4, 3)),
        (lambda x: BN()(layers.Conv1D(5, 3, padding="causal")(x)), (8, 3)),
        (lambda x: BN()(layers.Conv2D(6, 3, groups=2)(x)), (8, 8, 4)),
        (lambda x: Chain([with_standardized_kernel(Convolution(4, 3)), BN()])(x), (8, 8, 3)),
        (dense, (2, 3)),
        (several, (8, 8, 3)),
        (nested, (8, 8, 3)),
        (own_branches, (8, 8, 3)),
        (adapted, (8, 8, 3)),
        (by_keyword, (8, 8, 3)),
    ],
)
def test_every_layer_that_multiplies_channels_takes_a_normalization(function, shape):
    assert count(folded_alike(graph(function, shape))) == 0


def test_what_a_layer_keeps_beside_its_weights_is_copied():
    lookup = layers.StringLookup(output_mode="one_hot")
    lookup.adapt(["a", "b", "c"])
    words = keras.Input((), dtype="string")
    model = randomized(keras.Model(words, BN()(layers.Dense(3)(lookup(words)))))
    given = tf.constant(["c", "a", "unknown"])
    np.testing.assert_allclose(fold_normalization(model)(given), model(given), rtol=1e-5)


def read_twice(x):
    x = layers.Conv2D(4, 3)(x)
    return layers.Add()([x, BN()(x)])


def shared(x):
    convolution = layers.Conv2D(3, 3, padding="same")
    return BN()(convolution(BN()(convolution(x))))


def shared_in_chains(x):
    convolution = Convolution(3, 3)
    return Chain([convolution, BN()])(Chain([convolution, BN()])(x))


def shared_normalization(x):
    norm = BN()
    return norm(layers.Conv2D(3, 3)(norm(layers.Conv2D(3, 3)(x))))


def shared_between_chains(x):
    norm = BN(name="norm")
    x = Chain([Convolution(3, 3), norm], name="first")(x)
    return Chain([Convolution(3, 3), norm], name="second")(x)


def of_one_name(x):
    norms = [BN(name="norm"), BN(name="norm")]
    return Chain([one for n in norms for one in (layers.Activation("relu"), n)], name="chain")(x)


def in_training(x):
    return graph(lambda y: BN()(layers.Conv2D(3, 3)(y)))(x, training=True)


@keras.saving.register_keras_serializable("tests")
class Doubled(layers.Conv2D):
    def convolution_op(self, inputs, kernel):
        return 2 * super().convolution_op(inputs, kernel)


@keras.saving.register_keras_serializable("tests")
class Opaque(layers.Layer):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.conv, self.norm = layers.Conv2D(4, 3), BN(name="norm")

    def build(self, input_shape):
        self.conv.build(input_shape)
        self.norm.build(self.conv.compute_output_shape(input_shape))

    def call(self, x):
        return self.norm(self.conv(x))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (read_twice, "1 behind Conv2D, which others read as well"),
        (lambda x: [y := layers.Conv2D(4, 3)(x), BN()(y)], "Conv2D, which others read as well"),
        (shared, "2 behind Conv2D, which is called at several places"),
        (shared_in_chains, "2 behind Convolution, which is called at several places"),
        (shared_normalization, "1 called at several places"),
        (shared_between_chains, "; of the others, 1 called at several places (first/norm)."),
        (of_one_name, "; of the others, 2 behind Activation (chain/norm, chain/norm)."),
        (in_training, "1 called with training=True (network/"),
        (lambda x: BN()(layers.Conv2D(4, 3)(x), training=True), "1 called with training=True"),
        (lambda x: BN()(layers.Conv2D(4, 3, activation="relu")(x)), "Conv2D with an activation"),
        (lambda x: BN()(layers.Conv2D(4, 3)(x) + 1.0), "1 behind Add"),
        (lambda x: BN()(layers.Dropout(0.5)(layers.Conv2D(4, 3)(x))), "1 behind Dropout"),
        (lambda x: BN()(x), "1 behind the model's input"),
        (lambda x: BN(axis=1)(layers.Conv2D(8, 3, padding="same")(x)), "1 over another axis"),
        (lambda x: BN(dtype="mixed_bfloat16")(layers.Conv2D(4, 3)(x)), "1 in another dtype"),
        (lambda x: BN()(layers.Conv2D(4, 3, activity_regularizer="l2")(x)), "1 with an activity"),
        (lambda x: BN()(Doubled(4, 3)(x)), "1 behind Doubled"),
        (lambda x: Opaque()(x), "1 in Opaque, whose call is not known (opaque/norm)"),
        (lambda x: Chain([BN(name="norm")], name="chain")(x), "start of a path (chain/norm)"),
    ],
)
def test_what_cannot_be_folded_stays_as_it_is_with_the_reason(function, reason, caplog):
    model = graph(function)
    folded = folded_alike(model, tolerance=0)
    assert count(folded) == count(model)
    assert f"0 of {count(model)} batch normalizations of 'network' were folded" in caplog.text
    assert reason in caplog.text


@keras.saving.register_keras_serializable("tests")
class Held(Opaque):
    """A layer whose call is not known, with two normalizations of one name and path."""

    def build(self, input_shape):
        super().build(input_shape)
        self.more = BN(name="norm")
        self.more.build((None, 4))


def graph_in_graph(x):
    inner = graph(lambda y: layers.Conv2D(3, 3)(y))
    inner.extra = BN(name="unused")
    return inner(x)


def told(inner, outer, own):
    """A network that tells a part of it, and the part its normalization, whether it is training."""

    def part(x):
        if inner == "block":
            return reszoo.ResidualBlock([layers.Conv2D(3, 1), BN()])(x, training=own)
        return BN()(layers.Conv2D(3, 1)(x), training=own)

    def chained(x):
        return Chain([graph(part)])(x, training=outer)

    of_part = graph(part)
    return graph(chained if inner == "chain" else lambda x: of_part(x, training=outer))


@pytest.mark.parametrize(
    ("inner", "outer", "own"),
    [
        *itertools.product(["norm", "block"], [None, False, True], [None, False, True]),
        ("chain", None, True),
        ("chain", False, True),
        ("chain", True, False),
    ],
)
def test_the_outermost_call_that_says_so_decides_what_trains(inner, outer, own):
    model = randomized(told(inner, outer, own))
    (x,) = examples(model)
    folded = fold_normalization(model)
    number = sum(isinstance(part, BN) for part in sublayers(folded))
    assert number == int(bool(own if outer is None else outer))
    for training in (False, None):  # the latter changes the averages that are in training
        found, true = (
            keras.ops.convert_to_numpy(m(x) if training is None else m(x, training=training))
            for m in (folded, model)
        )
        np.testing.assert_allclose(found, true, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("function", "extra", "reason"),
    [
        (lambda x: x, BN(name="unused"), "1 that no call reaches (unused)"),
        (lambda x: x, Chain([BN(name="a"), BN(name="a")]), "2 that no call reaches (a, a)"),
        (lambda x: x, [BN(name="a"), {"b": BN(name="a")}], "2 that no call reaches (a, a)"),
        (graph_in_graph, None, "1 that no call reaches (unused)"),
        (lambda x: Held(name="held")(x), None, "2 in Held, whose call is not known (held/norm, "),
    ],
)
def test_a_normalization_in_no_place_is_named(function, extra, reason, caplog):
    model = graph(lambda x: BN(name="norm")(layers.Conv2D(3, 3)(function(x))))
    model.extra = extra
    assert count(fold_normalization(model)) == (reason[2:4] == "in") * 2
    assert f"1 of {1 + int(reason[0])} batch normalizations of 'network' were" in caplog.text
    assert f"; of the others, {reason}" in caplog.text


def test_a_network_without_batch_normalizations_is_copied_and_named(caplog):
    folded_alike(models.ResNet18(**SMALL, norm="group"), tolerance=0)
    assert "'resnet18' has no batch normalization, so that nothing was folded" in caplog.text


def test_a_normalization_whose_layer_cannot_hold_the_values_stays(caplog):
    model = randomized(graph(lambda x: BN()(layers.Conv2D(4, 1)(x))))
    norm = model.layers[2]
    norm.moving_variance.assign([0.0, 0.0, 1e-30, 1.0])
    norm.gamma.assign([1.0, 0.0, 0.0, 1.0])
    folded = fold_normalization(model)
    arrays = examples(model)
    np.testing.assert_allclose(*(outputs(m, arrays)[0] for m in (folded, model)), rtol=1e-4)
    assert not np.any(np.asarray(folded.layers[1].kernel)[..., 1:3])
    assert not caplog.text
    for wrong in (np.nan, -1.0):
        caplog.clear()
        norm.moving_variance.assign([0.0, wrong, 1.0, 1.0])
        same = outputs(fold_normalization(model), arrays)[0]
        np.testing.assert_array_equal(same, outputs(model, arrays)[0])
        assert "1 whose values give no finite weights" in caplog.text


@pytest.mark.parametrize(("name", "value"), [("beta", 1e5), ("gamma", 1e6)])
def test_a_normalization_whose_layer_cannot_compute_with_the_values_stays(name, value, caplog):
    keras.config.set_dtype_policy("mixed_float16")
    model = randomized(graph(lambda x: BN()(layers.Conv2D(4, 1)(x))))
    norm = model.layers[2]
    getattr(norm, name).assign([1.0, 1.0, value, 1.0])
    folded = fold_normalization(model)
    assert "1 whose values give no finite weights" in caplog.text
    arrays = examples(model)
    np.testing.assert_array_equal(*(outputs(one, arrays)[0] for one in (folded, model)))


@pytest.mark.parametrize("kind", [layers.Dense, layers.Conv2D, Convolution])
@pytest.mark.parametrize(("gamma", "staying"), [(163.0, 1), (-163.0, 1), (100.0, 0)])
def test_a_normalization_stays_if_the_product_may_overflow(kind, gamma, staying, caplog):
    keras.config.set_dtype_policy("mixed_float16")
    options = {"use_bias": True} if kind is Convolution else {}
    layer = kind(1, **({} if kind is layers.Dense else {"kernel_size": 1}), **options)
    model = graph(lambda x: BN()(layer(x)), (1, 1, 1))
    # The average is subtracted in float32 from what is below the 65504 of float16.
    values = {"kernel": 1, "bias": 10, "gamma": gamma, "moving_mean": 40_010}
    for weight in model.weights:
        weight.assign(np.full(weight.shape, {**values, "moving_variance": 1e4}.get(weight.name, 0)))
    x = np.float16([39_200, 40_000, 40_800]).reshape(3, 1, 1, 1)
    folded = fold_normalization(model)
    expected = np.ravel(x.astype("float64") - 40_000) * gamma / 100
    for one in (model, folded):
        np.testing.assert_allclose(np.ravel(outputs(one, [x])[0]), expected, atol=40)
    assert ("may exceed float16 before its bias is added" in caplog.text) == bool(staying)
    assert sum(isinstance(part, BN) for part in sublayers(folded)) == staying


@pytest.mark.parametrize(
    ("policy", "tolerance"), [("mixed_bfloat16", 0.03), ("float64", 1e-12), ("float16", 0.01)]
)
def test_outputs_are_equal_up_to_the_rounding_of_the_dtype(policy, tolerance):
    keras.config.set_dtype_policy(policy)
    model = models.ResNet18(**SMALL)
    folded = folded_alike(model, tolerance)
    assert {w.dtype for w in folded.weights} == {w.dtype for w in model.weights}


def test_layers_that_are_frozen_or_quantized_stay_so():
    model = randomized(graph(lambda x: layers.Dense(2)(BN()(layers.Conv2D(4, 3)(x)))))
    model.layers[1].trainable = False
    assert [w.path for w in fold_normalization(model).trainable_weights] == [
        w.path for w in model.layers[3].weights
    ]
    model.layers[3].enable_lora(2)
    model = keras.Sequential([model, layers.BatchNormalization()])
    assert count(folded_alike(model)) == 1


def test_a_folded_network_trains_without_normalizations_and_exports(tmp_path):
    model = randomized(models.ResNet18(**SMALL))
    folded = fold_normalization(model)
    (x,) = examples(model)
    np.testing.assert_array_equal(folded(x, training=True), folded(x, training=False))
    folded.compile("sgd", "mse")
    before = folded.get_weights()
    folded.fit(x, np.zeros((2, 5)), verbose=0)
    assert all(np.any(a != b) for a, b in zip(before, folded.get_weights(), strict=True))
    folded.export(tmp_path / "exported", verbose=False)
    exported = tf.saved_model.load(tmp_path / "exported")
    np.testing.assert_allclose(exported.serve(x), folded(x), rtol=1e-5, atol=1e-6)


class Subclassed(keras.Model):
    def call(self, x):
        return x


@keras.saving.register_keras_serializable("tests")
class Unconfigured(layers.Layer):
    def __init__(self, function, **kwargs):
        super().__init__(**kwargs)

    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: layers.Dense(2), "fold_normalization takes a keras.Model, but got <Dense"),
        (lambda: keras.Sequential([layers.Dense(2)]), "must be built, but is not"),
        (Subclassed, "must be built, but is not"),
        (lambda: graph(Unconfigured(len)), "The layer 'unconfigured' .* must be copied by its"),
    ],
)
def test_a_model_that_cannot_be_walked_or_copied_is_refused_in_a_sentence(model, message):
    with pytest.raises(ValueError, match=message):
        fold_normalization(model())


def test_a_subclassed_model_is_refused_though_it_is_built():
    model = Subclassed(name="mine")
    model(np.ones((1, 2)))
    with pytest.raises(ValueError, match=r"'mine' of type Subclassed has a call of its own"):
        fold_normalization(model)
