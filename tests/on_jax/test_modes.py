"""Recorded values on JAX are those of `jax.grad` written by hand, however training runs."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import reszoo
from reszoo import ResidualBlock
from tests.gradients import reversible
from tests.gradients.dense import (
    BATCH,
    BATCHES,
    LABELS,
    LOSS,
    STEPS,
    X,
    assert_recorded,
    dense_layers,
    dense_model,
    recorded,
    sgd,
    with_weights,
)
from tests.on_jax.by_hand import path_gradients, training_by_hand


@pytest.fixture(scope="module")
def by_hand():
    return training_by_hand(dense_model(), sgd(), BATCHES, LOSS)


def trained(log_dir, optimizer=sgd, batch_size=BATCH, every=1, x=X, **options):
    """Returns the weights and the optimizer's state, recorded if there is a directory for it."""
    model = dense_model()
    model.compile(optimizer(), LOSS, **options)
    recorders = [reszoo.GradientRecorder(log_dir, every)] if log_dir else []
    model.fit(x, LABELS[: len(x)], batch_size, shuffle=False, verbose=0, callbacks=recorders)
    return [*model.get_weights(), *(np.asarray(v.value) for v in model.optimizer.variables)]


def loss_scaled():
    return keras.optimizers.LossScaleOptimizer(sgd(), initial_scale=256.0)


MODES = {
    "jit": {},
    "no jit": {"jit_compile": False},
    "eager": {"run_eagerly": True},
    "loss scale factor": {"optimizer": lambda: sgd(loss_scale_factor=128.0)},
    "dynamic loss scale": {"optimizer": loss_scaled},
    "accumulation": {
        "optimizer": lambda: sgd(gradient_accumulation_steps=2),
        "batch_size": BATCH // 2,
    },
    "loss scale and accumulation": {
        "optimizer": lambda: keras.optimizers.LossScaleOptimizer(
            sgd(gradient_accumulation_steps=2)
        ),
        "batch_size": BATCH // 2,
    },
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_records_what_is_found_by_hand(mode, by_hand, tmp_path):
    with_recorder = trained(tmp_path, **MODES[mode])
    assert_recorded(tmp_path, by_hand)
    for value, plain in zip(with_recorder, trained(None, **MODES[mode]), strict=True):
        np.testing.assert_array_equal(value, plain)


def test_several_steps_per_execution_record_one_of_each(by_hand, tmp_path):
    with_recorder = trained(tmp_path, steps_per_execution=2)
    assert_recorded(tmp_path, by_hand, steps=[0, 2])
    for value, plain in zip(with_recorder, trained(None, steps_per_execution=2), strict=True):
        np.testing.assert_array_equal(value, plain)


def test_a_step_in_the_middle_of_an_execution_is_recorded(by_hand, tmp_path):
    # The second execution has one batch, since the data ends in it.
    trained(tmp_path, steps_per_execution=3, every=2)
    assert_recorded(tmp_path, by_hand, steps=[0])
    trained(tmp_path / "other", steps_per_execution=2, every=3)
    assert_recorded(tmp_path / "other", by_hand, steps=[0, 3])


def test_adam_and_its_state_are_the_same_with_a_recorder(tmp_path):
    def adam():
        return keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=2)

    with_recorder = trained(tmp_path, adam)
    for value, plain in zip(with_recorder, trained(None, adam), strict=True):
        np.testing.assert_array_equal(value, plain)


