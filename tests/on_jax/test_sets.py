"""Every set of statistics on JAX, its range and its alarms."""

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest

import reszoo
from reszoo.gradients import gradient_by_path_length, load, load_histograms, load_variables
from reszoo.gradients.backend.jax import reductions
from tests.gradients.dense import BATCH, LABELS, LOSS, STEPS, X, dense_model, recorded, sgd
from tests.on_jax.by_hand import path_gradients, weight_gradients

FIRST = slice(0, BATCH)
SETS = ("paths", "weights", "forward", "distribution", "histograms", "variables")


def fitted(log_dir, *, optimizer=None, batches=1, batch_size=BATCH, statistics=SETS, **options):
    model = dense_model()
    model.compile(optimizer or sgd(), LOSS, **options)
    recorder = reszoo.GradientRecorder(log_dir, 1, statistics)
    x, labels = X[: BATCH * batches], LABELS[: BATCH * batches]
    model.fit(x, labels, batch_size, shuffle=False, verbose=0, callbacks=[recorder])
    return model


@pytest.fixture(scope="module")
def gradients():
    return path_gradients(dense_model(), X[FIRST], lambda y: LOSS(LABELS[FIRST], y))


def expected_of_sets(gradients):
    """Returns the statistics of the sets "forward" and "distribution", by NumPy."""
    expected, x = {}, jnp.asarray(X[FIRST])
    for block in dense_model().layers[:-1]:
        skip, branch = block.shortcut(x), block.branch(x)
        x = block.activation(skip + branch)
        skip, branch, y = (np.asarray(array, np.float64) for array in (skip, branch, x))
        g_skip, g_branch = (g.astype(float) for g in gradients[block.name][:2])
        expected[block.name] = {
            "skip_output_rms": np.sqrt(np.mean(skip**2)),
            "branch_output_rms": np.sqrt(np.mean(branch**2)),
            "sum_rms": np.sqrt(np.mean((skip + branch) ** 2)),
            "branch_to_skip_variance": np.var(branch) / np.var(skip),
            "activation_mean": np.mean(y),
            "activation_zero_fraction": np.mean(y == 0),
            "skip_gradient_zero_fraction": np.mean(g_skip == 0),
            "branch_gradient_zero_fraction": np.mean(g_branch == 0),
            "branch_gradient_kurtosis": np.mean(g_branch**4) / np.mean(g_branch**2) ** 2,
            "skip_gradient_max": np.max(np.abs(g_skip)),
            "branch_gradient_max": np.max(np.abs(g_branch)),
        }
    return expected


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_every_set_is_what_is_found_by_hand(scale, gradients, tmp_path):
    fitted(tmp_path, optimizer=sgd(loss_scale_factor=scale))
    found = recorded(tmp_path)[0]
    for block, expected in expected_of_sets(gradients).items():
        for statistic, value in expected.items():
            assert found[block][statistic] == pytest.approx(value, rel=1e-4, abs=1e-7), statistic
    assert found["projection"]["activation_zero_fraction"] > 0
    assert np.isnan(found["stopped"]["skip_gradient_kurtosis"])
    table = load_histograms(str(tmp_path))
    for block, (skip, branch, _) in gradients.items():
        for path, gradient in (("skip", skip), ("branch", branch)):
            counts = table[(table.block == block) & (table.path == path)]
            counts = dict(zip(counts.magnitude, counts["count"], strict=True))
            assert sum(counts.values()) == gradient.size
            assert counts[0.0] == np.sum(gradient == 0)
    variables = load_variables(str(tmp_path))
    of_kernel = variables[variables.variable.str.contains("identity/")]
    assert of_kernel.variable.nunique() == 4
    squares = of_kernel[of_kernel.statistic == "weight_gradient_norm"].value.astype(float) ** 2
    norm = found["identity"]["weight_gradient_norm"]
    assert np.sqrt(squares.sum()) == pytest.approx(norm, rel=1e-5)


