"""A backend without a recorder is one sentence."""

import keras
import pytest

import reszoo
from reszoo.gradients import backend, gradient_by_path_length
from tests.gradients.tiny import X, Y, tiny


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
