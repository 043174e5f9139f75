import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo.training.optimizers import (
    UpdateRule,
    create_learning_rate,
    create_optimizer,
    warmup_steps_of,
)


def test_warmup_then_cosine():
    rate = create_learning_rate(0.4, warmup_steps=4, total_steps=12)
    for step in range(5):
        assert float(rate(step)) == pytest.approx(0.1 + 0.3 * step / 4)
    for step in range(4, 12):
        expected = 0.2 * (1 + math.cos(math.pi * (step - 4) / 8))
        assert float(rate(step)) == pytest.approx(expected, abs=1e-7)
    assert float(rate(12)) == pytest.approx(0, abs=1e-7)


def test_no_warmup_starts_at_the_highest_rate():
    assert float(create_learning_rate(0.4, warmup_steps=0, total_steps=2)(0)) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("warmup_epochs", "epochs", "expected"), [(0.0, 1, 0), (0.3, 1, 3), (1.0, 1, 5), (5.0, 4, 20)]
)
def test_a_warmup_lasts_for_half_of_the_run_at_most(warmup_epochs, epochs, expected, caplog):
    assert warmup_steps_of(warmup_epochs, 10, epochs) == expected
    assert ("half of the run" in caplog.text) == (expected < warmup_epochs * 10)


def test_a_run_of_one_step_does_not_warm_up():
    assert warmup_steps_of(1.0, 1, 1) == 0


@pytest.mark.parametrize("warmup_epochs", [-1.0, math.inf, math.nan])
def test_a_warmup_that_is_no_number_of_epochs(warmup_epochs):
    with pytest.raises(ValueError, match="warmup_epochs must be a number of epochs"):
        warmup_steps_of(warmup_epochs, 10, 2)


def variables():
    kernel = keras.Variable(np.ones((2, 3), "float32"), name="kernel")
    bias = keras.Variable(np.ones(3, "float32"), name="bias")
    return [kernel, bias]


def test_sgd_is_nesterov_with_decoupled_decay_written_out():
    kernel, bias = variables()
    optimizer = create_optimizer(
        "sgd", 0.5, weight_decay=0.1, momentum=0.9, variables=[kernel, bias]
    )
    weight, offset, velocity = 1.0, 1.0, 0.0
    for gradient in (1.0, -2.0, 3.0):
        optimizer.apply([tf.fill((2, 3), gradient), tf.fill((3,), gradient)], [kernel, bias])
        velocity = 0.9 * velocity - 0.5 * gradient
        update = 0.9 * velocity - 0.5 * gradient
        weight = weight * (1 - 0.5 * 0.1) + update
        offset = offset + update
    np.testing.assert_allclose(kernel, np.full((2, 3), weight), rtol=1e-5)
    np.testing.assert_allclose(bias, np.full(3, offset), rtol=1e-5)


def test_adamw_decays_kernels_alone():
    kernel, bias = variables()
    optimizer = create_optimizer("adamw", 0.5, weight_decay=0.1, variables=[kernel, bias])
    optimizer.apply([tf.zeros((2, 3)), tf.zeros(3)], [kernel, bias])
    np.testing.assert_allclose(kernel, np.full((2, 3), 0.95), rtol=1e-6)
    np.testing.assert_array_equal(bias, np.ones(3))


def test_no_decay_leaves_the_weights_alone():
    kernel, bias = variables()
    optimizer = create_optimizer("adamw", 0.5, variables=[kernel, bias])
    optimizer.apply([tf.zeros((2, 3)), tf.zeros(3)], [kernel, bias])
    np.testing.assert_array_equal(kernel, np.ones((2, 3)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adam"}, 'no optimizer \'adam\'. Give "sgd", "adamw", "lamb" or "muon"'),
        ({"name": "sgd", "weight_decay": -1.0}, "weight_decay must be a number of at least 0"),
        ({"name": "sgd", "momentum": 1.0}, "momentum must be a number of at least 0 and below 1"),
    ],
)
def test_bad_optimizers(options, message):
    with pytest.raises(ValueError, match=message):
        create_optimizer(learning_rate=0.1, **options)


@pytest.mark.parametrize(
    ("learning_rate", "warmup_steps", "message"),
    [
        (0.0, 0, "learning_rate must be a number of at least 1e-30"),
        (math.nan, 0, "learning_rate must be a number"),
        (0.1, 5, "fewer than all 5"),
        (0.1, -1, "at least 0"),
    ],
)
def test_bad_schedules(learning_rate, warmup_steps, message):
    with pytest.raises(ValueError, match=message):
        create_learning_rate(learning_rate, warmup_steps, total_steps=5)


def test_the_rate_falls_by_steps_as_in_the_paper():
    rate = create_learning_rate(0.1, 0, 64_000, name="step", boundaries=(32_000, 48_000))
    found = [float(rate(step)) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


@pytest.mark.parametrize("name", ["step", "polynomial"])
def test_a_warmup_before_a_schedule_survives_saving(name):
    rate = create_learning_rate(0.4, 4, 12, name, boundaries=(8,), factor=0.5, power=2.0)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(rate))
    after = {"step": [0.4] * 4 + [0.2] * 4, "polynomial": 0.4 * (1 - np.arange(8) / 8) ** 2}
    expected = [0.1, 0.175, 0.25, 0.325, *after[name]]
    for schedule in (rate, again):
        assert [float(schedule(step)) for step in range(12)] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", ["adamw", "lamb", "muon"])
def test_each_optimizer_takes_a_step_down_and_decays_kernels_alone(name):
    kernel, bias = variables()
    optimizer = create_optimizer(name, 0.01, weight_decay=0.1, variables=[kernel, bias])
    optimizer.apply([tf.ones((2, 3)), tf.zeros(3)], [kernel, bias])
    assert (kernel.numpy() < 1).all()
    np.testing.assert_array_equal(bias, np.ones(3))


def test_clipping_shortens_the_gradient_of_all_weights_together():
    kernel, bias = variables()
    optimizer = create_optimizer(
        "sgd", 1.0, momentum=0.0, rule=UpdateRule(clip_norm=1.0), variables=[kernel, bias]
    )
    optimizer.apply([tf.fill((2, 3), 4.0), tf.fill((3,), 4.0)], [kernel, bias])
    # Nine values of 4 have the norm 12.
    np.testing.assert_allclose(kernel, np.full((2, 3), 1 - 4 / 12), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_norm": -1.0}, "clip_norm must be a number of at least 0"),
        ({"clip_norm": math.nan}, "clip_norm must be a number of at least 0"),
        ({"ema_momentum": 1.0}, "ema_momentum must be a number of at least 0 and below 1"),
        ({"accumulation_steps": 0}, "accumulation_steps must be a whole number of at least 1"),
    ],
)
def test_update_rules_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        UpdateRule(**options)


@pytest.mark.parametrize("options", [{"name": "cosin"}, {"name": "step"}])
def test_schedules_that_lack_something(options):
    with pytest.raises(ValueError, match=r'Give "cosine"|needs boundaries'):
        create_learning_rate(0.1, 0, 10, **options)


@pytest.mark.parametrize("options", [{"factor": -1.0}, {"power": -1.0}, {"power": math.inf}])
def test_a_schedule_that_would_rise(options):
    with pytest.raises(ValueError, match="must be a number"):
        create_learning_rate(0.1, 0, 10, **options)
