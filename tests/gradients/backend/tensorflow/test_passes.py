"""Steps of several backward passes, updates or optimizers: what is exact, or NaN and a warning."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import reszoo
from reszoo import ResidualBlock
from reszoo.gradients import load
from reszoo.gradients.log.reader import losses
from tests.gradients.devices import two_devices

X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
RATE = 0.05


def small(name):
    """Returns a model of one block."""
    block = ResidualBlock([layers.Dense(4, "tanh", name=f"{name}_dense")], name=name)
    return keras.Sequential([keras.Input((4,)), block, layers.Dense(4)], name=f"of_{name}")


def norm(tensors):
    return np.sqrt(sum(np.sum(t.numpy().astype(float) ** 2) for t in tensors))


def of_paths(block, x, loss_of):
    """Returns the norms of `g_skip` and `g_branch` at a block, the first layer, by a tape."""
    skip, branch = tf.identity(x), tf.identity(x)
    with tf.GradientTape() as tape:
        tape.watch([skip, branch])
        loss = loss_of(block.shortcut(skip) + block.branch(branch))
    return [norm([g]) for g in tape.gradient(loss, [skip, branch])]


class Two(keras.Model):
    """A generator and a discriminator."""

    def __init__(self, **options):
        super().__init__()
        keras.utils.set_random_seed(1)
        self.generator, self.discriminator = small("g"), small("d")
        self.compile(**options)

    def compile(self, optimizer=None, **options):
        super().compile(jit_compile=False, **options)
        optimizer = optimizer or (lambda rate: keras.optimizers.SGD(rate))
        self.g_optimizer, self.d_optimizer = optimizer(RATE), optimizer(2 * RATE)

    def losses_of(self, x):
        fake = self.generator(x)
        return tf.reduce_mean((self.discriminator(x) - 1) ** 2) + tf.reduce_mean(
            self.discriminator(fake) ** 2
        )

    def train_step(self, x):
        d_weights, g_weights = (
            part.trainable_variables for part in (self.discriminator, self.generator)
        )
        with tf.GradientTape() as tape:
            loss = self.d_optimizer.scale_loss(self.losses_of(x))
        self.d_optimizer.apply(tape.gradient(loss, d_weights), d_weights)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((self.discriminator(self.generator(x)) - 1) ** 2)
            loss = self.g_optimizer.scale_loss(loss)
        self.g_optimizer.apply_gradients(
            zip(tape.gradient(loss, g_weights), g_weights, strict=True)
        )
        return {"loss": loss}


def by_hand():
    """Returns the norms of a step of `Two`, by tapes."""
    model = Two()
    g, d = model.generator, model.discriminator
    found = {}
    with tf.GradientTape() as tape:
        loss = model.losses_of(X)
    gradients = tape.gradient(loss, [v.value for v in d.trainable_variables])
    fake = g(X)
    both = tf.concat([X, fake], axis=0)  # a block called twice is that called with both

    def loss_of_both(y):
        real, fake = tf.split(d.layers[1](y), 2)
        return tf.reduce_mean((real - 1) ** 2) + tf.reduce_mean(fake**2)

    skip, branch = of_paths(d.layers[0], both, loss_of_both)
    found["d"] = {"skip": skip, "branch": branch, "weights": norm(gradients[:2])}
    for weight, gradient in zip(d.trainable_variables, gradients, strict=True):
        weight.assign_sub(2 * RATE * gradient)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((d(g(X)) - 1) ** 2)
    gradients = tape.gradient(loss, [v.value for v in g.trainable_variables])
    skip, branch = of_paths(g.layers[0], X, lambda y: tf.reduce_mean((d(g.layers[1](y)) - 1) ** 2))
    found["g"] = {"skip": skip, "branch": branch, "weights": norm(gradients[:2])}
    return found


def assert_as_by_hand(found):
    """Holds the statistics of a recorded step of `Two` to those by tapes."""
    for block, expected in by_hand().items():
        rate = {"g": RATE, "d": 2 * RATE}[block]
        assert found[block]["skip_gradient_norm"] == pytest.approx(expected["skip"], rel=1e-4)
        assert found[block]["branch_gradient_norm"] == pytest.approx(expected["branch"], rel=1e-4)
        assert found[block]["weight_gradient_norm"] == pytest.approx(expected["weights"], rel=1e-4)
        assert found[block]["update_norm"] == pytest.approx(rate * expected["weights"], rel=1e-3)


def fit(model, log_dir, *data, **options):
    recorder = reszoo.GradientRecorder(log_dir, every_steps=1, **options)
    model.fit(*data or (X,), batch_size=8, shuffle=False, verbose=0, callbacks=[recorder])
    table = load(str(log_dir))
    table = table[table.step == 0]
    return {
        block: dict(zip(rows.statistic, rows.value, strict=True))
        for block, rows in table.groupby("block", observed=True)
    }


def loss_scaled(rate):
    return keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(rate))


OPTIONS = {
    "function": {},
    "eager": {"run_eagerly": True},
    "loss scale": {"optimizer": loss_scaled},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_each_of_two_optimizers_updates_its_own(options, tmp_path):
    # The discriminator's paths are those of its own loss, not of the generator's through it.
    with pytest.warns(UserWarning, match="the loss of a recorded step is left out"):
        found = fit(Two(**options), tmp_path)
    assert losses(str(tmp_path)) == {}
    assert_as_by_hand(found)


def test_training_of_two_is_bit_for_bit_the_same(tmp_path):
    plain, recorded = Two(run_eagerly=True), Two(run_eagerly=True)
    plain.fit(X, batch_size=8, epochs=2, verbose=0)
    recorder = reszoo.GradientRecorder(tmp_path, every_steps=1)
    with pytest.warns(UserWarning, match="one backward pass that all blocks are recorded of"):
        recorded.fit(X, batch_size=8, epochs=2, verbose=0, callbacks=[recorder])
    for part in ("generator", "discriminator"):
        of_plain, of_recorded = (getattr(m, part).get_weights() for m in (plain, recorded))
        for expected, weight in zip(of_plain, of_recorded, strict=True):
            np.testing.assert_array_equal(weight, expected)


class Stepping(keras.Model):
    """A model of one block, whose training step is a test's."""

    def __init__(self, step, optimizer=None, **options):
        super().__init__()
        keras.utils.set_random_seed(1)
        self.chain, self.step = small("b"), step
        self.compile(optimizer or keras.optimizers.SGD(RATE), jit_compile=False, **options)

    def call(self, x):
        return self.chain(x)

    def loss_of(self, x):
        return tf.reduce_mean(self(x) ** 2)

    def train_step(self, x):
        weights = self.chain.trainable_variables
        self.step(self, x, weights)
        return {"loss": tf.constant(0.0)}


