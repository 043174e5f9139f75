import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo.training.optimizers import create_learning_rate, create_optimizer


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
        ({"name": "adam"}, 'no optimizer \'adam\'. Give "sgd" or "adamw"'),
        ({"name": "sgd", "weight_decay": -1.0}, "weight_decay is not negative"),
        ({"name": "sgd", "momentum": 1.0}, "momentum is at least 0 and below 1"),
    ],
)
def test_bad_optimizers(options, message):
    with pytest.raises(ValueError, match=message):
        create_optimizer(learning_rate=0.1, **options)


@pytest.mark.parametrize(
    ("learning_rate", "warmup_steps", "message"),
    [
        (0.0, 0, "learning_rate is above zero"),
        (0.1, 5, "fewer than all 5"),
        (0.1, -1, "at least 0"),
    ],
)
def test_bad_schedules(learning_rate, warmup_steps, message):
    with pytest.raises(ValueError, match=message):
        create_learning_rate(learning_rate, warmup_steps, total_steps=5)
