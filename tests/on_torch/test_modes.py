"""Values recorded on PyTorch are those of `torch.autograd.grad`, however training runs."""

import functools

import keras
import numpy as np
import pytest
import torch
import torch.utils.checkpoint

import reszoo
from reszoo import ResidualBlock
from reszoo.gradients import load, load_histograms, load_variables
from tests.gradients import reversible
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
    with_weights,
)
from tests.on_torch.by_hand import (
    assert_same,
    forward,
    path_gradients,
    training_by_hand,
    weight_gradients,
)


@pytest.fixture(scope="module")
def by_hand():
    return training_by_hand(dense_model(), sgd(), BATCHES, LOSS)


def trained(
    log_dir, optimizer=sgd, batch_size=BATCH, model=dense_model, data=(X, LABELS), **options
):
    """Returns the weights and the optimizer's state, recorded if there is a directory for it."""
    model = model()
    recorder = {
        name: options.pop(name) for name in ("every_steps", "statistics") if name in options
    }
    model.compile(optimizer(), LOSS, **options)
    recorders = (
        [reszoo.GradientRecorder(log_dir, **{"every_steps": 1, **recorder})] if log_dir else []
    )
    model.fit(*data, batch_size, shuffle=False, verbose=0, callbacks=recorders)
    return [v.numpy().copy() for v in (*model.variables, *model.optimizer.variables)]


def loss_scaled(**options):
    return keras.optimizers.LossScaleOptimizer(sgd(**options), initial_scale=256.0)


MODES = {
    "plain": {},
    "eager": {"run_eagerly": True},
    "loss scale factor": {"optimizer": lambda: sgd(loss_scale_factor=128.0)},
    "dynamic loss scale": {"optimizer": loss_scaled},
    "ema": {"optimizer": lambda: sgd(use_ema=True)},
    "accumulation": {
        "optimizer": lambda: sgd(gradient_accumulation_steps=2),
        "batch_size": BATCH // 2,
    },
    "loss scale and accumulation": {
        "optimizer": lambda: loss_scaled(gradient_accumulation_steps=2),
        "batch_size": BATCH // 2,
    },
}


@pytest.mark.parametrize("mode", MODES)
def test_every_mode_records_what_is_found_by_hand(mode, by_hand, tmp_path):
    with_recorder = trained(tmp_path, **MODES[mode])
    assert_recorded(tmp_path, by_hand)
    assert_same(with_recorder, trained(None, **MODES[mode]))


def test_adam_is_not_changed_by_any_set(tmp_path):
    adam = functools.partial(keras.optimizers.Adam, 0.01)
    with_recorder = trained(tmp_path, adam, statistics=tuple(reszoo.gradients.statistics.SETS))
    assert_same(with_recorder, trained(None, adam))


def tiny():
    layers = [keras.Input((6,)), ResidualBlock([keras.layers.Dense(6)], name="b")]
    model = keras.Sequential([*layers, keras.layers.Dense(3, name="logits")])
    return with_weights(model)


def test_a_recorded_step_of_a_compiled_model_runs_eagerly(monkeypatch, tmp_path):
    compiled_graphs = []

    def backend(graph, inputs):
        compiled_graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    trained(tmp_path / "eager", model=tiny, data=BATCHES[0])
    trained(tmp_path / "compiled", model=tiny, data=BATCHES[0], jit_compile=True)
    assert not compiled_graphs
    found, expected = recorded(tmp_path / "compiled"), recorded(tmp_path / "eager")
    assert found[0]["b"] == pytest.approx(expected[0]["b"], rel=1e-5)
    trained(tmp_path / "later", model=tiny, jit_compile=True, every_steps=2)
    assert compiled_graphs
    assert sorted(recorded(tmp_path / "later")) == [0, 2]


