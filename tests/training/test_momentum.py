"""`SGD` of one kernel against the rule written out, and against Keras's."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo.training.momentum import SGD

RATE, MOMENTUM = 0.1, 0.9


def by_hand(weight, gradients, nesterov):
    """Returns the weight after an update by each gradient."""
    moment = np.zeros_like(weight)
    for gradient in gradients:
        moment = MOMENTUM * moment - RATE * gradient
        weight = weight + (MOMENTUM * moment - RATE * gradient if nesterov else moment)
    return weight


def updated(optimizer, gradients, dtype="float64", around=lambda f: f):
    weight = keras.Variable(np.linspace(-1, 1, 6).reshape(2, 3), dtype=dtype)
    optimizer.build([weight])

    def apply(gradient):
        optimizer.apply([gradient], [weight])

    apply = around(apply)
    for gradient in gradients:
        apply(tf.constant(gradient, dtype))
    return weight.numpy().astype("float64")


@pytest.fixture
def gradients():
    return np.random.default_rng(0).normal(size=(4, 2, 3))


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("around", [lambda f: f, tf.function, "xla"], ids=["eager", "graph", "xla"])
def test_the_update_is_that_of_the_rule(nesterov, around, gradients):
    if around == "xla":
        around = tf.function(jit_compile=True)
    ours = updated(SGD(RATE, MOMENTUM, nesterov), gradients, around=around)
    expected = by_hand(np.linspace(-1, 1, 6).reshape(2, 3), gradients, nesterov)
    # Keras keeps the rate and the momentum in float32.
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "options",
    [
        {"nesterov": True, "weight_decay": 0.1},
        {"clipnorm": 0.5},
        {"gradient_accumulation_steps": 2},
        {"use_ema": True, "ema_momentum": 0.5},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_option_does_what_it_does_for_keras(options, dtype, gradients):
    ours = updated(SGD(RATE, MOMENTUM, **options), gradients, dtype)
    theirs = updated(keras.optimizers.SGD(RATE, MOMENTUM, **options), gradients, dtype)
    tolerance = 1e-6 if dtype == "float32" else 2e-2
    np.testing.assert_allclose(ours, theirs, tolerance, tolerance)


def test_without_momentum_and_for_sparse_gradients_the_update_is_keras_own():
    for momentum in (0.0, MOMENTUM):
        weights = []
        for kind in (SGD, keras.optimizers.SGD):
            weight = keras.Variable(np.ones((4, 2)), dtype="float32")
            optimizer = kind(RATE, momentum)
            for _ in range(2):
                sparse = tf.IndexedSlices(tf.ones((1, 2)), tf.constant([2]), tf.constant([4, 2]))
                optimizer.apply([sparse if momentum == 0 else tf.ones((4, 2))], [weight])
            weights.append(weight.numpy())
        np.testing.assert_allclose(*weights, rtol=1e-6)


def test_a_step_is_one_operation_a_weight():
    weight = keras.Variable(np.ones((4, 2)), dtype="float32")
    optimizer = SGD(RATE, MOMENTUM)
    optimizer.build([weight])
    step = tf.function(lambda: optimizer.apply([tf.ones((4, 2))], [weight]))
    kinds = [node.type for node in step.get_concrete_function().graph.get_operations()]
    assert kinds.count("ResourceApplyKerasMomentum") == 1
    assert "Sub" not in kinds


def test_copies_of_a_weight_made_before_an_update_keep_their_values():
    weight = keras.Variable(np.ones((4, 2)), dtype="float32")
    optimizer = SGD(1.0, MOMENTUM)
    optimizer.build([weight])

    @tf.function
    def step():
        before = tf.identity(weight.value)
        optimizer.apply([tf.ones((4, 2))], [weight])
        return before, weight.value - before

    before, update = step()
    np.testing.assert_array_equal(before, np.ones((4, 2)))
    np.testing.assert_array_equal(update, -np.ones((4, 2)))


def test_replicas_update_their_own_copies():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    results = []
    for kind in (SGD, keras.optimizers.SGD):
        with strategy.scope():
            weight = keras.Variable(np.ones(3), dtype="float32")
            optimizer = kind(RATE, MOMENTUM, nesterov=True)
            optimizer.build([weight])

        update = functools.partial(optimizer.apply, [tf.ones(3)], [weight])
        step = tf.function(functools.partial(strategy.run, update), autograph=False)
        step()
        step()
        results.append(
            [value.numpy() for value in strategy.experimental_local_results(weight.value)]
        )
    np.testing.assert_allclose(*results, rtol=1e-6)


def test_a_saved_optimizer_of_keras_goes_on_with_it_and_the_other_way_round():
    mine, theirs = (kind(RATE, MOMENTUM, name="sgd") for kind in (SGD, keras.optimizers.SGD))
    weight = keras.Variable(np.ones(3), dtype="float32")
    theirs.apply([tf.ones(3)], [weight])
    mine.build([weight])
    assert [v.path for v in mine.variables] == [v.path for v in theirs.variables]
    store = {}
    theirs.save_own_variables(store)
    mine.load_own_variables(store)
    np.testing.assert_array_equal(mine.momentums[0], theirs.momentums[0])
    assert mine.get_config() == theirs.get_config()
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(mine))
    assert type(copy) is SGD
