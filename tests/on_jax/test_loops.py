"""Steps of a loop of one's own on JAX, several devices, and what cannot be recorded there."""

from pathlib import Path

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import reszoo
from reszoo import ResidualBlock
from reszoo.gradients.backend.jax.passes import _loss_of
from reszoo.gradients.backend.jax.reductions import in_double
from reszoo.gradients.log.reader import losses
from tests.children import blocks_on, free_port, run_two_processes
from tests.gradients.dense import (
    BATCH,
    BATCHES,
    LABELS,
    LOSS,
    X,
    assert_recorded,
    dense_model,
    recorded,
    sgd,
)
from tests.on_jax.by_hand import training_by_hand

DOCUMENT = Path(__file__).parents[2] / "docs" / "own_loop.md"


@pytest.fixture(scope="module")
def by_hand():
    return training_by_hand(dense_model(), sgd(), BATCHES, LOSS)


def values_of(model):
    parts = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
    return tuple([jnp.array(v.value) for v in part] for part in parts)


def loop(model, log_dir, batches=BATCHES, begin=None, **options):
    """Trains by a step in a loop; returns the state, recorded if there is a directory for it."""
    if not model.compiled:
        model.compile(sgd(**options), LOSS)
        model.optimizer.build(model.trainable_variables)

    def loss_and_updates(trainable, non_trainable, x, y):
        logits, non_trainable = model.stateless_call(trainable, non_trainable, x, training=True)
        return model.optimizer.scale_loss(LOSS(y, logits)), non_trainable

    gradient_of = jax.value_and_grad(loss_and_updates, has_aux=True)

    @jax.jit
    def train_step(state, x, y):
        trainable, non_trainable, of_optimizer = state
        (loss, non_trainable), grads = gradient_of(trainable, non_trainable, x, y)
        trainable, of_optimizer = model.optimizer.stateless_apply(of_optimizer, grads, trainable)
        return loss, (trainable, non_trainable, of_optimizer)

    recorders = [reszoo.GradientRecorder(log_dir, 1)] if log_dir else []
    callbacks = keras.callbacks.CallbackList(recorders, model=model)
    callbacks.on_train_begin()
    step = recorders[0].recorded(train_step) if log_dir else train_step
    state = values_of(model)
    for number, (x, y) in enumerate(batches):
        callbacks.on_train_batch_begin(number)
        _, state = step(state, x, y)
        callbacks.on_train_batch_end(number)
    callbacks.on_train_end()
    return state


def synced(model, state):
    parts = (model.trainable_variables, model.non_trainable_variables, model.optimizer.variables)
    for part, values in zip(parts, state, strict=True):
        for variable, value in zip(part, values, strict=True):
            variable.assign(value)


def test_a_loop_of_ones_own_is_recorded_and_goes_on(by_hand, tmp_path):
    model = dense_model()
    first = loop(model, tmp_path, BATCHES[:2])
    synced(model, first)
    state = loop(model, tmp_path, BATCHES[2:])
    assert_recorded(tmp_path, by_hand)
    plain = loop(dense_model(), None)
    for value, without in zip(jax.tree.leaves(state), jax.tree.leaves(plain), strict=True):
        np.testing.assert_array_equal(value, without)


def test_accumulated_batches_of_a_loop_are_one_step(by_hand, tmp_path):
    half = BATCH // 2
    halves = [(x[i : i + half], y[i : i + half]) for x, y in BATCHES[:2] for i in (0, half)]
    loop(dense_model(), tmp_path, halves, gradient_accumulation_steps=2)
    assert_recorded(tmp_path, by_hand, [0, 1])