def test_gradients_are_recorded_before_clipping_and_updates_after(by_hand, tmp_path):
    trained(tmp_path, lambda: sgd(global_clipnorm=0.01))
    found = recorded(tmp_path)[0]
    update = np.sqrt(sum(of_block["update_norm"] ** 2 for of_block in found.values()))
    assert 0 < update <= 0.1 * 0.01 * 1.001
    for block, expected in by_hand[0].items():
        of_block = found[block]["weight_gradient_norm"]
        assert of_block == pytest.approx(expected["weight_gradient_norm"], rel=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_records_unscaled_sums(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    gradients = path_gradients(
        dense_model(), X[:BATCH], lambda logits: LOSS(LABELS[:BATCH], logits)
    )
    trained(tmp_path, loss_scaled if policy == "mixed_float16" else sgd)
    # By hand in the same dtype, operation by operation: rounding differs by its 8 or 11 bits.
    rel = 2**-5 if policy == "mixed_bfloat16" else 2**-8
    for block, paths in gradients.items():
        of_block = recorded(tmp_path)[0][block]
        for name, gradient in zip(("skip", "branch", "output"), paths, strict=True):
            expected = np.linalg.norm(gradient.astype("float64"))
            assert of_block[f"{name}_gradient_norm"] == pytest.approx(expected, rel=rel, abs=1e-7)


def test_a_step_skipped_for_overflow_is_recorded_as_such(tmp_path):
    examples = X.copy()
    examples[BATCH] = np.inf
    weights = trained(tmp_path, loss_scaled, x=examples)
    assert all(np.isfinite(array).all() for array in weights)
    found = recorded(tmp_path)
    assert sorted(found) == [0, 1, 2, 3]
    assert found[1]["identity"]["weight_gradient_nonfinite"] > 0
    assert found[1]["identity"]["update_norm"] == 0
    for step in (0, 2, 3):
        assert found[step]["identity"]["weight_gradient_nonfinite"] == 0
        assert found[step]["identity"]["update_norm"] > 0


def test_a_value_that_is_not_finite_is_counted_and_left_out(tmp_path):
    examples = X[:BATCH].copy()
    examples[3] = np.nan
    labels = LABELS[:BATCH]
    skip = path_gradients(dense_model(), examples, lambda y: LOSS(labels, y))["identity"][0]
    trained(tmp_path, lambda: keras.optimizers.SGD(0.0), x=examples)
    # One example of 16 has 6 NaN; the others' gradients are as without it.
    of_block = recorded(tmp_path)[0]["identity"]
    assert of_block["skip_gradient_nonfinite"] == np.sum(~np.isfinite(skip)) == 6
    norm = np.linalg.norm(skip[np.isfinite(skip)])
    assert of_block["skip_gradient_norm"] == pytest.approx(norm, rel=1e-5)


def fitted(model, log_dir, *, x=X, every=1, optimizer=None, **options):
    model.compile(optimizer or sgd(), LOSS, **options)
    recorder = reszoo.GradientRecorder(log_dir, every)
    model.fit(x, LABELS[: len(x)], BATCH, shuffle=False, verbose=0, callbacks=[recorder])


@pytest.mark.parametrize("blocks", [("identity",), ("identity", "projection", "stopped")])
def test_frozen_blocks_still_report_their_paths(blocks, by_hand, tmp_path):
    model = dense_model()
    for block in blocks:
        model.get_layer(block).trainable = False
    fitted(model, tmp_path, every=STEPS)
    for block in blocks:
        of_block, expected = recorded(tmp_path)[0][block], by_hand[0][block]
        for name in ("skip_gradient_norm", "branch_gradient_norm", "output_gradient_norm"):
            assert of_block[name] == pytest.approx(expected[name], rel=1e-5, abs=1e-7)
        assert of_block["weight_gradient_norm"] == of_block["weight_norm"] == 0


@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}], ids=["jit", "eager"])
def test_a_block_called_twice_adds_up_both_calls(options, tmp_path):
    block = ResidualBlock([keras.layers.Dense(6, activation="tanh")], name="shared")
    inputs, head = keras.Input((6,)), keras.layers.Dense(3)
    model = with_weights(keras.Model(inputs, head(block(block(inputs)))))
    x, labels = X[:BATCH], LABELS[:BATCH]

    def loss(steps):
        y = x
        for skip, branch in steps:
            y = (y + skip) + block.branch(y + branch)
        return LOSS(labels, head(y))

    zero = jnp.zeros(x.shape)
    gradients = jax.grad(loss)([(zero, zero), (zero, zero)])
    model.compile(sgd(), LOSS, **options)
    recorder = reszoo.GradientRecorder(tmp_path, 1, ("paths", "distribution"))
    model.fit(x, labels, BATCH, verbose=0, callbacks=[recorder])
    of_block = recorded(tmp_path)[0]["shared"]
    for i, name in enumerate(("skip", "branch")):
        of_calls = np.concatenate([np.ravel(of_call[i]) for of_call in gradients])
        norm, largest = np.linalg.norm(of_calls), np.max(np.abs(of_calls))
        assert of_block[f"{name}_gradient_norm"] == pytest.approx(norm, rel=1e-5)
        assert of_block[f"{name}_gradient_max"] == pytest.approx(largest, rel=1e-5)


class Subclassed(keras.Model):
    """A model whose blocks are attributes, one of them in a nested model."""

    def __init__(self):
        super().__init__()
        first, *nested, self.head = dense_model().layers
        self.first = first
        self.nested = keras.Sequential([keras.Input((6,)), *nested], name="nested")

    def call(self, x):
        return self.head(self.nested(self.first(x)))


def test_nested_and_subclassed_models_are_recorded(by_hand, tmp_path):
    fitted(Subclassed(), tmp_path)
    assert_recorded(tmp_path, by_hand)


