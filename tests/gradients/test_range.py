"""Gradients are recorded right at every magnitude of float32, however the step runs."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import reszoo
from reszoo import ResidualBlock
from reszoo.gradients import load, load_histograms, load_variables
from reszoo.gradients.backend.tensorflow.weight_sums import update_sums
from reszoo.gradients.measures import FORWARD, activation_sums, distribution_sums, forward_sums
from tests.gradients.by_hand import expected_statistics, path_gradients
from tests.gradients.devices import two_devices

FACTORS = [1e-30, 1e-18, 1e22]
X = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
JITS = {"graph": False, "XLA": True}


def scaled_loss(factor):
    return lambda y, prediction: factor * tf.reduce_mean(prediction**2, axis=-1)


def tiny(factor, optimizer=None, **options):
    keras.utils.set_random_seed(1)
    layers = [
        keras.Input((4,)),
        ResidualBlock([keras.layers.Dense(4, "tanh")], name="b"),
        keras.layers.Dense(1),
    ]
    model = keras.Sequential(layers)
    # A factor as small as the gradient is large, so that the weights stay what they are.
    optimizer = optimizer or keras.optimizers.SGD(0.05 / factor)
    model.compile(optimizer, scaled_loss(factor), **{"jit_compile": False, **options})
    return model


def recorded(model, log_dir, statistics=("paths", "weights"), batch_size=8, **options):
    recorder = reszoo.GradientRecorder(log_dir, 1, statistics=statistics, **options)
    callbacks = [recorder]
    model.fit(X, np.zeros((8, 1)), batch_size, shuffle=False, verbose=0, callbacks=callbacks)
    table = load(str(log_dir))
    table = table[table.step == 0]
    return dict(zip(table.statistic, table.value, strict=True))


@functools.cache
def of_ordinary_gradients():
    """Returns statistics of gradients about 1, by a tape."""
    model = tiny(1.0)
    gradients = path_gradients(model, X, lambda y: tf.reduce_mean(y**2))["b"]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(X) ** 2)
    variables = [v.value for v in model.get_layer("b").trainable_variables]
    of_weights = [g.numpy().ravel().astype(np.float64) for g in tape.gradient(loss, variables)]
    norm = np.linalg.norm(np.concatenate(of_weights))
    return {**expected_statistics(*gradients), "weight_gradient_norm": norm}


def by_hand(factor):
    """Returns statistics of gradients so many times as large."""
    relative = ("skip_branch_cosine", "skip_share", "gradient_gain")
    return {
        name: value if name in relative else factor * value
        for name, value in of_ordinary_gradients().items()
    }


def assert_as_by_hand(found, factor, rel=1e-5):
    for name, expected in by_hand(factor).items():
        assert found[name] == pytest.approx(expected, rel=rel), name
    for path in ("skip", "branch", "output"):
        assert found[f"{path}_gradient_nonfinite"] == 0
    assert found["weight_gradient_nonfinite"] == 0


@pytest.mark.parametrize("factor", FACTORS)
def test_norms_are_right_at_every_magnitude(factor, tmp_path):
    assert_as_by_hand(recorded(tiny(factor), tmp_path), factor)


MODES = {
    "eager": {"run_eagerly": True},
    "XLA": {"jit_compile": True},
    "loss scale": {
        "optimizer": lambda factor: keras.optimizers.SGD(0.05 / factor, loss_scale_factor=2.0**10)
    },
    "accumulation": {
        "optimizer": lambda factor: keras.optimizers.SGD(
            0.05 / factor, gradient_accumulation_steps=2
        ),
        "batch_size": 4,
    },
}


@pytest.mark.parametrize("mode", MODES)
def test_and_in_every_mode(mode, tmp_path):
    factor = 1e-22
    options = dict(MODES[mode])
    batch_size = options.pop("batch_size", 8)
    if optimizer := options.pop("optimizer", None):
        options["optimizer"] = optimizer(factor)
    found = recorded(tiny(factor, **options), tmp_path, batch_size=batch_size)
    assert_as_by_hand(found, factor)


def test_and_on_two_devices(tmp_path):
    with two_devices().scope():
        model = tiny(1e-22)
    assert_as_by_hand(recorded(model, tmp_path), 1e-22)


def test_variables_histograms_and_distributions_too(tmp_path):
    groups = ("paths", "weights", "distribution", "variables", "histograms", "noise_scale")
    at_one = recorded(tiny(1.0), tmp_path / "one", groups)
    factor, log_dir = 2.0**-73, str(tmp_path / "small")
    found = recorded(tiny(factor), log_dir, groups)
    for name in ("branch_gradient_kurtosis", "skip_gradient_kurtosis"):
        assert found[name] == pytest.approx(at_one[name], rel=1e-5)
    assert found["skip_gradient_max"] == pytest.approx(factor * at_one["skip_gradient_max"])
    table = load_variables(log_dir)
    in_block = table[table.statistic == "weight_gradient_norm"].value.to_numpy()[:2]
    norm = np.linalg.norm(in_block.astype(float))
    assert norm == pytest.approx(found["weight_gradient_norm"], rel=1e-5)
    assert load_histograms(log_dir)["count"].sum() == 2 * X.size


def test_an_alarm_for_vanishing_gradients_goes_off_where_they_are_small_everywhere(tmp_path):
    model = tiny(1e-22)
    first = ResidualBlock([keras.layers.Dense(4)], keras.layers.Dense(4), name="first")
    model = keras.Sequential([keras.Input((4,)), first, *model.layers])
    for weight in first.trainable_variables:
        weight.assign(1e-6 * weight)
    model.compile(keras.optimizers.SGD(0.0), scaled_loss(1e-22), jit_compile=False)
    recorded(model, tmp_path, alarms=[reszoo.gradients.Vanishing()])
    (finding,) = reszoo.gradients.read_findings(str(tmp_path))
    assert (finding.alarm, finding.block) == ("vanishing", "first")


def test_a_value_that_is_not_finite_is_told_from_a_sum_that_is_not(tmp_path):
    found = recorded(tiny(1e38), tmp_path)
    assert_as_by_hand(found, 1e38)


def test_a_norm_that_float32_does_not_hold_is_recorded(tmp_path):
    writer = reszoo.gradients.log.LogWriter(str(tmp_path), [{"name": "b"}], ["s", "t"], 0)
    rows = [[1.0, 2.0], [1e39, 1e-40], [np.nan, np.inf]]
    for step, row in enumerate(rows):
        writer.write(step, np.array([row]), {"all": row[0]})
    writer.close()
    table = load(str(tmp_path))
    np.testing.assert_array_equal(table.value, np.ravel(rows))
    kinds = [record.values.dtype for record in reszoo.gradients.log.records(str(tmp_path))]
    assert kinds == [np.float32, np.float64, np.float32]


@pytest.mark.parametrize("jit", JITS.values(), ids=JITS)
@pytest.mark.parametrize("mean", [0.0, 1e3, 1e5])
def test_a_variance_beside_a_large_mean_is_right(mean, jit):
    random = np.random.default_rng(0)
    skip, branch = (random.normal(mean, scale, (64, 50)).astype("float32") for scale in (1, 2))
    sums = tf.function(forward_sums, jit_compile=jit)(skip, branch, skip + branch)
    names = FORWARD.powers
    sums = {name: np.array([value]) for name, value in zip(names, sums.numpy(), strict=True)}
    expected = np.var(branch.astype(float)) / np.var(skip.astype(float))
    found = reszoo.gradients.statistics.branch_to_skip_variance(sums)
    np.testing.assert_allclose(found, [expected], rtol=1e-4)


@pytest.mark.parametrize("jit", JITS.values(), ids=JITS)
@pytest.mark.parametrize("constant", [0.1, 3.3, 1e-20])
def test_a_constant_has_no_variance(constant, jit):
    values = np.random.default_rng(0).normal(size=(64, 301)).astype("float32")
    constants = np.full_like(values, constant)
    names = FORWARD.powers
    found = []
    for paths in ((constants, values), (values, constants)):
        sums = tf.function(forward_sums, jit_compile=jit)(*paths, values + constants).numpy()
        sums = {name: np.array([value]) for name, value in zip(names, sums, strict=True)}
        found += list(reszoo.gradients.statistics.branch_to_skip_variance(sums))
    np.testing.assert_array_equal(found, [np.nan, 0])


@pytest.mark.parametrize("jit", JITS.values(), ids=JITS)
@pytest.mark.parametrize("factor", [1e-35, 1.0, 1e37])
def test_forward_sums_and_fourth_powers_are_right_at_every_magnitude(factor, jit):
    x = (factor * np.random.default_rng(0).normal(1, 1, (16, 8))).astype("float32")
    found = tf.function(forward_sums, jit_compile=jit)(x, 2 * x, np.zeros_like(x))
    x = x.astype(float)
    squares = [np.sum(x**2), 4 * np.sum(x**2), 0]
    np.testing.assert_allclose(found, [np.sum(x), 2 * np.sum(x), *squares, x.size], rtol=1e-5)
    found = tf.function(distribution_sums, jit_compile=jit)(*np.float32([x, 0 * x]))
    np.testing.assert_allclose(found, [0, x.size, np.sum(x**4), 0], rtol=1e-5)
    found = tf.function(activation_sums, jit_compile=jit)(np.float32(x))
    np.testing.assert_allclose(found, [np.sum(x), 0, x.size], rtol=1e-5)


@pytest.mark.parametrize("jit", JITS.values(), ids=JITS)
def test_weights_and_updates_are_right_at_every_magnitude(jit):
    random = np.random.default_rng(0)
    for factor in (1e-30, 1e30):
        before, after = (factor * random.normal(size=(2, 5, 3))).astype("float32")
        found = tf.function(lambda b, a: update_sums([b], [a], [1]), jit_compile=jit)(before, after)
        expected = [np.sum(before.astype(float) ** 2), np.sum((after - before).astype(float) ** 2)]
        np.testing.assert_allclose(np.ravel(found), expected, rtol=1e-5)
    before[0, 0] = np.nan
    assert np.isnan(np.ravel(update_sums([before], [after], [1]))).all()


@pytest.mark.parametrize(("dtype", "factor"), [("float64", 1e-100), ("bfloat16", 1e-22)])
def test_models_of_other_dtypes_are_recorded_at_their_magnitudes(dtype, factor, tmp_path):
    keras.config.set_dtype_policy(dtype)
    found = recorded(tiny(factor, keras.optimizers.SGD(0.0)), tmp_path)
    keras.config.set_dtype_policy("float32")
    for name in ("skip_gradient_norm", "branch_gradient_norm", "weight_gradient_norm"):
        assert found[name] == pytest.approx(by_hand(factor)[name], rel=0.05)