def test_a_recorded_step_within_jit_is_refused(tmp_path):
    model = dense_model()
    model.compile(sgd(), LOSS)
    model.optimizer.build(model.trainable_variables)
    recorder = reszoo.GradientRecorder(tmp_path, 1)
    callbacks = keras.callbacks.CallbackList([recorder], model=model)
    callbacks.on_train_begin()
    step = recorder.recorded(lambda state: state)
    callbacks.on_train_batch_begin(0)
    with pytest.raises(ValueError, match=r"inside jax\.jit.*recorded\(jax\.jit\(step\)\)"):
        jax.jit(step)(values_of(model))
    with pytest.raises(ValueError, match="must be a tuple of the values of"):
        step(values_of(model)[0])
    recorder.close()


def test_the_python_of_the_document_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = blocks_on("jax", DOCUMENT.read_text())
    assert blocks
    for block in blocks:
        exec(block, {})
    assert sorted(recorded(tmp_path / "runs" / "jax")) == [0, 2]


class InLoop(keras.Model):
    """A model whose step differentiates in a loop on the device."""

    def train_step(self, state, data):
        trainable, non_trainable, of_optimizer, metrics = state
        x, y = data

        def of_part(total, part):
            def loss(trainable):
                logits, _ = self.stateless_call(trainable, non_trainable, part[0])
                return LOSS(part[1], logits)

            return jax.tree.map(jnp.add, total, jax.grad(loss)(trainable)), None

        parts = (x.reshape(2, -1, 6), y.reshape(2, -1))
        grads, _ = jax.lax.scan(of_part, jax.tree.map(jnp.zeros_like, trainable), parts)
        trainable, of_optimizer = self.optimizer.stateless_apply(of_optimizer, grads, trainable)
        return {}, (trainable, non_trainable, of_optimizer, metrics)


def in_loop():
    inputs = x = keras.Input((6,))
    for layer in dense_model().layers:
        x = layer(x)
    return InLoop(inputs, x)


def test_a_gradient_in_a_loop_on_the_device_is_nan_with_a_warning(tmp_path):
    model = in_loop()
    model.compile(sgd(), LOSS)
    recorder = reszoo.GradientRecorder(tmp_path, 1)
    with pytest.warns(UserWarning, match=r"no backward pass reached 3 of the blocks.*lax\.scan"):
        model.fit(X[:BATCH], LABELS[:BATCH], BATCH, verbose=0, callbacks=[recorder])
    found = recorded(tmp_path)[0]["identity"]
    assert np.isnan(found["skip_gradient_norm"])
    assert np.isnan(found["output_gradient_norm"])
    assert found["weight_gradient_norm"] > 0


class Penalized(keras.Model):
    """A model whose loss has the gradient of its output by its input."""

    def compute_loss_and_updates(self, trainable, non_trainable, metrics, x, y, *args, **kwargs):
        def output(x):
            return jnp.sum(self.stateless_call(trainable, non_trainable, x)[0] ** 2)

        penalty = jnp.mean(jax.grad(output)(x) ** 2)
        loss, others = super().compute_loss_and_updates(
            trainable, non_trainable, metrics, x, y, *args, **kwargs
        )
        return loss + penalty, others


def test_a_penalty_on_a_gradient_is_recorded_with_the_loss_of_which_it_is_a_part(tmp_path):
    block = ResidualBlock([keras.layers.Dense(6, activation="tanh")], name="b")
    inputs, head = keras.Input((6,)), keras.layers.Dense(3)
    model = Penalized(inputs, head(block(inputs)))
    model.compile(sgd(), LOSS)
    x, labels = jnp.asarray(X[:BATCH]), LABELS[:BATCH]

    def forward(x, skip, branch):
        return head((x + skip) + block.branch(x + branch))

    # The same block runs forward for the penalty and for the loss, so the steps are of two calls.
    def of_calls(steps):
        def output(x):
            return jnp.sum(forward(x, *steps[0]) ** 2)

        penalty = jnp.mean(jax.grad(output)(x) ** 2)
        return LOSS(labels, forward(x, *steps[1])) + penalty

    zero = jnp.zeros(x.shape)
    loss, gradients = jax.value_and_grad(of_calls)([(zero, zero), (zero, zero)])
    skip = np.linalg.norm([np.linalg.norm(of_call[0]) for of_call in gradients])
    recorder = reszoo.GradientRecorder(tmp_path, 1)
    model.fit(X[:BATCH], labels, BATCH, verbose=0, callbacks=[recorder])
    found = recorded(tmp_path)[0]["b"]["skip_gradient_norm"]
    assert found == pytest.approx(skip, rel=1e-4)
    assert losses(str(tmp_path)) == pytest.approx({0: float(loss)}, rel=1e-5)


