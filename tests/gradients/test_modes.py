"""Recorded values are those of a tape written by hand, wherever training runs."""

import contextlib

import keras
import numpy as np
import pytest
import tensorflow as tf

import reszoo
from reszoo import ResidualBlock, StopGradSkip
from reszoo.gradients import load, load_histograms, load_variables
from reszoo.gradients.log.reader import losses
from tests.gradients.by_hand import path_gradients, training_by_hand
from tests.gradients.devices import two_devices

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BATCH = 16
STEPS = 4


def dense_model():
    """A model without normalization: parts of a batch give what the whole gives."""
    keras.utils.set_random_seed(1)

    def branch():
        return [keras.layers.Dense(6, activation="tanh"), keras.layers.Dense(6)]

    layers = [
        keras.Input((6,)),
        ResidualBlock(branch(), name="identity"),
        ResidualBlock(branch(), keras.layers.Dense(6), activation="relu", name="projection"),
        ResidualBlock(branch(), StopGradSkip(), name="stopped"),
        keras.layers.Dense(3, name="logits"),
    ]
    return keras.Sequential(layers, name="dense")


def sgd(**options):
    return keras.optimizers.SGD(0.1, momentum=0.9, **options)


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    examples = random.normal(size=(BATCH * STEPS, 6)).astype("float32")
    return examples, random.integers(0, 3, BATCH * STEPS)


@pytest.fixture(scope="module")
def by_hand(data):
    parts = [slice(BATCH * i, BATCH * (i + 1)) for i in range(STEPS)]
    batches = [(data[0][part], data[1][part]) for part in parts]
    return training_by_hand(dense_model(), sgd(), batches, LOSS)


def recorded(log_dir):
    """Returns step to block to statistic to value."""
    steps = {}
    for row in load(str(log_dir)).itertuples():
        steps.setdefault(row.step, {}).setdefault(row.block, {})[row.statistic] = row.value
    return steps


def trained(
    data,
    log_dir,
    optimizer=None,
    scope=None,
    batch_size=BATCH,
    every=1,
    recorder_options=None,
    **options,
):
    """Returns the weights after an epoch, recorded if there is a directory for it."""
    with scope or contextlib.nullcontext():
        model = dense_model()
        options = {"jit_compile": False, **options}
        model.compile(optimizer() if optimizer else sgd(), LOSS, **options)
    callbacks = (
        [reszoo.GradientRecorder(log_dir, every, **recorder_options or {})] if log_dir else []
    )
    model.fit(*data, batch_size=batch_size, shuffle=False, verbose=0, callbacks=callbacks)
    return model.get_weights()


def assert_recorded(log_dir, by_hand, steps=range(STEPS), rel=1e-5, leave_out=()):
    found = recorded(log_dir)
    assert sorted(found) == list(steps)
    of_steps = losses(str(log_dir))
    assert sorted(of_steps) == sorted(found)
    for step in steps:
        loss = getattr(by_hand[step], "loss", of_steps[step])
        np.testing.assert_allclose(of_steps[step], loss, rtol=rel, err_msg=f"loss of {step}")
        for block, expected in by_hand[step].items():
            for name, value in expected.items():
                if name not in leave_out:
                    assert found[step][block][name] == pytest.approx(
                        value, rel=rel, abs=1e-7, nan_ok=True
                    ), (step, block, name)


