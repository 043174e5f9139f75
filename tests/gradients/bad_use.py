"""Bad use of a recorder on the backend of Keras in use, which each backend's tests run."""

import os
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest

import reszoo
from reszoo.gradients import check, gradient_by_path_length, instrument
from tests.gradients.dense import BATCH, LABELS, LOSS, STEPS, X, dense_model, recorded, sgd

REFUSED = r"log cannot be written to .*Give GradientRecorder a directory that can be made and writ"


def model_and_file(directory):
    model = dense_model()
    model.compile(sgd(), LOSS)
    (directory / "file").write_text("in the way")
    return model, directory / "file"


def fit(model, *callbacks):
    model.fit(X, LABELS, BATCH, verbose=0, shuffle=False, callbacks=list(callbacks))


class AtSecondBatch(keras.callbacks.Callback):
    """Calls a function after the first batch."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def on_train_batch_begin(self, batch, logs=None):
        if batch == 1:
            self.function()


def fill_disk(directory):
    """Lets no more be written to the files of a directory that are open."""
    full = os.open("/dev/full", os.O_WRONLY)
    for opened in Path("/proc/self/fd").iterdir():
        if opened.exists() and directory in opened.resolve().parents:
            os.dup2(full, int(opened.name))
    os.close(full)


def refuses_a_directory_that_is_a_file(directory):
    model, file = model_and_file(directory)
    before = model.get_weights()
    for log_dir in (file, file / "log"):
        with pytest.raises(ValueError, match=REFUSED):
            fit(model, reszoo.GradientRecorder(log_dir, 1))
    for weights, kept in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, kept)
    fit(model, reszoo.GradientRecorder(directory / "log", 1))
    assert sorted(recorded(directory / "log")) == list(range(STEPS))


def refuses_it_in_a_loop(directory):
    model, file = model_and_file(directory)
    recorder = reszoo.GradientRecorder(file, 1)
    callbacks = keras.callbacks.CallbackList([recorder], model=model)
    callbacks.on_train_begin()
    recorder.recorded(lambda: None)
    with pytest.raises(ValueError, match=REFUSED):
        callbacks.on_train_batch_begin(0)
    recorder.close()


def keeps_what_was_trained_when_the_disk_is_full(directory):
    model, _ = model_and_file(directory)
    names, log_dir = sorted(vars(model)), directory / "full"
    recorder = reszoo.GradientRecorder(log_dir, 1)
    with pytest.raises(OSError, match=r"log in .*full' cannot be written: No space left"):
        fit(model, recorder, AtSecondBatch(lambda: fill_disk(log_dir)))
    added = set(vars(model)).difference(names)
    assert not [name for name in added if "record" in name or "function" in name]
    assert not recorder.due
    assert int(model.optimizer.iterations) == 2
    fit(model)
    assert int(model.optimizer.iterations) == 2 + STEPS


def records_what_another_one_cannot(directory):
    model, _ = model_and_file(directory)
    full, other = (reszoo.GradientRecorder(directory / name, 1) for name in ("full", "other"))
    with pytest.raises(OSError, match="No space left"):
        fit(model, full, other, AtSecondBatch(lambda: fill_disk(directory / "full")))
    assert sorted(recorded(directory / "other")) == [0, 1]
    fit(model, other)
    assert sorted(recorded(directory / "other")) == list(range(2 + STEPS))


def says_that_the_log_was_deleted(directory):
    model, _ = model_and_file(directory)
    log_dir = directory / "deleted"

    def delete():
        for file in log_dir.iterdir():
            file.unlink()

    with pytest.raises(OSError, match=r"log in .*deleted' cannot be written: its file was deleted"):
        fit(model, reszoo.GradientRecorder(log_dir, 1), AtSecondBatch(delete))
    assert int(model.optimizer.iterations) == 2


def goes_on_in_a_directory_that_was_renamed(directory):
    model, _ = model_and_file(directory)
    before, after = directory / "before", directory / "after"
    recorder = reszoo.GradientRecorder(before, 1)
    fit(model, recorder, AtSecondBatch(lambda: before.rename(after)))
    assert sorted(recorded(after)) == list(range(STEPS))


def refuses_another_backend_than_it_was_made_under(directory):
    model, _ = model_and_file(directory)
    recorder = reszoo.GradientRecorder(directory / "log", 1)
    own = keras.backend.backend()
    other = "jax" if own == "torch" else "torch"
    # As after keras.config.set_backend, which imports Keras again.
    keras_now = SimpleNamespace(backend=SimpleNamespace(backend=lambda: other))
    refused = pytest.raises(
        ValueError, match=f"under the Keras backend '{own}', but Keras now has '{other}'.*KERAS_BAC"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "keras", keras_now)
        with refused:
            recorder.set_model(model)
        with refused:
            reszoo.GradientRecorder(directory / "log", 1)
        with refused:
            gradient_by_path_length(model, X, LABELS, LOSS)
        for of_other_keras in (model, object()):
            with refused:
                gradient_by_path_length(of_other_keras, X, LABELS, LOSS)
            with refused:
                instrument(of_other_keras)
            with refused:
                check(of_other_keras, X)
    assert not (directory / "log").exists()


BAD_USE = [
    refuses_a_directory_that_is_a_file,
    refuses_it_in_a_loop,
    keeps_what_was_trained_when_the_disk_is_full,
    records_what_another_one_cannot,
    says_that_the_log_was_deleted,
    goes_on_in_a_directory_that_was_renamed,
    refuses_another_backend_than_it_was_made_under,
]
