"""Models built by their first batch are recorded from it on, and train as without a recorder."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import reszoo
from reszoo import ResidualBlock
from reszoo.gradients import load
from tests.gradients.by_hand import expected_statistics, path_gradients

RANDOM = np.random.default_rng(0)
X, Y = RANDOM.normal(size=(16, 4)).astype("float32"), np.zeros((16, 1), "float32")


def parts():
    return [
        ResidualBlock([layers.Dense(4, "tanh"), layers.Dropout(0.5, seed=1)], name="first"),
        ResidualBlock(layers.Dense(4), layers.Dense(4), name="second"),
        layers.Dense(1),
    ]


class Subclassed(keras.Model):
    """Blocks as attributes, one in a nested model and one in a list."""

    def __init__(self):
        super().__init__()
        first, second, head = parts()
        self.nested = keras.Sequential([first])
        self.blocks, self.head = [second], head

    def call(self, x):
        x = self.nested(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class BuildsInBuild(keras.Model):
    """Blocks that are not there before the first batch."""

    def build(self, input_shape):
        self.chain = parts()
        for layer in self.chain:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)
        self.built = True

    def call(self, x):
        for layer in self.chain:
            x = layer(x)
        return x


MODELS = {
    "sequential": lambda: keras.Sequential(parts()),
    "subclassed": Subclassed,
    "builds in build": BuildsInBuild,
}
WAYS = [("sequential", {"run_eagerly": True}), ("sequential", {"jit_compile": True})]
WAYS += [(name, {}) for name in MODELS]


def fitted(model, *callbacks, metrics=(), **options):
    options = {"metrics": list(metrics), "jit_compile": False, **options}
    model.compile(keras.optimizers.Adam(0.01), "mse", **options)
    model.fit(X, Y, 8, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
    return model


def recorded(log_dir, step):
    table = load(str(log_dir))
    table = table[(table.step == step) & (table.block == "second")]
    return dict(zip(table.statistic, table.value, strict=True))


@pytest.mark.parametrize(("name", "options"), WAYS)
def test_it_is_recorded_and_trains_the_same(name, options, tmp_path):
    keras.utils.set_random_seed(1)
    plain = fitted(MODELS[name](), metrics=["mae"], **options)
    keras.utils.set_random_seed(1)
    recorder = reszoo.GradientRecorder(tmp_path, every_steps=1)
    model = fitted(MODELS[name](), recorder, metrics=["mae"], **options)
    for weight, expected in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert sorted(set(load(str(tmp_path)).step)) == [0, 1, 2, 3]
    assert recorded(tmp_path, 0)["update_norm"] > 0


def test_its_first_batch_has_the_values_of_a_tape(tmp_path):
    def model():
        keras.utils.set_random_seed(1)
        return keras.Sequential([ResidualBlock(layers.Dense(4), name="second"), layers.Dense(1)])

    by_hand = model()
    by_hand.build((None, 4))
    gradients = path_gradients(by_hand, X[:8], lambda y: tf.reduce_mean((y - Y[:8]) ** 2))
    fitted(model(), reszoo.GradientRecorder(tmp_path, every_steps=1))
    found = recorded(tmp_path, 0)
    for name, expected in expected_statistics(*gradients["second"]).items():
        assert found[name] == pytest.approx(expected, rel=1e-5)


def test_several_inputs_in_a_dictionary_build_a_model(tmp_path):
    class Two(Subclassed):
        def call(self, inputs):
            return super().call(inputs["a"] + inputs["b"])

    model = Two()
    model.compile("sgd", "mse")
    data = tf.data.Dataset.from_tensor_slices(({"a": X, "b": X}, Y)).batch(8)
    model.fit(
        data, shuffle=False, verbose=0, callbacks=[reszoo.GradientRecorder(tmp_path, every_steps=1)]
    )
    assert sorted(set(load(str(tmp_path)).step)) == [0, 1]


def test_several_steps_per_execution_build_it_too(tmp_path):
    model = keras.Sequential(parts())
    recorder = reszoo.GradientRecorder(tmp_path, every_steps=1)
    fitted(model, recorder, steps_per_execution=2)
    assert sorted(set(load(str(tmp_path)).step)) == [0, 2]


def test_one_that_only_running_builds_is_recorded_from_the_second_batch_on(tmp_path):
    class LooksAtValues(Subclassed):
        def call(self, x):
            return super().call(x + x.numpy().sum())

    recorder = reszoo.GradientRecorder(tmp_path, every_steps=1)
    with pytest.warns(UserWarning, match="first batch of .* is not recorded"):
        fitted(LooksAtValues(), recorder, run_eagerly=True)
    assert sorted(set(load(str(tmp_path)).step)) == [1, 2, 3]


def test_in_a_loop_of_ones_own_it_has_to_be_built_before(tmp_path):
    model = keras.Sequential(parts())
    model.compile("sgd", "mse")
    recorder = reszoo.GradientRecorder(tmp_path, every_steps=1)
    callbacks = keras.callbacks.CallbackList([recorder], model=model)
    callbacks.on_train_begin()
    recorder.recorded(lambda: None)
    with pytest.raises(ValueError, match="is not built, so it has no weights to observe"):
        callbacks.on_train_batch_begin(0)
    recorder.close()


class MarkedAsBuilt(keras.Model):
    """A model that Keras's own `build` marks as built, whose layers have no weights yet."""

    def __init__(self, *unused):
        super().__init__()
        _, self.block, self.head = parts()
        self.unused = unused
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.build((None, 4))

    def call(self, x):
        return self.head(self.block(x))


@pytest.mark.parametrize("unused", [None, layers.Dense, ResidualBlock])
def test_one_that_is_only_marked_as_built_is_built_too(unused, tmp_path):
    def model():
        keras.utils.set_random_seed(1)
        never_called = {None: [], layers.Dense: [layers.Dense(3)]}
        return MarkedAsBuilt(
            *never_called.get(unused, [ResidualBlock(layers.Dense(4), name="never")])
        )

    recorder = reszoo.GradientRecorder(tmp_path, every_steps=1)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        trained = fitted(model(), recorder, run_eagerly=True).get_weights()
    plain = fitted(model(), run_eagerly=True).get_weights()
    for weight, expected in zip(trained, plain, strict=True):
        np.testing.assert_array_equal(weight, expected)
    table = load(str(tmp_path))
    first_batch_is_lost = unused is ResidualBlock  # a block that cannot be built may need a batch
    assert sorted(set(table.step)) == [0, 1, 2, 3][first_batch_is_lost:]
    of_block = table[table.block == "second"]
    norms = of_block[of_block.statistic.str.endswith("_norm")]
    assert (norms.value > 0).all()
    of_other = table[(table.block == "never") & (table.statistic == "weight_norm")]
    assert np.isnan(of_other.value).all()
    assert any("not recorded" in str(w.message) for w in warned) == first_batch_is_lost


class BuildsItsHeadInTraining(MarkedAsBuilt):
    """A model with a layer that its training step alone calls."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self(x) - y) ** 2) + tf.reduce_mean(self.unused[0](x) ** 2)
        weights = self.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


def test_a_layer_that_the_training_step_alone_builds_is_trained(tmp_path):
    recorder = reszoo.GradientRecorder(tmp_path, every_steps=1)
    model = BuildsItsHeadInTraining(layers.Dense(2))
    model.compile("sgd", jit_compile=False)
    model.fit(X, Y, 8, verbose=0, callbacks=[recorder])
    assert len(model.trainable_variables) == 8
    assert recorded(tmp_path, 0)["update_norm"] > 0