def gradients_of(model, x, weights):
    with tf.GradientTape() as tape:
        loss = model.loss_of(x)
    return tape.gradient(loss, weights)


def sharpness_aware(model, x, weights):
    ascent = gradients_of(model, x, weights)
    for weight, gradient in zip(weights, ascent, strict=True):
        weight.assign_add(gradient)
    gradients = gradients_of(model, x, weights)
    for weight, gradient in zip(weights, ascent, strict=True):
        weight.assign_sub(gradient)
    model.optimizer.apply(gradients, weights)


def before_the_pass(ascend):
    model = Stepping(None)
    weights = model.chain.trainable_variables
    if ascend:
        for weight, gradient in zip(weights, gradients_of(model, X, weights), strict=True):
            weight.assign_add(gradient)
    return model


def loss_by_hand(ascend):
    return float(before_the_pass(ascend).loss_of(X))


def plain_by_hand(ascend):
    model = before_the_pass(ascend)
    weights = model.chain.trainable_variables
    block, head = model.chain.layers
    skip, branch = of_paths(block, X, lambda y: tf.reduce_mean(head(y) ** 2))
    return skip, branch, norm(gradients_of(model, X, weights)[:2])


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}], ids=str)
def test_of_several_passes_the_last_is_recorded_with_a_warning(options, tmp_path):
    with pytest.warns(UserWarning, match=r"several backward passes reached 1 of the blocks \(b\)"):
        found = fit(Stepping(sharpness_aware, **options), tmp_path)["b"]
    # That of the pass which is recorded, after the ascent.
    assert losses(str(tmp_path))[0] == pytest.approx(loss_by_hand(ascend=True), rel=1e-5)
    skip, branch, weights = plain_by_hand(ascend=True)
    assert found["skip_gradient_norm"] == pytest.approx(skip, rel=1e-5)
    assert found["branch_gradient_norm"] == pytest.approx(branch, rel=1e-5)
    assert found["weight_gradient_norm"] == pytest.approx(weights, rel=1e-5)


