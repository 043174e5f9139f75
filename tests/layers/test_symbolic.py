"""Layers of one's own in a block, as README promises, of whatever they are made."""

from fractions import Fraction

import keras
import numpy as np
import pytest
from keras import layers

import reszoo
from reszoo import ResidualBlock, StopGradSkip
from reszoo.gradients import load
from reszoo.layers import Chain, Convolution, ExclusiveGatedBlock, GatedShortcut, MaxPool
from reszoo.layers.symbolic import strides_of

registered = keras.saving.register_keras_serializable(package="test_symbolic")


@registered
class OnlyCall(layers.Layer):
    """Layers inside a layer, and neither `build` nor the shape of its output."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.first, self.last = layers.Dense(8, "tanh"), layers.Dense(4)

    def call(self, x):
        return self.last(self.first(x))


@registered
class SaysItsShape(OnlyCall):
    """As `OnlyCall`, with the shape of its output."""

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 4)


@registered
class BuildsHalf(layers.Layer):
    """A `build` that makes weights, and a layer that has none yet."""

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], 4), initializer="ones")
        self.shift = self.add_weight(shape=(4,), initializer="zeros", trainable=False)
        self.inner = layers.Dense(4)

    def call(self, x):
        return self.inner(x @ self.kernel + self.shift)


@registered
class Deep(layers.Layer):
    """Layers within layers, with a seed and averages."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.parts = [OnlyCall(), OnlyCall()]
        self.dropout, self.norm = layers.Dropout(0.5, seed=3), layers.BatchNormalization()

    def call(self, x, training=None):
        for part in self.parts:
            x = part(x)
        return self.norm(self.dropout(x, training=training), training=training)