def test_every_set_is_what_is_found_by_hand(tmp_path):
    model, (x, labels) = dense_model(), BATCHES[0]
    _, places = forward(model.layers, torch.as_tensor(x))
    gradients = path_gradients(model, x, lambda logits: LOSS(torch.as_tensor(labels), logits))
    trained(tmp_path, statistics=("paths", "forward", "distribution"), data=BATCHES[0])
    found = recorded(tmp_path)[0]
    for name, (_, _, *ends) in places.items():
        activation = model.get_layer(name).activation
        skip, branch, total = (end.numpy(force=True).astype(float) for end in ends)
        y = activation(ends[-1]).numpy(force=True)
        g_skip, g_branch = (g.astype(float) for g in gradients[name][:2])
        expected = {
            "skip_output_rms": np.sqrt(np.mean(skip**2)),
            "branch_output_rms": np.sqrt(np.mean(branch**2)),
            "sum_rms": np.sqrt(np.mean(total**2)),
            "branch_to_skip_variance": np.var(branch) / np.var(skip),
            "activation_mean": np.mean(y),
            "activation_zero_fraction": np.mean(y == 0),
            "skip_gradient_zero_fraction": np.mean(g_skip == 0),
            "branch_gradient_zero_fraction": np.mean(g_branch == 0),
            "branch_gradient_kurtosis": np.mean(g_branch**4) / np.mean(g_branch**2) ** 2,
            "skip_gradient_max": np.max(np.abs(g_skip)),
            "branch_gradient_max": np.max(np.abs(g_branch)),
        }
        assert "weight_norm" not in found[name]
        for statistic, value in expected.items():
            assert found[name][statistic] == pytest.approx(value, rel=1e-4, abs=1e-7), statistic
    assert found["projection"]["activation_zero_fraction"] > 0
    assert found["stopped"]["skip_gradient_zero_fraction"] == 1
    assert np.isnan(found["stopped"]["skip_gradient_kurtosis"])


def test_histograms_count_the_magnitudes_of_unscaled_values(tmp_path):
    x, labels = BATCHES[0]
    loss = functools.partial(LOSS, torch.as_tensor(labels))
    scaled = functools.partial(sgd, loss_scale_factor=1000.0)
    trained(tmp_path, scaled, statistics=("paths", "histograms"), data=BATCHES[0])
    table = load_histograms(str(tmp_path))
    for block, (skip, branch, _) in path_gradients(dense_model(), x, loss).items():
        for path, gradient in (("skip", skip), ("branch", branch)):
            counts = table[(table.block == block) & (table.path == path)]
            counts = dict(zip(counts.magnitude, counts["count"], strict=True))
            assert sum(counts.values()) == gradient.size
            assert counts[0.0] == np.sum(gradient == 0)
            for exponent in range(-40, 0):
                magnitudes = np.abs(gradient)
                inside = (2.0**exponent <= magnitudes) & (magnitudes < 2.0 ** (exponent + 1))
                # A value on an edge may fall to either side of it after scaling and unscaling.
                assert abs(counts[2.0**exponent] - np.sum(inside)) <= 1


def test_every_variable_is_recorded(by_hand, tmp_path):
    trained(tmp_path, statistics=("paths", "weights", "variables"))
    table = load_variables(str(tmp_path))
    first = table[table.step == 0]
    assert first.variable.nunique() == len(dense_model().trainable_variables)
    for name in ("weight_norm", "weight_gradient_norm", "update_norm"):
        of_block = first[(first.statistic == name) & first.variable.str.contains("identity/")].value
        expected = by_hand[0]["identity"][name]
        assert np.linalg.norm(of_block.astype(float)) == pytest.approx(expected, rel=1e-5)


def test_the_noise_scale_is_that_of_the_accumulated_batches(tmp_path):
    model, half = dense_model(), BATCH // 2
    weights = {id(v) for v in model.get_layer("identity").trainable_weights}
    gradients = []
    for i in range(2):
        part = slice(i * half, (i + 1) * half)
        loss = functools.partial(LOSS, torch.as_tensor(LABELS[part]))
        of_weights = weight_gradients(model, X[part], loss)
        of_weights = zip(model.trainable_variables, of_weights, strict=True)
        gradients.append(np.concatenate([g.ravel() for v, g in of_weights if id(v) in weights]))
    of_small = np.mean([g @ g for g in gradients])
    of_big = np.mean(gradients, axis=0) @ np.mean(gradients, axis=0)
    signal = (BATCH * of_big - half * of_small) / (BATCH - half)
    noise = (of_small - of_big) / (1 / half - 1 / BATCH)
    trained(
        tmp_path,
        lambda: sgd(gradient_accumulation_steps=2),
        half,
        statistics=("paths", "weights", "noise_scale"),
    )
    found = recorded(tmp_path)[0]["identity"]["gradient_noise_scale"]
    assert found == pytest.approx(noise / signal, rel=1e-3)


