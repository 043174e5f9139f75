import keras
import numpy as np
import pytest
from keras import layers

from reszoo.data import Pipeline, load_source
from reszoo.training import fit
from reszoo.training.checkpoints import Checkpoints

PIPELINE = Pipeline(load_source("digits"), batch_size=200, shift_pixels=1)


def small_model(seed=0, units=8):
    """A model with all kinds of state: averages of a normalization, a dropout's random state."""
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(units),
            layers.BatchNormalization(),
            layers.Dropout(0.2),
            layers.Dense(10),
        ]
    )
    model.compile(keras.optimizers.AdamW(0.01))
    model.optimizer.build(model.trainable_variables)
    return model


def state(model):
    return [variable.numpy() for variable in (*model.variables, *model.optimizer.variables)]


def test_going_on_is_bit_for_bit_as_if_there_had_been_no_interruption(tmp_path):
    whole = small_model()
    fit(whole, PIPELINE, epochs=3)

    first = small_model()
    fit(first, PIPELINE, epochs=2, callbacks=[Checkpoints(tmp_path, first)])
    second = small_model(seed=5)
    checkpoints = Checkpoints(tmp_path, second)
    epochs_done = checkpoints.restore()
    assert epochs_done == 2
    fit(second, PIPELINE, epochs=3, first_epoch=epochs_done, callbacks=[checkpoints])

    for found, expected in zip(state(second), state(whole), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert Checkpoints(tmp_path, small_model()).restore() == 3


def test_nothing_to_restore(tmp_path):
    model = small_model()
    before = state(model)
    assert Checkpoints(tmp_path / "none", model).restore() == 0
    for found, expected in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_the_last_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, small_model())
    for epoch in range(3):
        checkpoints.on_epoch_end(epoch)
    assert {file.stem for file in tmp_path.glob("*.index")} == {"ckpt-2", "ckpt-3"}


@pytest.mark.parametrize("damage", ["another model", "cut short", "missing"])
def test_a_checkpoint_that_does_not_fit(tmp_path, damage):
    Checkpoints(tmp_path, small_model()).on_epoch_end(0)
    data = next(tmp_path.glob("*.data-*"))
    if damage == "cut short":
        data.write_bytes(data.read_bytes()[:100])
    if damage == "missing":
        data.unlink()
    model = small_model(units=9 if damage == "another model" else 8)
    with pytest.raises(ValueError, match="is damaged, or was written by another model"):
        Checkpoints(tmp_path, model).restore()
