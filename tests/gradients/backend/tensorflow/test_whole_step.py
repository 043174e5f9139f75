"""Steps that are written as a whole, and steps parts of which run in graphs of their own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import reszoo
from reszoo.accumulator import Accumulator
from reszoo.gradients import load
from reszoo.gradients.backend.tensorflow.whole_step import WholeStep
from tests.gradients.backend.tensorflow.test_passes import Two, X, assert_as_by_hand, fit, small


def in_place(part):
    part()


def in_function(part):
    tf.function(part)()


def in_condition(part):
    tf.cond(tf.random.uniform([]) < 2, lambda: (part(), 1)[1], lambda: 1)


def in_loop(part):
    tf.while_loop(lambda i: i < 1, lambda i: (part(), i + 1)[1], [tf.constant(0)])


class InParts(Two):
    """`Two`, of which the update of each part runs as it is told to.

    Args:
        ways: For the discriminator and the generator, a function that calls another.
    """

    def __init__(self, *ways):
        self.ways = ways
        super().__init__()

    def train_step(self, x):
        def of_discriminator():
            weights = self.discriminator.trainable_variables
            with tf.GradientTape() as tape:
                loss = self.losses_of(x)
            self.d_optimizer.apply(tape.gradient(loss, weights), weights)

        def of_generator():
            weights = self.generator.trainable_variables
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self.discriminator(self.generator(x)) - 1) ** 2)
            self.g_optimizer.apply(tape.gradient(loss, weights), weights)

        for way, part in zip(self.ways, (of_discriminator, of_generator), strict=True):
            way(part)
        return {"loss": tf.constant(0.0)}


def built(*ways):
    """Returns a model whose optimizers need no variable that is made in a function."""
    model = InParts(*ways)
    model.g_optimizer.build(model.generator.trainable_variables)
    model.d_optimizer.build(model.discriminator.trainable_variables)
    return model


WAYS = [in_function, in_condition, in_loop]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.filterwarnings("ignore:.*the loss of a recorded step is left out")
def test_parts_in_graphs_of_their_own_are_as_in_place(way, first, tmp_path):
    ways = (way, in_place) if first else (in_place, way)
    assert_as_by_hand(fit(built(*ways), tmp_path))


def taps_of(model, log_dir, **options):
    """Returns the taps with which a fit was recorded, and its table."""
    recorder = reszoo.GradientRecorder(log_dir, every_steps=1)
    taps = []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: taps.append(recorder._training.taps)
    )
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=False, **options)
    model.fit(X, X, batch_size=8, shuffle=False, verbose=0, callbacks=[recorder, keep])
    return taps[0], load(str(log_dir))


def test_a_fit_is_recorded_as_a_whole_and_as_eagerly_or_on_a_replica(tmp_path):
    keras.utils.set_random_seed(0)
    model = small("a")
    weights = model.get_weights()
    taps, found = taps_of(model, tmp_path / "whole")
    assert not taps._step.uses_variables
    model.set_weights(weights)
    taps, eagerly = taps_of(model, tmp_path / "eager", run_eagerly=True)
    assert taps._step.uses_variables
    with tf.distribute.MirroredStrategy(["CPU:0"]).scope():
        mirrored = small("a")
        mirrored.set_weights(weights)
        taps, on_replica = taps_of(mirrored, tmp_path / "replica")
    assert not taps._step.uses_variables
    for other in (eagerly, on_replica):
        np.testing.assert_allclose(other.value, found.value, rtol=1e-5)


def whole_step(handed_over=None):
    """Returns two accumulators, of sums and of maxima, and a step of them."""
    accumulators = [Accumulator([2]), Accumulator([1], maximum=True)]
    hand_over = handed_over.append if handed_over is not None else pytest.fail
    return accumulators, WholeStep(accumulators, 1, lambda: hand_over("hand over"))


def test_a_whole_step_is_written_by_itself():
    (sums, maxima), step = whole_step()

    @tf.function
    def run(x):
        step.begin(is_possible=True)
        step.add(sums, tf.stack([x, 2 * x]))
        step.add(sums, tf.stack([x, x]), (False, False))
        step.add(sums, tf.stack([x, x]), (True, False))
        step.put(sums, [[1]], [step.value(sums)[1] + 100])
        step.add(maxima, x[None])
        step.add(maxima, x[None] / 2)
        step.end(tf.constant(1), [7.0])
        step.leave()

    run(tf.constant(4.0, tf.float64))
    assert not step.uses_variables
    assert not sums.variable.numpy().any()
    assert list(step.take()) == [1, 7, 8, 112, 4]
    assert list(step.take()) == [0, 0, 0, 0, 0]
    run(tf.constant(1.0, tf.float64))
    run(tf.constant(1.0, tf.float64))
    assert list(step.take()) == [1, 7, 2, 103, 1]


def test_a_later_turn_replaces_the_sums():
    (sums, _), step = whole_step()

    @tf.function
    def run(x):
        step.begin(is_possible=True)
        step.add(sums, x, (True, False))
        step.add(sums, 2 * x, (True, True))
        step.end(tf.constant(1), [0.0])
        step.leave()

    run(tf.constant([1.0, 3.0], tf.float64))
    assert list(step.take()) == [1, 0, 2, 6, 0]


def test_from_the_first_condition_on_variables_are_added_to():
    handed_over = []
    (sums, maxima), step = whole_step(handed_over)

    @tf.function
    def run(x, condition):
        step.begin(is_possible=True)
        step.add(sums, tf.stack([x, x]))
        step.add(maxima, x[None])
        if condition:
            step.add(sums, tf.stack([x, x]))
            step.add(maxima, 2 * x[None])
        step.add(sums, tf.stack([x, x]))
        step.end(tf.constant(1), [0.0])
        step.leave()

    run(tf.constant(1.0, tf.float64), tf.constant(True))
    assert step.uses_variables
    assert handed_over == ["hand over"]
    assert list(sums.variable.numpy()) == [3, 3]
    assert maxima.variable.numpy() == [[2]]
    assert not step.take().any()
    sums.variable.assign([0, 0])
    run(tf.constant(1.0, tf.float64), tf.constant(False))
    assert list(sums.variable.numpy()) == [2, 2]


def test_no_step_that_runs_eagerly_is_whole():
    (sums, _), step = whole_step()
    step.begin(is_possible=True)
    step.add(sums, tf.constant([1.0, 2.0], tf.float64))
    step.end(tf.constant(1), [0.0])
    step.leave()
    assert step.uses_variables
    assert list(sums.variable.numpy()) == [1, 2]
    assert not step.take().any()