def test_a_penalty_of_the_input_s_gradient_is_no_pass_of_its_own(tmp_path):
    def penalized(model, x, weights):
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                inner.watch(x)
                y = model(x)
            penalty = tf.reduce_mean(inner.gradient(y, x) ** 2)
            loss = model.loss_of(x) + 0.0 * penalty
        model.optimizer.apply(outer.gradient(loss, weights), weights)

    found = fit(Stepping(penalized), tmp_path)["b"]
    assert losses(str(tmp_path))[0] == pytest.approx(loss_by_hand(ascend=False), rel=1e-6)
    skip, branch, weights = plain_by_hand(ascend=False)
    assert found["skip_gradient_norm"] == pytest.approx(skip, rel=1e-5)
    assert found["branch_gradient_norm"] == pytest.approx(branch, rel=1e-5)
    assert found["weight_gradient_norm"] == pytest.approx(weights, rel=1e-5)


FACTOR = tf.constant(0.5)
# The target of a pass, its `output_gradients`, and the factor of the mean square in what is
# differentiated; `None` where that is not known.
TARGETS = {
    "a scalar": (tf.reduce_mean, None, 1.0),
    "a loss for each value": (tf.identity, None, 32.0),
    "several losses": (lambda x: [tf.reduce_mean(x), {"other": 2 * tf.reduce_mean(x)}], None, 3.0),
    "a part of the gradient": (tf.reduce_mean, FACTOR, 0.5),
    "from a tensor on": (tf.identity, tf.fill([8, 4], 0.5), None),
}


def test_the_loss_is_what_the_pass_differentiates(tmp_path):
    for name, (target_of, output_gradients, factor) in TARGETS.items():

        def step(model, x, weights, target_of=target_of, output_gradients=output_gradients):
            with tf.GradientTape() as tape:
                target = target_of(model(x) ** 2)
            model.optimizer.apply(tape.gradient(target, weights, output_gradients), weights)

        expected = {} if factor is None else {0: factor * loss_by_hand(ascend=False)}
        is_told = pytest.warns(UserWarning, match="loss of a recorded step is left out")
        with is_told if factor is None else contextlib.nullcontext():
            fit(Stepping(step, run_eagerly=True), tmp_path / name)
        assert losses(str(tmp_path / name)) == pytest.approx(expected, rel=1e-6), name


def test_more_passes_than_are_kept_leave_out_the_loss(tmp_path):
    def nine(model, x, weights):
        for _ in range(9):
            gradients = gradients_of(model, x, weights)
        model.optimizer.apply(gradients, weights)

    with (
        pytest.warns(UserWarning, match="several backward passes"),
        pytest.warns(UserWarning, match="loss of a recorded step is left out"),
    ):
        fit(Stepping(nine, run_eagerly=True), tmp_path)
    assert losses(str(tmp_path)) == {}


def by_hand_update(model, x, weights):
    for weight, gradient in zip(weights, gradients_of(model, x, weights), strict=True):
        weight.assign_sub(RATE * gradient)


def test_an_update_by_hand_is_not_seen_and_said_to_be_so(tmp_path):
    with pytest.warns(UserWarning, match="no optimizer's apply was given 4 of the weights"):
        found = fit(Stepping(by_hand_update), tmp_path, alarms=[reszoo.gradients.NonFinite()])["b"]
    for name in ("weight_gradient_norm", "weight_norm", "update_norm", "weight_gradient_nonfinite"):
        assert np.isnan(found[name])
    assert found["skip_gradient_norm"] == pytest.approx(plain_by_hand(ascend=False)[0], rel=1e-5)
    assert not reszoo.gradients.read_findings(str(tmp_path))