@registered
class Subclassed(keras.Model):
    """A model."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.inside = OnlyCall()

    def call(self, x):
        return self.inside(x)


@registered
class WithoutWeights(layers.Layer):
    """A layer that only computes."""

    def call(self, x):
        return keras.ops.tanh(x)


def functional():
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Dense(4)(OnlyCall()(inputs)))


OWN = {
    "only call": OnlyCall,
    "says its shape": SaysItsShape,
    "builds half": BuildsHalf,
    "deep": Deep,
    "subclassed": Subclassed,
    "functional": functional,
    "sequential": lambda: keras.Sequential([layers.Dense(3), OnlyCall()]),
    "without weights": WithoutWeights,
    "block": lambda: ResidualBlock(OnlyCall()),
}
PLACES = {
    "branch": ResidualBlock,
    "in a list": lambda own: ResidualBlock([own, layers.Dense(4)]),
    "shortcut": lambda own: ResidualBlock(layers.Dense(4), own),
    "stopped": lambda own: ResidualBlock(layers.Dense(4), StopGradSkip(own)),
    "gated shortcut": lambda own: ResidualBlock(
        layers.Dense(4), GatedShortcut(layers.Dense(4, "sigmoid"), own)
    ),
    "gate": lambda own: ExclusiveGatedBlock(layers.Dense(4), own),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", OWN)
def test_a_layer_of_ones_own_has_all_weights_once_its_block_is_built(name, place, tmp_path):
    own = OWN[name]()
    model = keras.Sequential([keras.Input((4,)), PLACES[place](own), layers.Dense(1)])
    plain = OWN[name]()
    x = np.random.default_rng(0).normal(size=(2, 4)).astype("float32")
    plain(x)
    assert [w.shape for w in own.weights] == [w.shape for w in plain.weights]
    weights = len(model.weights)
    y = model(x)
    assert len(model.weights) == weights
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), y)


def test_its_weights_are_those_it_has_without_a_block():
    keras.utils.set_random_seed(1)
    alone = Deep()
    alone(np.ones((2, 4), "float32"))
    keras.utils.set_random_seed(1)
    in_block = Deep()
    ResidualBlock(in_block).build((None, 4))
    for weight, expected in zip(in_block.get_weights(), alone.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_a_block_of_ones_own_layers_is_recorded(tmp_path):
    model = keras.Sequential([keras.Input((4,)), ResidualBlock([Deep()]), layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.05), "mse", jit_compile=False)
    recorder = reszoo.GradientRecorder(tmp_path, every_steps=1)
    model.fit(np.ones((4, 4)), np.ones((4, 1)), verbose=0, callbacks=[recorder])
    table = load(str(tmp_path))
    values = dict(zip(table.statistic, table.value, strict=True))
    assert values["weight_gradient_norm"] > 0
    assert values["update_norm"] == pytest.approx(0.05 * values["weight_gradient_norm"], rel=1e-5)


def test_paths_of_ones_own_that_do_not_meet_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"shape \(None, 5\) and .* in shape \(None, 4\)"):
        ResidualBlock(OnlyCall()).build((None, 5))


def test_a_layer_that_returns_several_tensors_is_refused():
    class Several(layers.Layer):
        def call(self, x):
            return x, x

    with pytest.raises(ValueError, match="must return one tensor"):
        ResidualBlock(Several()).build((None, 5))


def test_a_layer_that_needs_a_certain_size_may_have_one_that_is_not_known_yet():
    class Pairs(layers.Layer):
        def call(self, x):
            if x.shape[1] is not None and x.shape[1] % 2:
                raise ValueError("odd")
            return x

    block = ResidualBlock(Pairs())
    block.build((None, None, 4))
    assert block.compute_output_shape((None, 6, 4)) == (None, 6, 4)


class EverySecond(layers.Layer):
    """Has a stride, and neither an attribute that says so nor `compute_output_shape`."""

    def call(self, x):
        return x[:, ::2, ::2]


@pytest.mark.parametrize(
    ("parts", "strides"),
    [
        ([], (1, 1)),
        ([layers.Conv2D(4, 3, 2), layers.Conv2D(4, 3, (1, 2)), layers.MaxPooling2D()], (4, 8)),
        ([layers.MaxPooling2D(3, strides=2, padding="same")], (2, 2)),
        ([layers.MaxPooling2D(3)], (3, 3)),
        ([MaxPool(3, (2, 1), padding="valid"), Convolution(4, 7, (1, 2), padding="valid")], (2, 2)),
        ([layers.Lambda(lambda x: x[:, ::2])], (2, 1)),
        ([EverySecond()], (2, 2)),
        ([layers.ZeroPadding2D(3), layers.Conv2D(4, 7, 2), layers.Cropping2D(1)], (2, 2)),
        ([layers.Conv2D(4, 3, 4), layers.UpSampling2D(2)], (2, 2)),
        ([layers.Conv2DTranspose(4, 3, 2)], (Fraction(1, 2), Fraction(1, 2))),
        ([layers.RNN(layers.LSTMCell(4), return_sequences=True)], (1,)),
    ],
    ids=str,
)
def test_strides_are_those_of_the_shapes(parts, strides):
    chain, x = Chain(parts), keras.KerasTensor((None, *[None, 40][-len(strides) :], 3))
    chain.build(x.shape)
    assert strides_of(chain, x) == strides
    assert strides_of(chain, keras.KerasTensor((1, *[20, 40][-len(strides) :], 3))) == strides


def test_strides_of_what_takes_one_size_are_those_of_its_sizes():
    parts = [layers.Conv2D(4, 3, 2, padding="same"), layers.AveragePooling2D(2)]
    chain, x = Chain([keras.Sequential(parts)]), keras.KerasTensor((None, 32, 64, 3))
    chain.build(x.shape)
    assert strides_of(chain, x) == (4, 4)
    assert strides_of(layers.Resizing(16, 32), x) == (2, 2)


def test_the_strides_of_a_block_are_described():
    block = ResidualBlock([layers.Conv2D(4, 1, 2), layers.Lambda(lambda x: x)], EverySecond())
    block.build((None, 8, 8, 4))
    assert reszoo.gradients.blocks.describe_blocks({"b": block})[0]["strides"] == 2
    dense = ResidualBlock(layers.Dense(4))
    dense.build((None, 4))
    assert reszoo.gradients.blocks.describe_blocks({"b": dense})[0]["strides"] == 1


@pytest.mark.parametrize(
    "parts",
    [[layers.Resizing(8, 8)], [layers.GlobalAveragePooling2D()], [layers.Reshape((400, 3))]],
)
def test_a_stride_that_shapes_do_not_tell_is_refused(parts):
    chain, x = Chain(parts, name="stem"), keras.KerasTensor((None, 20, 20, 3))
    chain.build(x.shape)
    with pytest.raises(ValueError, match="The stride of 'stem' is not known"):
        strides_of(chain, x)