def test_gradients_are_recorded_before_clipping_and_updates_after(by_hand, tmp_path):
    trained(tmp_path, lambda: sgd(global_clipnorm=0.01))
    found = recorded(tmp_path)[0]
    update = np.sqrt(sum(of_block["update_norm"] ** 2 for of_block in found.values()))
    assert 0 < update <= 0.1 * 0.01 * 1.001
    for block, expected in by_hand[0].items():
        gradient = found[block]["weight_gradient_norm"]
        assert gradient == pytest.approx(expected["weight_gradient_norm"], rel=1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_records_unscaled_float32_sums(policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    optimizer = loss_scaled if policy == "mixed_float16" else sgd
    x, labels = BATCHES[0]
    loss = functools.partial(LOSS, torch.as_tensor(labels))
    by_hand = path_gradients(dense_model(), keras.ops.cast(x, policy[6:]), loss)
    weights = trained(tmp_path, optimizer)
    found = recorded(tmp_path)[0]
    for block, gradients in by_hand.items():
        for name, gradient in zip(("skip", "branch", "output"), gradients, strict=True):
            # A loss scale moves values that float16 rounds to fewer bits, or to zero.
            expected = pytest.approx(np.linalg.norm(gradient), rel=2e-3, abs=1e-7)
            assert found[block][f"{name}_gradient_norm"] == expected
    assert_same(weights, trained(None, optimizer))


def test_a_step_skipped_for_overflow_is_recorded_as_such(tmp_path):
    examples = X.copy()
    examples[BATCH] = np.inf
    weights = trained(tmp_path, loss_scaled, data=(examples, LABELS))
    assert all(np.isfinite(array).all() for array in weights)
    found = recorded(tmp_path)
    assert sorted(found) == [0, 1, 2, 3]
    assert found[1]["identity"]["weight_gradient_nonfinite"] > 0
    assert found[1]["identity"]["update_norm"] == 0
    for step in (0, 2, 3):
        assert found[step]["identity"]["weight_gradient_nonfinite"] == 0
        assert found[step]["identity"]["update_norm"] > 0


def test_a_value_that_is_not_finite_is_counted_and_left_out(tmp_path):
    x, labels = BATCHES[0][0].copy(), BATCHES[0][1]
    x[3] = np.nan
    loss = functools.partial(LOSS, torch.as_tensor(labels))
    skip = path_gradients(dense_model(), x, loss)["identity"][0]
    trained(tmp_path, lambda: sgd(), data=(x, labels))
    of_block = recorded(tmp_path)[0]["identity"]
    assert of_block["skip_gradient_nonfinite"] == np.sum(~np.isfinite(skip)) == 6
    finite = np.linalg.norm(skip[np.isfinite(skip)])
    assert of_block["skip_gradient_norm"] == pytest.approx(finite, rel=1e-5)


@pytest.mark.parametrize("frozen", [["identity"], ["identity", "projection", "stopped"]])
def test_frozen_blocks_still_report_their_paths(frozen, by_hand, tmp_path):
    def model():
        model = dense_model()
        for name in frozen:
            model.get_layer(name).trainable = False
        return model

    weights = trained(tmp_path, model=model)
    found = recorded(tmp_path)[0]
    for block, expected in by_hand[0].items():
        for name in ("skip_gradient_norm", "branch_gradient_norm", "output_gradient_norm"):
            assert found[block][name] == pytest.approx(expected[name], rel=1e-5)
    of_block = found["identity"]
    assert of_block["weight_gradient_norm"] == of_block["weight_norm"] == 0
    assert_same(weights, trained(None, model=model))


def test_a_block_called_twice_adds_up_both_calls(tmp_path):
    block = ResidualBlock([keras.layers.Dense(6, activation="tanh")], name="shared")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(3)(block(block(inputs))))
    model.compile(sgd(), LOSS)
    (x, labels), head = BATCHES[0], model.layers[-1]
    logits, places = forward([block], torch.as_tensor(x))
    again, later = forward([block], logits)
    loss = LOSS(torch.as_tensor(labels), head(again))
    calls = [places["shared"][:2], later["shared"][:2]]
    expected = {
        path: np.linalg.norm(
            torch.cat(torch.autograd.grad(loss, [c[i] for c in calls], retain_graph=True))
        )
        for i, path in enumerate(("skip", "branch"))
    }
    model.fit(x, labels, BATCH, verbose=0, callbacks=[reszoo.GradientRecorder(tmp_path, 1)])
    for path, norm in expected.items():
        found = recorded(tmp_path)[0]["shared"][f"{path}_gradient_norm"]
        assert found == pytest.approx(norm, rel=1e-5)


class Subclassed(keras.Model):
    """A model whose blocks are attributes, two of them in a nested model."""

    def __init__(self):
        super().__init__()
        chain = dense_model().layers
        self.first = chain[0]
        self.nested = keras.Sequential([keras.Input((6,)), *chain[1:3]], name="nested")
        self.head = chain[3]

    def call(self, x):
        return self.head(self.nested(self.first(x)))


def test_nested_and_subclassed_models_are_recorded(by_hand, tmp_path):
    trained(tmp_path, model=Subclassed)
    assert_recorded(tmp_path, by_hand)


def reentrant(function):
    """Returns a function that is run again in a pass of its own, if PyTorch can do that."""

    def run(x):
        if not x.requires_grad:
            return function(x)
        return torch.utils.checkpoint.checkpoint(function, x, use_reentrant=True)

    return run


@pytest.mark.parametrize("remat", [keras.remat, reentrant])
@pytest.mark.parametrize("whole_block", [False, True])
def test_a_block_whose_activations_are_computed_again_is_recorded(
    whole_block, remat, by_hand, tmp_path
):
    def model():
        model = dense_model()
        for block in model.layers[:-1]:
            layer = block if whole_block else block.branch
            layer.call = remat(layer.call)
        return model

    sets = ("paths", "weights", "forward")
    weights = trained(tmp_path / "again", model=model, statistics=sets)
    assert_recorded(tmp_path / "again", by_hand)
    trained(tmp_path / "kept", statistics=sets)
    for again, kept in zip(*map(load_values, (tmp_path / "again", tmp_path / "kept")), strict=True):
        assert again == pytest.approx(kept, rel=1e-5, abs=1e-7, nan_ok=True)
    assert_same(weights, trained(None, model=model))


def test_blocks_in_a_reversible_chain_are_recorded_with_all_their_statistics(tmp_path):
    model = reversible.record(tmp_path)
    zeros = {place: torch.tensor(x, requires_grad=True) for place, x in reversible.zeros().items()}
    gradients = torch.autograd.grad(reversible.loss(model, zeros), list(zeros.values()))
    reversible.assert_recorded(tmp_path, dict(zip(zeros, gradients, strict=True)))


def load_values(log_dir):
    return load(str(log_dir)).value.tolist()


def test_several_steps_per_execution_are_refused_by_keras():
    model = dense_model()
    model.compile(sgd(), LOSS, steps_per_execution=2)
    with pytest.raises(ValueError, match="steps_per_execution` must be 1 with the PyTorch"):
        model.fit(X, LABELS, BATCH, verbose=0)


def test_steps_that_are_not_due_run_the_models_own_step(by_hand, tmp_path):
    assert_same(trained(tmp_path, every_steps=3), trained(None))
    assert_recorded(tmp_path, by_hand, steps=[0, 3])


def test_a_recorder_leaves_the_train_function_that_fit_has_made(tmp_path):
    model = tiny()
    model.compile(sgd(), LOSS)
    model.fit(X, LABELS, BATCH, verbose=0)
    own = model.train_function
    for _ in range(2):
        recorder = reszoo.GradientRecorder(tmp_path, 2)
        model.fit(X, LABELS, BATCH, verbose=0, callbacks=[recorder])
        assert model.train_function is own
