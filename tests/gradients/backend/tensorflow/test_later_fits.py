"""Traced functions run in later fits and in loops of one's own, as long as nothing has changed."""

import logging

import keras
import numpy as np
import pytest
import tensorflow as tf

import reszoo
from reszoo import GradientRecorder
from tests.gradients.tiny import BATCH, BATCHES, X, Y, assert_recorded, by_hand, fit, recorded


@keras.saving.register_keras_serializable("later_fits")
class Counted(keras.layers.Dense):
    """Counts how often Python calls it, which is when a function is traced."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return super().call(inputs)


def counted(functional=False, **options):
    """Returns the smallest model with a block, and the layer that counts."""
    keras.utils.set_random_seed(1)
    layer, x = Counted(4, "tanh"), keras.Input((4,))
    if functional:
        y = keras.layers.Add(name="b")([x, layer(x)])
    else:
        y = reszoo.ResidualBlock([layer], name="b")(x)
    model = keras.Model(x, keras.layers.Dense(1)(y))
    model.compile(keras.optimizers.SGD(0.05), "mse", **{"jit_compile": False, **options})
    return model, layer


def calls_of_two_fits(model, layer, between=lambda: None, **options):
    fit(model, GradientRecorder(**options), batches=4)
    first, layer.calls = layer.calls, 0
    between()
    fit(model, GradientRecorder(**options), batches=4)
    return first, layer.calls


@pytest.fixture(scope="module")
def expected():
    """Two epochs of four batches."""
    return by_hand(2 * BATCHES[:4])


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"steps_per_execution": 2}])
def test_a_second_fit_traces_nothing_and_records_the_next_steps(options, expected, tmp_path):
    model, layer = counted(**options)
    first, second = calls_of_two_fits(model, layer, log_dir=tmp_path, every_steps=2)
    assert first > 0
    assert second == 0
    assert_recorded(tmp_path, range(0, 8, 2), expected)
    plain, _ = counted(**options)
    fit(plain, batches=4)
    fit(plain, batches=4)
    for weights, others in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, others)


def test_a_fit_without_a_recorder_after_one_with_it_traces_nothing(tmp_path):
    model, layer = counted()
    fit(model, GradientRecorder(tmp_path, 2), batches=4)
    layer.calls = 0
    fit(model, batches=4)
    assert layer.calls == 0
    fit(model, GradientRecorder(tmp_path, 2), batches=4)
    assert layer.calls == 0
    assert sorted(recorded(tmp_path)) == [0, 2, 8, 10]


def test_two_recorders_of_the_same_sets_keep_their_own_sums(expected, tmp_path):
    model, layer = counted()
    for _ in range(2):
        layer.calls = 0
        recorders = [GradientRecorder(tmp_path / str(every), every) for every in (1, 2)]
        fit(model, *recorders, batches=4)
    assert layer.calls == 0
    assert_recorded(tmp_path / "1", range(8), expected)
    assert_recorded(tmp_path / "2", range(0, 8, 2), expected)


def test_blocks_that_are_searched_anew_are_the_same(tmp_path):
    model, layer = counted(functional=True)
    for _ in range(2):
        blocks = reszoo.gradients.instrument(model)
        layer.calls = 0  # the search calls it too
        fit(model, GradientRecorder(tmp_path, 2, blocks=blocks), batches=4)
    assert layer.calls == 0
    assert sorted(recorded(tmp_path)) == [0, 2, 4, 6]


def changes():
    def replaces_the_step(model):
        own = model.train_step
        model.train_step = lambda data: own(data)

    return {
        "compiles": lambda model: model.compile(keras.optimizers.SGD(0.05), "mse"),
        "freezes": lambda model: setattr(model.layers[-1], "trainable", False),
        "replaces the step": replaces_the_step,
        "another optimizer": lambda model: setattr(model, "optimizer", keras.optimizers.SGD(0.5)),
        "compiles with XLA": lambda model: setattr(model, "jit_compile", True),
    }


@pytest.mark.parametrize("name", changes())
def test_a_model_that_has_changed_is_traced_again(name, tmp_path):
    model, layer = counted()
    change = changes()[name]
    _, second = calls_of_two_fits(
        model, layer, lambda: change(model), log_dir=tmp_path, every_steps=2
    )
    assert second > 0
    assert sorted(recorded(tmp_path)) == [0, 2, 4, 6]


def test_other_sets_are_recorded_with_other_taps(tmp_path):
    model, _ = counted()
    for sets in (["paths"], ["paths", "weights"], ["paths"]):
        fit(model, GradientRecorder(tmp_path, 2, sets), batches=2)
    assert sorted(recorded(tmp_path)) == [0, 2, 4]
    assert [step for step, x in recorded(tmp_path, "update_norm").items() if x == x] == [2]


class Stops(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise KeyboardInterrupt


def test_what_an_interrupted_fit_left_behind_is_not_recorded(tmp_path):
    """Of an update of two batches one has run when the fit is interrupted."""
    accumulating = keras.optimizers.SGD(0.05, gradient_accumulation_steps=4)
    model, other = counted()[0], counted()[0]
    for one in (model, other):
        one.compile(accumulating.from_config(accumulating.get_config()), "mse", jit_compile=False)
    with pytest.raises(KeyboardInterrupt):
        fit(model, GradientRecorder(tmp_path / "stopped", 1), Stops())
    for one, name in ((model, "stopped"), (other, "plain")):
        recorder = GradientRecorder(tmp_path / name, 1)
        x, y = (X, Y) if one is other else (X[2 * BATCH :], Y[2 * BATCH :])
        one.fit(x, y, BATCH, shuffle=False, verbose=0, callbacks=[recorder])
    of_stopped, of_plain = recorded(tmp_path / "stopped"), recorded(tmp_path / "plain")
    assert list(of_stopped) == [1]  # the update that had begun before is left out
    assert of_stopped[1] == of_plain[1]


def test_many_short_fits_give_no_warning_of_retracing(caplog, tmp_path):
    model, _ = counted()
    with caplog.at_level(logging.WARNING, logger=tf.get_logger().name):
        for _ in range(7):
            fit(model, GradientRecorder(tmp_path, 1), batches=1)
    assert "retracing" not in caplog.text
    assert sorted(recorded(tmp_path)) == list(range(7))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_compiled_step_of_ones_own_runs_without_taps_while_none_is_due(
    jit_compile, expected, tmp_path
):
    (model, layer), (plain, _) = counted(jit_compile=jit_compile), counted(jit_compile=jit_compile)
    recorders = [GradientRecorder(tmp_path / str(every), every) for every in (3, 5)]
    callbacks = keras.callbacks.CallbackList(recorders, model=model)
    mean_square = keras.losses.MeanSquaredError()

    def step_of(model):
        @tf.function(jit_compile=jit_compile)
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = mean_square(y, model(x, training=True))
            variables = model.trainable_variables
            model.optimizer.apply(tape.gradient(loss, variables), variables)

        model.optimizer.build(model.trainable_variables)
        return step

    own = step_of(model)
    callbacks.on_train_begin()
    step = own
    for recorder in recorders[: 1 if jit_compile else 2]:
        step = recorder.recorded(step)
    layer.calls, plain_step = 0, step_of(plain)
    for number, batch in enumerate(2 * BATCHES[:4]):
        callbacks.on_train_batch_begin(number)
        step(*map(tf.constant, batch))
        callbacks.on_train_batch_end(number)
        plain_step(*map(tf.constant, batch))
    callbacks.on_train_end()
    assert layer.calls == 2
    for weights, others in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, others)
    assert_recorded(tmp_path / "3", [0, 3, 6], expected)
    if not jit_compile:
        assert_recorded(tmp_path / "5", [0, 5], expected)