def test_a_loss_that_the_step_differentiates_by_vjp_is_left_out_with_a_warning(tmp_path):
    model = dense_model()
    model.compile(sgd(), LOSS)
    model.optimizer.build(model.trainable_variables)

    def step(state, x, y):
        def loss_of(trainable):
            return LOSS(y, model.stateless_call(trainable, state[1], x)[0])

        loss, backward = jax.vjp(loss_of, state[0])
        (grads,) = backward(jnp.ones(()))
        trainable, of_optimizer = model.optimizer.stateless_apply(state[2], grads, state[0])
        return loss, (trainable, state[1], of_optimizer)

    recorder = reszoo.GradientRecorder(tmp_path, 1)
    callbacks = keras.callbacks.CallbackList([recorder], model=model)
    callbacks.on_train_begin()
    callbacks.on_train_batch_begin(0)
    recorder.recorded(step)(values_of(model), *BATCHES[0])
    with pytest.warns(UserWarning, match="'dense': the loss of a recorded step is left out"):
        callbacks.on_train_batch_end(0)
    callbacks.on_train_end()
    assert losses(str(tmp_path)) == {}
    assert recorded(tmp_path)[0]["identity"]["skip_gradient_norm"] > 0


@pytest.mark.parametrize(
    ("of_passes", "last", "expected"),
    [
        ([3.0], [-1, -1], 3.0),
        ([3.0, 5.0], [1, -1], 5.0),
        ([3.0, 5.0], [0, 0], 3.0),
        ([3.0, 5.0], [0, 1], None),
        ([3.0, 5.0], [-1, -1], None),
        ([3.0, None], [0, 0], 3.0),
        ([3.0, None], [1, 1], None),
        ([], [-1, -1], None),
    ],
)
def test_of_several_passes_the_loss_is_that_of_the_one_recorded(of_passes, last, expected):
    with in_double():
        found = _loss_of(of_passes, jnp.asarray(last))
    assert (float(found["loss"]) if found["has_loss"] else None) == expected


def data_parallel():
    return keras.distribution.DataParallel(devices=keras.distribution.list_devices())


def model_parallel():
    mesh = keras.distribution.DeviceMesh((2, 2), ["batch", "model"])
    layout = keras.distribution.LayoutMap(mesh)
    layout["(identity|projection|stopped).*kernel"] = (None, "model")
    return keras.distribution.ModelParallel(layout_map=layout, batch_dim_name="batch")


@pytest.mark.parametrize("distribution", [data_parallel, model_parallel])
def test_several_devices_record_what_one_would(distribution, by_hand, tmp_path):
    assert len(jax.devices()) == 4
    weights = []
    for log_dir in (tmp_path, None):
        keras.distribution.set_distribution(distribution())
        model = dense_model()
        model.compile(sgd(), LOSS)
        recorders = [reszoo.GradientRecorder(log_dir, 2)] if log_dir else []
        model.fit(X, LABELS, BATCH, shuffle=False, verbose=0, callbacks=recorders)
        weights.append(model.get_weights())
    assert_recorded(tmp_path, by_hand, steps=[0, 2])
    for value, plain in zip(*weights, strict=True):
        np.testing.assert_array_equal(value, plain)


def test_processes_of_one_training_record_one_batch(by_hand, tmp_path):
    run_two_processes("tests.on_jax.two_processes", str(tmp_path), free_port())
    for kind in ("loop", "fit"):
        assert_recorded(tmp_path / kind, by_hand)
        assert len(list((tmp_path / kind).iterdir())) == 1
