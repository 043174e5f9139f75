"""A fit that is not the first runs what was compiled before, as long as nothing has changed."""

import keras
import numpy as np
import pytest

import reszoo
from tests.gradients.dense import BATCH, LABELS, LOSS, STEPS, X, assert_recorded, dense_model, sgd
from tests.on_jax.by_hand import training_by_hand


class Counted(keras.Model):
    """Counts how often its step is traced."""

    traces = 0

    def train_step(self, state, data):
        type(self).traces += 1
        return super().train_step(state, data)


def counted(**options):
    model = dense_model()
    Counted.traces = 0
    model = Counted(model.inputs, model.outputs)
    model.compile(sgd(), LOSS, **options)
    return model


def fit(model, *callbacks):
    model.fit(X, LABELS, BATCH, shuffle=False, verbose=0, callbacks=list(callbacks))


def recorded_steps(log_dir):
    return sorted(set(reszoo.gradients.load(log_dir).step))


@pytest.mark.parametrize("options", [{}, {"steps_per_execution": 2}])
def test_a_second_fit_traces_nothing_and_records_the_next_steps(options, tmp_path):
    model, plain = counted(**options), counted(**options)
    fit(model, reszoo.GradientRecorder(tmp_path, 2))
    first, Counted.traces = Counted.traces, 0
    fit(model, reszoo.GradientRecorder(tmp_path, 2))
    fit(model)
    assert first > 0
    assert Counted.traces == 0
    for _ in range(3):
        fit(plain)
    for value, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)
    batches = [(X[i : i + BATCH], LABELS[i : i + BATCH]) for i in range(0, len(X), BATCH)]
    by_hand = training_by_hand(dense_model(), sgd(), 2 * batches, LOSS)
    assert_recorded(tmp_path, by_hand, steps=range(0, 2 * STEPS, 2))


def test_a_model_that_is_compiled_again_is_traced_again(tmp_path):
    model = counted()
    for _ in range(2):
        model.layers[-1].trainable = not model.layers[-1].trainable
        model.compile(sgd(), LOSS)
        Counted.traces = 0
        fit(model, reszoo.GradientRecorder(tmp_path, 2))
        assert Counted.traces > 0
    assert recorded_steps(tmp_path) == list(range(0, 2 * STEPS, 2))


def test_other_sets_are_recorded_with_other_taps(tmp_path):
    model = counted()
    for sets in (["paths"], ["paths", "weights"], ["paths"]):
        fit(model, reszoo.GradientRecorder(tmp_path, STEPS, sets))
    table = reszoo.gradients.load(tmp_path)
    norms = table[(table.statistic == "update_norm") & table.value.notna()]
    assert sorted(set(norms.step)) == [STEPS]
