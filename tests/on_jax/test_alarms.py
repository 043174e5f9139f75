"""Alarms read a model's variables while `fit` has their values elsewhere."""

import keras
import numpy as np
import pytest

import reszoo
from reszoo.gradients import Alarm, SaturatedScale, read_findings

X = np.random.default_rng(0).normal(size=(16, 4))


class Reading(Alarm):
    """Notes the scales at each recorded step, and never goes off."""

    kind = "reading"

    def look(self, recorded):
        branch = recorded.blocks["b"].branch
        read.append([np.array(branch.layers[1].gamma), np.array(branch.layers[1].moving_mean)])
        return iter(())


read = []


@pytest.mark.parametrize("steps_per_execution", [1, 2])
def test_alarms_read_the_variables_of_their_step(tmp_path, steps_per_execution):
    read.clear()
    scales = keras.layers.BatchNormalization(gamma_initializer="zeros")
    block = reszoo.ResidualBlock([keras.layers.Dense(4), scales], name="b")
    model = keras.Sequential([keras.Input((4,)), block, keras.layers.Dense(1)])
    model.compile("sgd", "mse", steps_per_execution=steps_per_execution)
    saturated = SaturatedScale(recorded_steps=1, below=10.0)
    recorder = reszoo.GradientRecorder(str(tmp_path), 1, alarms=[Reading(), saturated])
    model.fit(X, X[:, :1], 4, epochs=2, verbose=0, callbacks=[recorder])
    assert read_findings(str(tmp_path))[0].block == "b"
    assert len(read) == 8 // steps_per_execution
    assert not np.array_equal(read[0][0], read[-1][0])
    for found, variable in zip(read[-1], (scales.gamma, scales.moving_mean), strict=True):
        np.testing.assert_array_equal(found, np.array(variable))