def test_weights_that_no_optimizer_is_given_are_told_from_frozen_ones(tmp_path):
    def head_alone(model, x, weights):
        weights = model.chain.layers[1].trainable_variables
        model.optimizer.apply(gradients_of(model, x, weights), weights)

    model = Stepping(head_alone)
    with pytest.warns(UserWarning, match=r"2 of the weights \(.*b_dense/kernel, .*b_dense/bias\)"):
        assert np.isnan(fit(model, tmp_path / "left out")["b"]["update_norm"])
    model = Stepping(head_alone)
    model.chain.layers[0].trainable = False
    assert fit(model, tmp_path / "frozen")["b"]["update_norm"] == 0


def test_an_optimizer_made_in_the_step_is_seen(tmp_path):
    found = []

    def lazily(model, x, weights):
        if not found:
            found.append(keras.optimizers.SGD(3 * RATE))
        found[0].apply(gradients_of(model, x, weights), weights)

    of_block = fit(Stepping(lazily), tmp_path)["b"]
    weights = plain_by_hand(ascend=False)[2]
    assert of_block["update_norm"] == pytest.approx(3 * RATE * weights, rel=1e-4)


def test_of_several_updates_the_last_is_recorded_with_a_warning(tmp_path):
    def twice(model, x, weights):
        for factor in (1.0, 0.0):
            gradients = [factor * g for g in gradients_of(model, x, weights)]
            model.optimizer.apply(gradients, weights)

    with pytest.warns(UserWarning, match="several") as warned:
        found = fit(Stepping(twice), tmp_path)["b"]
    assert sum("several" in str(warning.message) for warning in warned) == 2
    assert found["update_norm"] == found["weight_gradient_norm"] == 0


def test_two_devices_see_the_same_passes(tmp_path):
    def second_of_two(model, x, weights):
        gradients_of(model, x, weights)
        gradients = [0.5 * gradient for gradient in gradients_of(model, x, weights)]
        model.optimizer.apply(gradients, weights)

    with two_devices().scope():
        model = Stepping(second_of_two)
    with pytest.warns(UserWarning, match="several backward passes reached"):
        found = fit(model, tmp_path)["b"]
    skip, _, weights = plain_by_hand(ascend=False)
    # Each device takes the mean over its own half, and has half of the batch's gradient to be sum.
    assert found["weight_gradient_norm"] == pytest.approx(weights, rel=1e-5)
    assert found["skip_gradient_norm"] == pytest.approx(2 * skip, rel=1e-5)


def test_a_block_that_a_step_does_not_run_is_not_recorded_as_zero(tmp_path):
    class Sometimes(Stepping):
        def loss_of(self, x):
            return tf.reduce_mean(self.chain.layers[1](x) ** 2)

    with pytest.warns(UserWarning, match=r"no backward pass reached 1 of the blocks \(b\)"):
        found = fit(
            Sometimes(
                lambda model, x, weights: model.optimizer.apply(
                    gradients_of(model, x, weights[2:]), weights[2:]
                )
            ),
            tmp_path,
            statistics=["paths"],
        )["b"]
    assert np.isnan(found["skip_gradient_norm"])
    assert np.isnan(found["skip_gradient_nonfinite"])


def test_an_optimizer_of_what_is_no_weight_of_the_model_is_left_alone(tmp_path):
    factor, other = keras.Variable(1.0), keras.optimizers.SGD(RATE)

    def also_a_factor(model, x, weights):
        other.apply([tf.constant(1.0)], [factor])
        model.optimizer.apply(gradients_of(model, x, weights), weights)

    found = fit(Stepping(also_a_factor), tmp_path)["b"]
    assert found["weight_gradient_norm"] == pytest.approx(plain_by_hand(ascend=False)[2], rel=1e-5)
    assert factor.numpy() == pytest.approx(1 - RATE)


def test_what_another_way_of_differentiating_passes_by_is_not_recorded_as_zero(tmp_path):
    def without_a_tape(model, x, weights):
        gradients = tf.gradients(model.loss_of(x), [weight.value for weight in weights])
        model.optimizer.apply(gradients, weights)

    with pytest.warns(UserWarning, match=r"not differentiated by a tf\.GradientTape"):
        found = fit(Stepping(without_a_tape, run_eagerly=False), tmp_path)["b"]
    assert np.isnan(found["skip_gradient_norm"])
    assert found["weight_gradient_norm"] == pytest.approx(plain_by_hand(ascend=False)[2], rel=1e-5)
