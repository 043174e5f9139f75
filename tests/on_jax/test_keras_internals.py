"""Each name of Keras on JAX that is not public still means what is relied on."""

import jax
import keras
import numpy as np
import pytest
from jax.extend.core import get_opaque_trace_state
from keras.src.backend.common.masking import get_keras_mask

from reszoo import keras_internals
from reszoo.gradients.patching import replace


def test_a_train_function_is_made_of_a_step_by_make_function():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=2)
    steps = []
    vars(model)[keras_internals.MAKE_FUNCTION] = steps.append
    try:
        model.make_train_function(force=True)
    finally:
        del vars(model)[keras_internals.MAKE_FUNCTION]
    assert len(steps) == 1
    ran = []

    def step(state, data):
        ran.append(data)
        return data, state + 1

    run = keras_internals.train_function_of(model, step)
    batches = iter("abc")
    assert run(0, batches) == ("b", 2)
    assert run(2, batches) == ("c", 3)
    assert ran == ["a", "b", "c"]


def test_the_state_that_fit_is_to_restore_is_given_to_the_variables_at_its_end():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    before = model.get_weights()

    def run(state, iterator):
        keras_internals.restore_in_fit(model, state)
        raise OSError("stopped")

    class WithRun(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            model.train_function = run

    with pytest.raises(OSError, match="stopped"):
        model.fit(np.ones((2, 2)), np.ones((2, 1)), verbose=0, callbacks=[WithRun()])
    for weights, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, kept)
    assert model.optimizer.iterations == 0


def test_a_counter_and_accumulated_gradients_are_variables_of_the_optimizer():
    weight = keras.Variable([1.0, 2.0])
    inner = keras.optimizers.SGD(1.0, gradient_accumulation_steps=2)
    optimizer = keras.optimizers.LossScaleOptimizer(inner)
    optimizer.build([weight])
    assert keras_internals.optimized_variables(optimizer)[0] is weight
    own = [id(variable) for variable in optimizer.variables]
    assert id(optimizer.dynamic_scale) in own
    assert id(keras_internals.batch_counter(inner)) in own
    assert id(keras_internals.accumulated_gradient(inner, weight)) in own


def test_results_are_float64_on_request():
    with jax.enable_x64(True):
        x = keras.ops.ones(2, "float64")
        assert keras.ops.tanh(x).dtype == "float32"
        with keras_internals.results_in_float64():
            assert keras.ops.tanh(x).dtype == "float64"
        assert keras.ops.tanh(x).dtype == "float32"


def test_a_mask_hangs_on_a_tensor_that_is_traced():
    seen = []

    def function(x):
        x = keras.layers.Masking()(x)
        seen.append(get_keras_mask(keras_internals.hand_on_mask(x, x + 0)) is not None)
        return x

    jax.jit(function)(np.ones((1, 2, 1), np.float32))
    assert seen == [True]


@pytest.mark.parametrize("differentiate", [jax.grad, jax.value_and_grad])
def test_scalars_are_differentiated_by_one_function(differentiate):
    room, name = keras_internals.scalar_vjp()
    original, losses, seeds = getattr(room, name), [], []

    def vjp(function, *primals, **options):
        loss, backward, *aux = original(function, *primals, **options)
        losses.append(float(loss))
        return loss, lambda *cotangents: seeds.append(cotangents) or backward(*cotangents), *aux

    put_back = replace(room, name, vjp)
    try:
        differentiate(lambda x: 3 * x)(2.0)
        differentiate(lambda x: (3 * x, "more"), has_aux=True)(2.0)
    finally:
        put_back()
    if losses != [6.0, 6.0] or len(seeds) != 2:
        pytest.fail(f"{room.__name__}.{name} is not what reszoo relies on: {losses}, {seeds}")


def test_the_state_of_a_trace_tells_functions_within_a_step_apart():
    states = []

    def inner(x):
        states.append(get_opaque_trace_state())
        return x

    def step(x):
        states.append(get_opaque_trace_state())
        jax.jit(inner)(x)
        states.append(get_opaque_trace_state())
        return x

    jax.jit(step)(1.0)
    assert states[0] == states[2] != states[1]
