"""A backend without a recorder, and another backend than the recorder's, are one sentence."""

import keras
import pytest

import reszoo
from reszoo.gradients import backend, gradient_by_path_length
from tests.gradients.tiny import X, Y, fit, tiny


def test_every_backend_has_the_same_names():
    for name in backend._NAMES:
        assert getattr(backend, name) is getattr(backend.tensorflow, name)
    with pytest.raises(AttributeError, match="no attribute 'taps'"):
        backend.taps  # noqa: B018


def test_a_backend_without_a_recorder_is_named_with_those_that_have_one(monkeypatch, tmp_path):
    model = tiny()
    monkeypatch.setattr(keras.backend, "backend", lambda: "openvino")
    refused = pytest.raises(ValueError, match=r"'openvino'.*KERAS_BACKEND.*tensorflow")
    with refused:
        reszoo.GradientRecorder(tmp_path)
    with refused:
        gradient_by_path_length(model, X, Y, keras.losses.MeanSquaredError())


def test_a_recorder_of_another_backend_is_refused(monkeypatch, tmp_path):
    recorder = reszoo.GradientRecorder(tmp_path)
    monkeypatch.setattr(recorder, "_backend", "jax")
    with pytest.raises(ValueError, match="made under the Keras backend 'jax', but this is 'ten"):
        fit(tiny(), recorder)