def test_every_set_is_what_a_tape_by_hand_finds(data, tmp_path):
    model = dense_model()
    model.compile(sgd(), LOSS, jit_compile=False)
    x, labels = data[0][:BATCH], data[1][:BATCH]
    gradients = path_gradients(model, x, lambda logits: LOSS(labels, logits))
    forward = {}
    between = tf.constant(x)
    for block in model.layers[:-1]:
        skip, branch = block.shortcut(between), block.branch(between)
        between = block.activation(skip + branch)
        forward[block.name] = [array.numpy().astype(float) for array in (skip, branch, between)]
    groups = ("paths", "forward", "distribution")
    recorder = reszoo.GradientRecorder(tmp_path, 1, statistics=groups)
    model.fit(x, labels, BATCH, verbose=0, callbacks=[recorder])
    found = recorded(tmp_path)[0]
    for name, (skip, branch, y) in forward.items():
        g_skip, g_branch = (g.astype(float) for g in gradients[name][:2])
        expected = {
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
        assert "weight_norm" not in found[name]
        for statistic, value in expected.items():
            assert found[name][statistic] == pytest.approx(value, rel=1e-4, abs=1e-7), statistic
    assert found["projection"]["activation_zero_fraction"] > 0
    assert found["stopped"]["skip_gradient_zero_fraction"] == 1
    assert np.isnan(found["stopped"]["skip_gradient_kurtosis"])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_histograms_count_the_magnitudes_of_unscaled_values(jit_compile, data, tmp_path):
    x, labels = data[0][:BATCH], data[1][:BATCH]
    gradients = path_gradients(dense_model(), x, lambda logits: LOSS(labels, logits))
    options = {"statistics": ("paths", "histograms")}
    trained(
        (x, labels),
        tmp_path,
        lambda: sgd(loss_scale_factor=1000.0),
        recorder_options=options,
        jit_compile=jit_compile,
    )
    table = load_histograms(str(tmp_path))
    assert list(table.columns) == ["step", "block", "path", "magnitude", "count"]
    for block, (skip, branch, _) in gradients.items():
        for path, gradient in (("skip", skip), ("branch", branch)):
            counts = table[(table.block == block) & (table.path == path)]
            counts = dict(zip(counts.magnitude, counts["count"], strict=True))
            assert sum(counts.values()) == gradient.size
            assert counts[0.0] == np.sum(gradient == 0)
            for exponent in range(-40, 0):
                inside = (2.0**exponent <= np.abs(gradient)) & (
                    np.abs(gradient) < 2.0 ** (exponent + 1)
                )
                # A value on an edge may fall to either side of it after scaling and unscaling.
                assert abs(counts[2.0**exponent] - np.sum(inside)) <= 1


def test_every_variable_is_recorded_if_asked_for(data, by_hand, tmp_path):
    options = {"statistics": ("paths", "weights", "variables")}
    trained(data, tmp_path, recorder_options=options)
    table = load_variables(str(tmp_path))
    first = table[table.step == 0]
    assert first.variable.nunique() == len(dense_model().trainable_variables)
    for name in ("weight_norm", "weight_gradient_norm", "update_norm"):
        of_block = first[(first.statistic == name) & first.variable.str.contains("identity/")].value
        expected = by_hand[0]["identity"][name]
        assert np.linalg.norm(of_block.astype(float)) == pytest.approx(expected, rel=1e-5)


def test_maxima_are_over_all_devices(data, tmp_path):
    options = {"statistics": ("distribution",)}
    trained(data, tmp_path / "one", recorder_options=options)
    trained(data, tmp_path / "two", scope=mirrored(), recorder_options=options)
    for step, blocks in recorded(tmp_path / "one").items():
        for block, expected in blocks.items():
            of_two = recorded(tmp_path / "two")[step][block]
            assert of_two == pytest.approx(expected, rel=1e-4, nan_ok=True)


def noise_by_hand(model, parts, weights_of):
    """Returns the gradient noise scale from the gradients of the parts of a batch, in float64."""
    gradients = []
    for x, labels in parts:
        with tf.GradientTape() as tape:
            loss = LOSS(labels, model(x, training=True))
        of_part = tape.gradient(loss, [weight.value for weight in weights_of])
        gradients.append(np.concatenate([np.ravel(g) for g in of_part]).astype(float))
    small, big = len(parts[0][0]), sum(len(x) for x, _ in parts)
    of_small = np.mean([g @ g for g in gradients])
    of_big = np.mean(gradients, axis=0) @ np.mean(gradients, axis=0)
    signal = (big * of_big - small * of_small) / (big - small)
    noise = (of_small - of_big) / (1 / small - 1 / big)
    return noise / signal


@pytest.mark.parametrize("parts", ["devices", "accumulated batches"])
def test_the_noise_scale_is_that_of_the_parts_of_a_batch(parts, data, tmp_path):
    model = dense_model()
    half = BATCH // 2
    batches = [
        (data[0][i * half : (i + 1) * half], data[1][i * half : (i + 1) * half]) for i in (0, 1)
    ]
    expected = noise_by_hand(model, batches, model.get_layer("identity").trainable_weights)
    options = {"recorder_options": {"statistics": ("paths", "weights", "noise_scale")}}
    if parts == "devices":
        options["scope"] = mirrored()
    else:
        options["optimizer"] = lambda: sgd(gradient_accumulation_steps=2)
        options["batch_size"] = half
    trained(data, tmp_path, **options)
    found = recorded(tmp_path)[0]["identity"]["gradient_noise_scale"]
    assert found == pytest.approx(expected, rel=1e-3)


def mirrored():
    return two_devices().scope()


def loss_scaled():
    return keras.optimizers.LossScaleOptimizer(sgd())


MODES = {
    "eager": {"run_eagerly": True},
    "function": {},
    "xla": {"jit_compile": True},
    "loss scale optimizer": {"optimizer": loss_scaled},
    "loss scale factor": {"optimizer": lambda: sgd(loss_scale_factor=128.0)},
    "ema": {"optimizer": lambda: sgd(use_ema=True)},
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
def test_every_mode_records_what_a_tape_by_hand_finds(mode, data, by_hand, tmp_path):
    weights = trained(data, tmp_path, **MODES[mode])
    assert_recorded(tmp_path, by_hand)
    for with_recorder, without in zip(weights, trained(data, None, **MODES[mode]), strict=True):
        np.testing.assert_array_equal(with_recorder, without)


@pytest.mark.parametrize("optimizer", [None, loss_scaled], ids=["sgd", "loss scale"])
def test_two_devices_record_what_one_would(optimizer, data, by_hand, tmp_path):
    weights = trained(data, tmp_path, optimizer, mirrored())
    assert_recorded(tmp_path, by_hand)
    plain = trained(data, None, optimizer, mirrored())
    for with_recorder, without in zip(weights, plain, strict=True):
        np.testing.assert_array_equal(with_recorder, without)


def test_several_steps_per_execution_record_one_of_each(data, by_hand, tmp_path):
    weights = trained(data, tmp_path, steps_per_execution=2)
    assert_recorded(tmp_path, by_hand, steps=[0, 2])
    for with_recorder, without in zip(
        weights, trained(data, None, steps_per_execution=2), strict=True
    ):
        np.testing.assert_array_equal(with_recorder, without)


def test_a_step_in_the_middle_of_an_execution_is_recorded(data, by_hand, tmp_path):
    trained(data, tmp_path, steps_per_execution=4, every=3)
    assert_recorded(tmp_path, by_hand, steps=[0])
    trained(data, tmp_path / "other", steps_per_execution=2, every=3)
    assert_recorded(tmp_path / "other", by_hand, steps=[0, 3])


def test_gradients_are_recorded_before_clipping_and_updates_after(data, by_hand, tmp_path):
    trained(data, tmp_path, lambda: sgd(global_clipnorm=0.01))
    found = recorded(tmp_path)[0]
    update = np.sqrt(sum(of_block["update_norm"] ** 2 for of_block in found.values()))
    assert 0 < update <= 0.1 * 0.01 * 1.001
    for block, expected in by_hand[0].items():
        of_block = found[block]
        assert of_block["weight_gradient_norm"] == pytest.approx(
            expected["weight_gradient_norm"], rel=1e-5
        )


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_records_unscaled_float32_sums(policy, data, by_hand, tmp_path):
    keras.config.set_dtype_policy(policy)
    scaled = loss_scaled if policy == "mixed_float16" else None
    trained(data, tmp_path, scaled)
    # As near as the compute dtype is: 8 and 11 bits, through a few layers.
    found = recorded(tmp_path)
    for block, expected in by_hand[0].items():
        for name in ("skip_gradient_norm", "branch_gradient_norm", "output_gradient_norm"):
            rel = 0.05 if policy == "mixed_bfloat16" else 0.005
            assert found[0][block][name] == pytest.approx(expected[name], rel=rel, abs=1e-7)
    assert losses(str(tmp_path))[0] == pytest.approx(by_hand[0].loss, rel=rel)


def test_a_step_skipped_for_overflow_is_recorded_as_such(data, tmp_path):
    examples = data[0].copy()
    examples[BATCH] = np.inf
    weights = trained((examples, data[1]), tmp_path, loss_scaled)
    assert all(np.isfinite(array).all() for array in weights)
    found = recorded(tmp_path)
    assert sorted(found) == [0, 1, 2, 3]
    assert found[1]["identity"]["weight_gradient_nonfinite"] > 0
    assert found[1]["identity"]["update_norm"] == 0
    for step in (0, 2, 3):
        assert found[step]["identity"]["weight_gradient_nonfinite"] == 0
        assert found[step]["identity"]["update_norm"] > 0
    finite = {step: np.isfinite(loss) for step, loss in losses(str(tmp_path)).items()}
    assert finite == {0: True, 1: False, 2: True, 3: True}


def test_a_value_that_is_not_finite_is_counted_and_left_out(data, tmp_path):
    model = dense_model()
    model.compile(keras.optimizers.SGD(0.0), LOSS, jit_compile=False)
    examples = data[0][:BATCH].copy()
    examples[3] = np.nan
    gradients = path_gradients(model, examples, lambda logits: LOSS(data[1][:BATCH], logits))
    skip = gradients["identity"][0]
    recorder = reszoo.GradientRecorder(tmp_path)
    model.fit(examples, data[1][:BATCH], BATCH, verbose=0, callbacks=[recorder])
    # One example of 16 has 6 NaN; the others' gradients are as without it.
    of_block = recorded(tmp_path)[0]["identity"]
    assert of_block["skip_gradient_nonfinite"] == np.sum(~np.isfinite(skip)) == 6
    assert of_block["skip_gradient_norm"] == pytest.approx(
        np.linalg.norm(skip[np.isfinite(skip)]), rel=1e-5
    )


def test_frozen_blocks_still_report_their_paths(data, by_hand, tmp_path):
    model = dense_model()
    model.get_layer("identity").trainable = False
    model.compile(sgd(), LOSS, jit_compile=False)
    recorder = reszoo.GradientRecorder(tmp_path, every_steps=STEPS)
    model.fit(*data, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[recorder])
    of_block, expected = recorded(tmp_path)[0]["identity"], by_hand[0]["identity"]
    for name in ("skip_gradient_norm", "branch_gradient_norm", "output_gradient_norm"):
        assert of_block[name] == pytest.approx(expected[name], rel=1e-5)
    assert of_block["weight_gradient_norm"] == of_block["weight_norm"] == 0


def test_a_block_called_twice_adds_up_both_calls(data, tmp_path):
    keras.utils.set_random_seed(1)
    block = ResidualBlock([keras.layers.Dense(6, activation="tanh")], name="shared")
    inputs = keras.Input((6,))
    model = keras.Model(inputs, keras.layers.Dense(3)(block(block(inputs))))
    model.compile(sgd(), LOSS, jit_compile=False)
    x, labels = tf.constant(data[0][:BATCH]), data[1][:BATCH]
    with tf.GradientTape() as tape:
        skip1, branch1 = tf.identity(x), tf.identity(x)
        tape.watch([skip1, branch1])
        between = skip1 + block.branch(branch1)
        skip2, branch2 = tf.identity(between), tf.identity(between)
        y = skip2 + block.branch(branch2)
        loss = LOSS(labels, model.layers[-1](y))
    gradients = tape.gradient(loss, [skip1, skip2, branch1, branch2])
    model.fit(x, labels, BATCH, verbose=0, callbacks=[reszoo.GradientRecorder(tmp_path, 1)])
    of_block = recorded(tmp_path)[0]["shared"]
    for name, of_calls in (("skip", gradients[:2]), ("branch", gradients[2:])):
        expected = np.linalg.norm(np.concatenate(of_calls))
        assert of_block[f"{name}_gradient_norm"] == pytest.approx(expected, rel=1e-5)


class Subclassed(keras.Model):
    """A model whose blocks are attributes, one of them in a nested model."""

    def __init__(self):
        super().__init__()
        keras.utils.set_random_seed(1)
        chain = dense_model().layers
        self.first = chain[0]
        self.nested = keras.Sequential([keras.Input((6,)), *chain[1:3]], name="nested")
        self.head = chain[3]

    def call(self, x):
        return self.head(self.nested(self.first(x)))


def test_nested_and_subclassed_models_are_recorded(data, by_hand, tmp_path):
    model = Subclassed()
    model.compile(sgd(), LOSS, jit_compile=False)
    recorder = reszoo.GradientRecorder(tmp_path, 1)
    model.fit(*data, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[recorder])
    assert_recorded(tmp_path, by_hand)


@pytest.mark.parametrize("whole_block", [False, True])
def test_a_block_whose_activations_are_computed_again_is_recorded(
    whole_block, data, by_hand, tmp_path
):
    model = dense_model()
    for block in model.layers[:-1]:
        layer = block if whole_block else block.branch
        layer.call = keras.remat(layer.call)
    model.compile(sgd(), LOSS, jit_compile=False)
    recorder = reszoo.GradientRecorder(tmp_path, 1)
    model.fit(*data, batch_size=BATCH, shuffle=False, verbose=0, callbacks=[recorder])
    assert_recorded(tmp_path, by_hand)