class Remat(keras.layers.Layer):
    """Computes the activations of a layer again in the backward pass."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def build(self, shape):
        self.layer.build(shape)

    def call(self, x):
        return keras.remat(lambda x: self.layer(x))(x)


@pytest.mark.parametrize("whole_block", [False, True])
def test_a_block_whose_activations_are_computed_again_is_recorded(whole_block, by_hand, tmp_path):
    layers = dense_layers()
    for i, block in enumerate(layers[1:-1], start=1):
        if whole_block:
            layers[i] = Remat(block)
        else:
            block.branch = Remat(block.branch)
    model = with_weights(keras.Sequential(layers))
    model.compile(sgd(), LOSS)
    recorder = reszoo.GradientRecorder(tmp_path, 1, ("paths", "weights", "distribution"))
    model.fit(X, LABELS, BATCH, shuffle=False, verbose=0, callbacks=[recorder])
    assert_recorded(tmp_path, by_hand)
    assert np.isfinite(recorded(tmp_path)[0]["identity"]["skip_gradient_max"])


def test_blocks_in_a_reversible_chain_are_recorded_with_all_their_statistics(tmp_path):
    model = reversible.record(tmp_path)
    gradients = jax.grad(lambda zeros: reversible.loss(model, zeros))(reversible.zeros())
    reversible.assert_recorded(tmp_path, gradients)


def test_blocks_of_a_model_built_elsewhere_are_recorded(by_hand, tmp_path):
    layers = dense_layers()
    inputs = x = keras.Input((6,))
    for block in layers[1:-1]:
        skip = block.shortcut(x)
        x = keras.layers.Add(name=block.name)([skip, block.branch(x)])
        if block.name == "projection":
            x = keras.layers.ReLU()(x)
    model = keras.Model(inputs, layers[-1](x))
    # The same weights, by their order in the branches.
    original = dense_model()
    for mine, its in zip(layers[1:], original.layers, strict=True):
        for part in ("branch", "shortcut") if isinstance(mine, ResidualBlock) else ():
            getattr(mine, part).set_weights(getattr(its, part).get_weights())
    layers[-1].set_weights(original.layers[-1].get_weights())
    model.compile(sgd(), LOSS)
    blocks = reszoo.gradients.instrument(model)
    recorder = reszoo.GradientRecorder(tmp_path, 1, blocks=blocks)
    model.fit(X, LABELS, BATCH, shuffle=False, verbose=0, callbacks=[recorder])
    assert_recorded(tmp_path, by_hand)


class OwnStep(keras.Model):
    """A model with the training step of Keras's guide, which also clips its gradients."""

    def compute_loss_and_updates(self, trainable_variables, non_trainable_variables, x, y):
        y_pred, non_trainable_variables = self.stateless_call(
            trainable_variables, non_trainable_variables, x, training=True
        )
        return self.compute_loss(x, y, y_pred), (y_pred, non_trainable_variables)

    def train_step(self, state, data):
        trainable, non_trainable, of_optimizer, metrics = state
        x, y = data
        (loss, (_, non_trainable)), grads = jax.value_and_grad(
            self.compute_loss_and_updates, has_aux=True
        )(trainable, non_trainable, x, y)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in grads))
        grads = [0.01 * g / norm for g in grads]
        trainable, of_optimizer = self.optimizer.stateless_apply(of_optimizer, grads, trainable)
        return {"loss": loss, "norm": norm}, (trainable, non_trainable, of_optimizer, metrics)


def own_step():
    layers = dense_model().layers
    inputs = x = keras.Input((6,))
    for layer in layers:
        x = layer(x)
    return OwnStep(inputs, x)


def test_a_step_of_ones_own_is_recorded_with_the_gradients_that_it_computes(by_hand, tmp_path):
    model = own_step()
    fitted(model, tmp_path, x=X[:BATCH])
    assert_recorded(tmp_path, by_hand, [0], leave_out=("weight_gradient_norm", "update_norm"))
    plain = own_step()
    plain.compile(sgd(), LOSS)
    plain.fit(X[:BATCH], LABELS[:BATCH], BATCH, shuffle=False, verbose=0)
    for with_recorder, without in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(with_recorder, without)


def test_layers_whose_inside_is_not_searched_are_named():
    class Positions(keras.layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=shape[1:])

        def call(self, x):
            return keras.ops.broadcast_to(self.table, keras.ops.shape(x))

    inputs = keras.Input((4,))
    x = keras.layers.Add(name="no_block")([inputs, Positions(name="mine")(inputs)])
    x = keras.layers.Add(name="addition")([x, keras.layers.Dense(4)(x)])
    model = keras.Model(inputs, x)
    with pytest.warns(UserWarning, match="'mine' .only on TensorFlow blocks inside of layers"):
        assert list(reszoo.gradients.instrument(model)) == ["addition"]