def test_the_noise_scale_compares_the_accumulated_batches(tmp_path):
    optimizer = sgd(gradient_accumulation_steps=2)
    fitted(tmp_path, optimizer=optimizer, batch_size=BATCH // 2, statistics=("noise_scale",))
    model, halves = dense_model(), [slice(0, BATCH // 2), slice(BATCH // 2, BATCH)]
    of_parts = [
        weight_gradients(model, X[half], lambda y, half=half: LOSS(LABELS[half], y))
        for half in halves
    ]
    own = {id(v) for v in model.get_layer("identity").trainable_variables}
    is_own = [id(v) in own for v in model.trainable_variables]
    parts = [[np.asarray(g, float) for g, o in zip(p, is_own, strict=True) if o] for p in of_parts]
    small = np.mean([sum(np.sum(g**2) for g in part) for part in parts])
    large = sum(np.sum(((a + b) / 2) ** 2) for a, b in zip(*parts, strict=True))
    squared = (BATCH * large - BATCH / 2 * small) / (BATCH / 2)
    trace = (small - large) / (2 / BATCH - 1 / BATCH)
    found = recorded(tmp_path)[0]["identity"]["gradient_noise_scale"]
    assert found == pytest.approx(trace / squared, rel=1e-3)


@pytest.mark.parametrize("factor", [1e-30, 1e-18, 1e22])
@pytest.mark.parametrize("options", [{}, {"run_eagerly": True}], ids=["jit", "eager"])
def test_gradients_of_every_magnitude_are_recorded(factor, options, gradients, tmp_path):
    model = dense_model()
    # A rate as small as the gradient is large, so that the weights stay what they are.
    optimizer = keras.optimizers.SGD(0.05 / factor)
    model.compile(optimizer, lambda y, logits: factor * LOSS(y, logits), **options)
    recorder = reszoo.GradientRecorder(tmp_path, 1, ("paths", "weights", "distribution"))
    model.fit(X[FIRST], LABELS[FIRST], BATCH, verbose=0, callbacks=[recorder])
    found = recorded(tmp_path)[0]["identity"]
    skip, branch = (g.astype(float) for g in gradients["identity"][:2])
    assert found["skip_gradient_norm"] == pytest.approx(factor * np.linalg.norm(skip), rel=1e-5)
    assert found["skip_branch_cosine"] == pytest.approx(
        np.vdot(skip, branch) / np.linalg.norm(skip) / np.linalg.norm(branch), rel=1e-5
    )
    kurtosis = np.mean(branch**4) / np.mean(branch**2) ** 2
    assert found["branch_gradient_kurtosis"] == pytest.approx(kurtosis, rel=1e-4)
    assert found["weight_gradient_norm"] > 0


def test_an_alarm_stops_a_training(tmp_path):
    examples = X.copy()
    examples[BATCH] = np.nan
    model = dense_model()
    model.compile(sgd(), LOSS)
    alarms = [reszoo.gradients.NonFinite(stop_training=True)]
    recorder = reszoo.GradientRecorder(tmp_path, 1, alarms=alarms)
    model.fit(examples, LABELS, BATCH, shuffle=False, verbose=0, callbacks=[recorder])
    assert sorted(recorded(tmp_path)) == [0, 1]
    assert reszoo.gradients.read_findings(str(tmp_path))[0].step == 1


def test_the_gradient_by_the_length_of_its_path():
    model = dense_model()
    table = gradient_by_path_length(model, X[FIRST], LABELS[FIRST], LOSS)
    assert table.groupby("length").number_of_paths.first().tolist() == [1, 3, 3, 1]
    # Through the skips of all blocks nothing comes back, since the last one is stopped.
    assert table[table.length == 0].gradient_norm.item() == 0

    # One of the others, with the other ways stopped.
    def output(x, through):
        for block, branch in zip(model.layers[:-1], through, strict=True):
            skip = block.shortcut(x)
            f = block.branch(x)
            stop = jax.lax.stop_gradient
            y = stop(skip) + f if branch else skip + stop(f)
            x = block.activation(y)
        return LOSS(LABELS[FIRST], model.layers[-1](x))

    expected = np.linalg.norm(jax.grad(output)(jnp.asarray(X[FIRST]), (False, True, True)))
    assert np.isclose(table[table.length == 2].gradient_norm, expected, rtol=1e-5).any()


def test_sums_of_values_that_are_not_finite_count_them():
    x = jnp.asarray([[1.0, np.nan, 2.0], [np.inf, 0.0, 0.0]])
    for sums in (reductions.over_finite, jax.jit(reductions.over_finite, static_argnums=0)):
        with reductions.in_double():
            of_squares, left_out = sums(lambda x: reductions.squares([x]), (x,))
        assert float(of_squares[0]) == 5.0
        assert float(left_out[0]) == 2.0
    with reductions.in_double():
        assert float(reductions.squares_of_sum(x, x)) == 20.0
        counts = reductions.counts_by_exponent(x, -2, 4)
    np.testing.assert_array_equal(counts, [2, 0, 0, 1, 1])


def on_gpu(monkeypatch):
    """Has sums taken as on a GPU, whose operations a CPU has too."""
    monkeypatch.setattr(reductions, "_is_on_gpu", lambda: True)


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_squares_of_any_magnitude_are_added_and_other_values_counted(device, monkeypatch):
    if device == "gpu":
        on_gpu(monkeypatch)
    values = np.asarray([1e30, -1e-30, np.nan, 2.0, -np.inf, 0.0], "float32")
    shapes = [(6,), (2, 3), (1, 2, 3), (2, 3), (), (6,), (0,)]
    tensors = [values[: np.prod(shape, dtype=int)].reshape(shape) for shape in shapes]
    tensors[5] = np.full(6, 1e-30, "float32")  # whose squares underflow in float32
    finite = [np.where(np.isfinite(x), x, 0).astype("float64") for x in tensors]
    for sums in (reductions.squares_of_each, jax.jit(reductions.squares_of_each)):
        with reductions.in_double():
            squares, left_out = sums([jnp.asarray(x) for x in tensors])
        assert squares.dtype == left_out.dtype == np.float64
        np.testing.assert_allclose(squares, [np.sum(x**2) for x in finite], rtol=1e-12)
        np.testing.assert_array_equal(left_out, [np.sum(~np.isfinite(x)) for x in tensors])
    with reductions.in_double():
        of_doubles = reductions.squares_or_nan_of_each([jnp.asarray(x, float) for x in tensors])
    expected = [
        np.nan if np.any(~np.isfinite(x)) else np.sum(x.astype(float) ** 2) for x in tensors
    ]
    np.testing.assert_allclose(of_doubles, expected, rtol=1e-12)


def test_a_gpu_records_what_a_cpu_does(tmp_path, monkeypatch):
    sets = ("paths", "weights", "forward", "distribution", "variables", "noise_scale")

    def values(log_dir):
        model = dense_model()
        model.compile(sgd(gradient_accumulation_steps=2), LOSS)
        recorder = reszoo.GradientRecorder(log_dir, 1, sets)
        model.fit(X, LABELS, BATCH, shuffle=False, verbose=0, callbacks=[recorder])
        return [load(log_dir), load_variables(log_dir)]

    expected = values(tmp_path / "cpu")
    on_gpu(monkeypatch)
    for own, other in zip(values(tmp_path / "gpu"), expected, strict=True):
        assert own.statistic.equals(other.statistic)
        np.testing.assert_allclose(own.value, other.value, rtol=1e-5, atol=1e-7)


def test_steps_of_two_recorders_are_each_recorded(tmp_path):
    model = dense_model()
    model.compile(sgd(), LOSS)
    both = [
        reszoo.GradientRecorder(tmp_path / "a", 2),
        reszoo.GradientRecorder(tmp_path / "b", 3, ("paths", "distribution")),
    ]
    model.fit(X, LABELS, BATCH, shuffle=False, verbose=0, callbacks=both)
    assert sorted(recorded(tmp_path / "a")) == [0, 2]
    assert sorted(recorded(tmp_path / "b")) == [0, 3]
    first = [recorded(tmp_path / name)[0]["identity"]["skip_gradient_norm"] for name in "ab"]
    assert first[0] == pytest.approx(first[1], rel=1e-6)
    assert STEPS == 4
