"""Recorders of one fit work together, and with callbacks that change the model's functions."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import reszoo
from reszoo import GradientRecorder
from reszoo.gradients import load
from tests.gradients.tiny import (
    BATCHES,
    assert_recorded,
    by_hand,
    compiled,
    fit,
    recorded,
    tiny,
)


@pytest.fixture(scope="module")
def expected():
    """Two epochs of eight batches."""
    return by_hand(2 * BATCHES)


def assert_same_weights(model, other):
    for weights, others in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(weights, others)


@pytest.mark.parametrize(
    ("often_first", "options"),
    [(True, {}), (False, {}), (False, {"jit_compile": True}), (True, {"run_eagerly": True})],
)
def test_two_recorders_record_side_by_side(often_first, options, expected, tmp_path):
    often = GradientRecorder(tmp_path / "often", 1)
    seldom = GradientRecorder(tmp_path / "seldom", 3, ["paths", "weights", "histograms"])
    model, plain = tiny(**options), tiny(**options)
    fit(model, *((often, seldom) if often_first else (seldom, often)))
    fit(plain)
    assert_same_weights(model, plain)
    assert vars(model).keys() == vars(plain).keys()
    assert_recorded(tmp_path / "often", range(8), expected)
    assert_recorded(tmp_path / "seldom", [0, 3, 6], expected)
    sums = [recorded(tmp_path / name, "input_gradient_norm") for name in ("often", "seldom")]
    assert {step: sums[0][step] for step in sums[1]} == sums[1]


def test_two_recorders_count_executions_of_several_steps_alike(expected, tmp_path):
    recorders = [GradientRecorder(tmp_path / str(every), every) for every in (2, 3)]
    fit(tiny(steps_per_execution=3), *recorders, epochs=2)
    assert_recorded(tmp_path / "2", [0, 4, 6, 8, 12, 14], expected)
    assert_recorded(tmp_path / "3", [0, 3, 6, 9, 12, 15], expected)


@pytest.mark.parametrize("often_first", [True, False])
def test_two_recorders_record_a_loop_of_ones_own(often_first, expected, tmp_path):
    model = tiny()
    often, seldom = (GradientRecorder(tmp_path / str(every), every) for every in (1, 3))
    callbacks = keras.callbacks.CallbackList([often, seldom], model=model)

    def step(x, y):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x, training=True) - y) ** 2)
        variables = model.trainable_variables
        model.optimizer.apply(tape.gradient(loss, variables), variables)

    callbacks.on_train_begin()
    for recorder in (often, seldom) if often_first else (seldom, often):
        step = recorder.recorded(step)
    step = tf.function(step)
    for number, batch in enumerate(BATCHES):
        callbacks.on_train_batch_begin(number)
        step(*map(tf.constant, batch))
        callbacks.on_train_batch_end(number)
    callbacks.on_train_end()
    assert_recorded(tmp_path / "1", range(8), expected)
    assert_recorded(tmp_path / "3", [0, 3, 6], expected)


def graph_model():
    keras.utils.set_random_seed(1)
    x = keras.Input((4,))
    branch = keras.layers.Dense(4, "tanh", name="branch")(x)
    y = keras.layers.Add(name="b")([x, branch])
    return compiled(keras.Model(x, keras.layers.Dense(1, name="head")(y)))


def test_two_searches_of_one_graph_record_side_by_side(tmp_path):
    model, other = graph_model(), graph_model()
    recorders = [
        GradientRecorder(tmp_path / str(every), every, blocks=reszoo.gradients.instrument(model))
        for every in (1, 2)
    ]
    fit(model, *recorders)
    blocks = reszoo.gradients.instrument(other)
    fit(other, GradientRecorder(tmp_path / "alone", 1, blocks=blocks))
    assert_same_weights(model, other)
    alone = load(tmp_path / "alone")
    assert load(tmp_path / "1").equals(alone)
    assert load(tmp_path / "2").equals(alone[alone.step % 2 == 0].reset_index(drop=True))


def test_two_recorders_of_one_directory_are_refused(tmp_path):
    model = tiny()
    with pytest.raises(ValueError, match="Two recorders of the model 'tiny'"):
        fit(model, GradientRecorder(tmp_path, 1), GradientRecorder(tmp_path, 3))
    (tmp_path / "linked").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="Two recorders of the model 'tiny'"):
        fit(model, GradientRecorder(tmp_path / "linked", 1), GradientRecorder(tmp_path, 3))
    fit(model, GradientRecorder(tmp_path, 1), batches=2)
    assert sorted(recorded(tmp_path)) == [0, 1]


class Does(keras.callbacks.Callback):
    """Does something to the model after the fourth batch of the first epoch."""

    def __init__(self, action):
        super().__init__()
        self.action = action

    def on_train_batch_end(self, batch, logs=None):
        if batch == 3 and self.action is not None:
            action, self.action = self.action, None
            action(self.model)


def compiles(model):
    compiled(model, keras.optimizers.SGD(0.01))
    model.make_train_function()


def freezes(model):
    model.get_layer("b").trainable = False
    compiled(model)
    model.make_train_function(force=True)


def wraps_the_train_function(model):
    inner = model.train_function
    model.train_function = lambda iterator: inner(iterator)


def wraps_the_step(model):
    inner = model.train_step
    model.train_step = lambda data: inner(data)
    model.make_train_function(force=True)


ACTIONS = {
    "makes": lambda model: model.make_train_function(force=True),
    "asks": lambda model: model.make_train_function(),
    "compiles": compiles,
    "freezes": freezes,
    "wraps train_function": wraps_the_train_function,
    "wraps train_step": wraps_the_step,
    "evaluates": lambda model: model.evaluate(*BATCHES[0], verbose=0),
    "trains": lambda model: model.train_on_batch(*BATCHES[0]),
    "fits": lambda model: fit(model, batches=1),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_recording_goes_on_whatever_a_callback_does(name, tmp_path):
    model, plain = tiny(), tiny()
    fit(model, Does(ACTIONS[name]), GradientRecorder(tmp_path, 1))
    fit(plain, Does(ACTIONS[name]))
    assert_same_weights(model, plain)
    # What trains on a batch between is recorded as well; a fit of its own, without the recorder,
    # is not, and counts.
    steps = {"trains": range(9), "fits": [0, 1, 2, 3, 5, 6, 7, 8]}.get(name, range(8))
    assert sorted(recorded(tmp_path)) == list(steps)
    assert "_recorded_fit" not in vars(model)


def test_a_train_function_that_leaves_the_recorder_out_is_told(caplog, tmp_path):
    def replaces(model):
        model.train_function = None
        type(model).make_train_function(model)

    fit(tiny(), GradientRecorder(tmp_path, 1), Does(replaces))
    assert sorted(recorded(tmp_path)) == [0, 1, 2, 3]
    assert caplog.text.count("GradientRecorder records nothing") == 1


def test_a_recorder_that_a_callback_closes_leaves_training_alone(tmp_path):
    recorder, model = GradientRecorder(tmp_path, 1), tiny()
    fit(model, recorder, Does(lambda model: recorder.close()))
    assert sorted(recorded(tmp_path)) == [0, 1, 2, 3]
    assert model.optimizer.iterations == 8


class OwnTrainFunction(keras.Sequential):
    """Looks for its step when it runs, not when its function is made."""

    def make_train_function(self, force=False):
        if self.train_function is None or force:
            self.train_function = tf.function(lambda iterator: self.train_step(next(iterator)))


def test_a_train_function_of_ones_own_is_recorded(expected, tmp_path):
    recorders = [GradientRecorder(tmp_path / str(every), every) for every in (1, 2)]
    fit(tiny(kind=OwnTrainFunction), *recorders)
    assert_recorded(tmp_path / "1", range(8), expected)
    assert_recorded(tmp_path / "2", [0, 2, 4, 6], expected)
