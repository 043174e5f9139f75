"""Trains on one and on two devices and compares; run by `test_strategy.py` on its own.

The devices are two halves of the CPU, which must be set before TensorFlow starts.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from reszoo import ResidualBlock
from reszoo.data import Pipeline, load_source
from reszoo.training import fit
from reszoo.training.callbacks.confusion_counts import ConfusionCounts
from reszoo.training.loop import evaluate
from reszoo.training.losses import ClassificationLoss
from reszoo.training.optimizers import create_learning_rate, create_optimizer
from reszoo.training.strategy import spread_over


def digits(batch_size):
    return Pipeline(load_source("digits"), batch_size=batch_size, shift_pixels=1)


def train(devices):
    # 360 test images do not fill batches of 50, so the last one is split with its padding.
    pipeline = digits(50)
    strategy = spread_over(devices)
    assert strategy.num_replicas_in_sync == len(devices)
    keras.utils.set_random_seed(0)
    with strategy.scope():
        # No batch normalization: each device would normalize by its own images.
        model = keras.Sequential(
            [
                keras.Input((8, 8, 1)),
                layers.Flatten(),
                layers.Dense(16, kernel_regularizer="l2"),
                ResidualBlock([layers.Dense(16, activation="relu"), layers.Dense(16)]),
                layers.Dense(10),
            ]
        )
        rate = create_learning_rate(0.05, 2, 2 * pipeline.steps_per_epoch)
        variables = model.trainable_variables
        optimizer = create_optimizer("sgd", rate, weight_decay=1e-3, variables=variables)
        loss = ClassificationLoss("binary_crossentropy", class_weights=range(1, 11))
        model.compile(optimizer, loss, steps_per_execution=3 * len(devices) - 2)
        confusion = ConfusionCounts(10)
    logs = fit(model, pipeline, epochs=2, callbacks=[confusion], strategy=strategy)
    assert confusion.counts.sum() == 360
    assert np.trace(confusion.counts) == round(360 * logs["val_accuracy"])
    # Tested again on one device.
    again = ConfusionCounts(10)
    evaluate(model, pipeline, callbacks=[again])
    np.testing.assert_array_equal(again.counts, confusion.counts)
    return model, logs


def check_same_result():
    one, one_logs = train(["CPU:0"])
    two, two_logs = train(["CPU:0", "CPU:1"])
    for name in ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate"):
        np.testing.assert_allclose(two_logs[name], one_logs[name], rtol=1e-4)
    for weight, expected in zip(two.get_weights(), one.get_weights(), strict=True):
        np.testing.assert_allclose(weight, expected, rtol=1e-3, atol=1e-5)
    return two


def check_rate_that_is_no_schedule(model):
    strategy = model.distribute_strategy
    with strategy.scope():
        model.compile(keras.optimizers.SGD(0.125))
        model.optimizer.build(model.trainable_variables)
    assert fit(model, digits(50), epochs=1, strategy=strategy)["learning_rate"] == 0.125


def check_errors(model):
    strategy = spread_over(["CPU:0", "CPU:1"])
    with pytest.raises(ValueError, match="XLA cannot compile"):
        fit(model, digits(50), epochs=1, strategy=strategy, jit_compile=True)
    with pytest.raises(ValueError, match="split evenly over 2 devices"):
        fit(model, digits(51), epochs=1, strategy=strategy)


if __name__ == "__main__":
    cpu = tf.config.list_physical_devices("CPU")[0]
    halves = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, halves)
    trained = check_same_result()
    check_errors(trained)
    check_rate_that_is_no_schedule(trained)
    print("two devices agree with one")
