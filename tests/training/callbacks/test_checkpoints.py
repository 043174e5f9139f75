import errno
import os

import keras
import numpy as np
import pytest
from keras import layers
from ml_collections import ConfigDict

from reszoo.data import Pipeline, load_source
from reszoo.training import fit
from reszoo.training.callbacks.best_epoch import BestEpoch
from reszoo.training.callbacks.checkpoints import Checkpoints
from reszoo.training.checkpoint_files import write_arrays
from reszoo.training.identity import identity_of
from reszoo.training.state import NonFiniteError, RunError, TrainingState

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


def checkpoints(directory, model, **options):
    return Checkpoints(directory, model, TrainingState(), **options)


class Trip(keras.callbacks.Callback):
    """Ends a training in its tracks, as a kill does, at the n-th call of a method."""

    def __init__(self, method, calls):
        super().__init__()
        self.calls = calls
        setattr(self, method, self.trip)

    def trip(self, *_, **__):
        self.calls -= 1
        if self.calls == 0:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole():
    """The state after three epochs without interruption."""
    keras.config.set_dtype_policy("float32")
    model = small_model()
    logs = fit(model, PIPELINE, epochs=3)
    return state(model), logs


@pytest.mark.parametrize(
    ("method", "calls", "every_steps"),
    [
        ("on_train_batch_end", 11, 2),  # in the second epoch, after a checkpoint within it
        ("on_train_batch_end", 14, 7),  # between the last step of an epoch and its test
        ("on_test_batch_end", 3, 3),
        ("on_epoch_end", 2, 0),
    ],
)
def test_going_on_is_bit_for_bit_as_if_there_had_been_no_interruption(
    tmp_path, whole, method, calls, every_steps
):
    first, at = small_model(), TrainingState()
    callbacks = [
        Checkpoints(tmp_path, first, at, every_steps=every_steps),
        Trip(method, calls),
    ]
    with pytest.raises(KeyboardInterrupt):
        fit(first, PIPELINE, epochs=3, state=at, callbacks=callbacks)

    second, at = small_model(seed=5), TrainingState()
    saved = Checkpoints(tmp_path, second, at)
    assert saved.restore()
    assert (at.epoch, at.batch) == {11: (1, 4), 14: (1, 7), 3: (1, 6), 2: (2, 0)}[calls]
    logs = fit(second, PIPELINE, epochs=3, state=at, callbacks=[saved])
    for found, expected in zip(state(second), whole[0], strict=True):
        np.testing.assert_array_equal(found, expected)
    for name in logs.keys() - {"images_per_second"}:
        assert logs[name] == whole[1][name]


def test_several_steps_an_execution_save_at_the_same_steps(tmp_path, whole):
    first, at = small_model(), TrainingState()
    first.steps_per_execution = 5
    saved = Checkpoints(tmp_path, first, at, every_steps=3, keep=20)
    fit(first, PIPELINE, epochs=3, state=at, callbacks=[saved])
    places = [(epoch, batch) for epoch in range(3) for batch in (0, 3, 6)]
    names = [f"step-{epoch:06d}-{batch:09d}.npz" for epoch, batch in (*places, (3, 0))]
    assert [path.name for path in saved.files] == names
    for found, expected in zip(state(first), whole[0], strict=True):
        np.testing.assert_array_equal(found, expected)

    second, at = small_model(seed=5), TrainingState()
    assert Checkpoints(tmp_path, second, at).restore(saved.files[4])
    second.steps_per_execution = 4
    fit(second, PIPELINE, epochs=3, state=at)
    for found, expected in zip(state(second), whole[0], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_nothing_to_restore(tmp_path):
    model = small_model()
    before = state(model)
    assert not checkpoints(tmp_path / "none", model).restore()
    for found, expected in zip(state(model), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def saved_epochs(directory, epochs=2, **options):
    """Saves after some epochs, with weights that are the number of epochs done."""
    model, at = small_model(), TrainingState()
    saved = Checkpoints(directory, model, at, **options)
    for epoch in range(epochs):
        at.epoch = epoch + 1
        model.set_weights([np.full_like(w, at.epoch) for w in model.get_weights()])
        saved.on_epoch_end(epoch)
    return saved


def restored(directory):
    model, at = small_model(seed=5), TrainingState()
    Checkpoints(directory, model, at).restore()
    assert (model.trainable_variables[0].numpy() == at.epoch).all()
    return at.epoch


def test_the_latest_are_kept_and_nothing_else(tmp_path):
    saved_epochs(tmp_path, epochs=4, keep=2)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "step-000003-000000000.npz",
        "step-000004-000000000.npz",
    ]


def test_the_best_is_kept_beside_them(tmp_path):
    model, at = small_model(), TrainingState()
    callbacks = [BestEpoch(at), Checkpoints(tmp_path, model, at, keep=1)]
    for epoch, accuracy in enumerate([0.5, 0.75, 0.5]):
        at.epoch = epoch + 1
        model.set_weights([np.full_like(w, at.epoch) for w in model.get_weights()])
        for callback in callbacks:
            callback.on_epoch_end(epoch, {"val_accuracy": accuracy})
    assert restored(tmp_path) == 3
    best, at = small_model(seed=5), TrainingState()
    Checkpoints(tmp_path, best, at).restore(tmp_path / "best.npz")
    assert (at.epoch, at.best, at.best_epoch) == (2, 0.75, 2)
    assert (best.trainable_variables[0].numpy() == 2).all()


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "one bit":
        content[len(content) // 2] ^= 1
    path.write_bytes({"one bit": content, "cut short": content[:100], "empty": b""}[how])


@pytest.mark.parametrize("how", ["one bit", "cut short", "empty"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_aloud(tmp_path, caplog, how):
    damage(saved_epochs(tmp_path).files[-1], how)
    assert restored(tmp_path) == 1
    assert "step-000002-000000000.npz is damaged" in caplog.text
    assert "the one before it is used" in caplog.text


def test_when_all_are_damaged(tmp_path):
    for file in saved_epochs(tmp_path).files:
        damage(file, "one bit")
    with pytest.raises(ValueError, match=r"Every checkpoint in .* is damaged"):
        checkpoints(tmp_path, small_model()).restore()


def test_the_checkpoint_of_another_model(tmp_path):
    saved_epochs(tmp_path)
    with pytest.raises(ValueError, match="was written by another model"):
        checkpoints(tmp_path, small_model(units=9)).restore()


def test_a_full_disk_is_one_sentence_and_leaves_the_last_checkpoint(tmp_path, monkeypatch):
    saved = saved_epochs(tmp_path)

    def no_space(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", no_space)  # where a disk says that it had no room after all
    saved._state.batch = 7
    with pytest.raises(RunError, match=r"could not be written \(No space left on device\)") as e:
        saved.save()
    assert "step-000002-000000000.npz, is intact. Free some space" in str(e.value)
    assert restored(tmp_path) == 2
    assert not list(tmp_path.glob("*.partial*"))


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    saved = saved_epochs(tmp_path)
    kernel = saved._saved_model.trainable_variables[0]
    kernel.assign(np.full(kernel.shape, np.nan))
    saved._state.batch = 7
    with pytest.raises(NonFiniteError, match="not finite"):
        saved.save()
    assert restored(tmp_path) == 2


def test_what_a_kill_left_half_written_is_swept_away(tmp_path):
    saved = saved_epochs(tmp_path)
    (tmp_path / "step-000003-000000000.npz.partial").write_bytes(b"half")
    saved.on_train_begin()
    assert not list(tmp_path.glob("*.partial*"))
    assert restored(tmp_path) == 2


def test_a_model_of_bfloat16_comes_back(tmp_path):
    keras.config.set_dtype_policy("bfloat16")
    model, other = small_model(), small_model(seed=5)
    checkpoints(tmp_path, model).save()
    checkpoints(tmp_path, other).restore()
    for found, expected in zip(state(other), state(model), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("options", [{"every_steps": -1}, {"keep": 0}])
def test_numbers_out_of_range(tmp_path, options):
    with pytest.raises(ValueError, match=f"checkpoint.{next(iter(options))}"):
        checkpoints(tmp_path, small_model(), **options)


def names(directory):
    return sorted(file.name for file in directory.iterdir())


def test_what_is_later_than_the_place_that_is_gone_on_from_is_moved_aside_aloud(tmp_path, caplog):
    saved_epochs(tmp_path, epochs=3, keep=3)
    damage(tmp_path / "step-000003-000000000.npz", "one bit")
    model, at = small_model(seed=5), TrainingState()
    saved = Checkpoints(tmp_path, model, at, keep=1)
    saved.restore()
    saved.on_train_begin()
    assert "are later than epoch 2, batch 0" in caplog.text
    assert "step-000003-000000000.npz.aside" in caplog.text
    at.batch = 4
    written = saved.save()
    assert names(tmp_path) == [written.name, "step-000003-000000000.npz.aside"]
    damaged_again = tmp_path / "step-000003-000000000.npz"
    damaged_again.write_bytes(b"another")
    assert Checkpoints(tmp_path, model, at, keep=1).restore()
    saved.put_in_order()
    assert (tmp_path / "step-000003-000000000.npz.aside1").read_bytes() == b"another"


def test_what_was_just_written_stays_beside_later_ones_of_another(tmp_path):
    saved = saved_epochs(tmp_path, epochs=1, keep=1)
    (tmp_path / "step-000009-000000000.npz").write_bytes(b"by somebody else, while this runs")
    saved._state.batch = 5
    assert saved.save().exists()
    assert names(tmp_path) == ["step-000001-000000005.npz", "step-000009-000000000.npz"]


def test_only_what_can_be_read_counts_as_kept(tmp_path, caplog):
    saved = saved_epochs(tmp_path, epochs=2, keep=2)
    damage(tmp_path / "step-000002-000000000.npz", "cut short")
    saved._state.epoch = 3
    saved.save()
    assert names(tmp_path) == [
        "step-000001-000000000.npz",
        "step-000002-000000000.npz.aside",
        "step-000003-000000000.npz",
    ]
    assert "It is kept as step-000002-000000000.npz.aside" in caplog.text


def test_a_copy_or_a_directory_beside_the_checkpoints_is_none(tmp_path, caplog):
    saved = saved_epochs(tmp_path)
    (tmp_path / "step-000009 (copy).npz").write_bytes(saved.files[0].read_bytes())
    (tmp_path / "step-000008-000000000.npz").mkdir()
    assert restored(tmp_path) == 2
    assert "no regular file" in caplog.text


@pytest.mark.parametrize("content", ["nothing", "a later version", "an array of objects"])
def test_a_file_that_is_whole_but_no_checkpoint(tmp_path, caplog, content):
    saved_epochs(tmp_path)
    arrays = {
        "nothing": {},
        "a later version": {"state": '{"epoch": 3, "phase": "of the moon"}'},
        "an array of objects": {"state": np.array([{}], dtype=object)},
    }[content]
    write_arrays(tmp_path / "step-000003-000000000.npz", arrays)
    assert restored(tmp_path) == 2
    assert "step-000003-000000000.npz is" in caplog.text


def best_epoch_of(path):
    model, at = small_model(seed=5), TrainingState()
    Checkpoints(path.parent, model, at).restore(path)
    return at.epoch


def three_epochs(directory, accuracies=(0.5, 0.25, 0.75), losses=(3.0, 1.0, 2.0), keep=3):
    """Saves three epochs with their figures; returns the state, and what saves it."""
    model, at = small_model(), TrainingState()
    saved = Checkpoints(directory, model, at, keep=keep)
    best = BestEpoch(at)
    for epoch, (accuracy, loss) in enumerate(zip(accuracies, losses, strict=True)):
        at.epoch = epoch + 1
        figures = {"epoch": epoch + 1, "test_accuracy": accuracy, "test_loss": loss}
        at.history = (*at.history, figures)
        for callback in (best, saved):
            callback.on_epoch_end(epoch, {"val_accuracy": accuracy})
    return at, saved


def test_a_kill_between_a_checkpoint_and_the_best_is_made_up_for(tmp_path):
    _, saved = three_epochs(tmp_path)
    (tmp_path / "best.npz").unlink()  # which is the same file as that of the third epoch
    (tmp_path / "best.npz").write_bytes((tmp_path / "step-000001-000000000.npz").read_bytes())
    (tmp_path / "best.npz.partial").write_bytes(b"half")
    saved.put_in_order()
    assert best_epoch_of(tmp_path / "best.npz") == 3
    assert not list(tmp_path.glob("*.partial*"))
    assert not list(tmp_path.glob("*.aside"))


def test_the_best_by_another_figure_is_looked_for_among_the_checkpoints(tmp_path, caplog):
    at, saved = three_epochs(tmp_path)
    BestEpoch(at, "val_loss").take_up()
    assert (at.best, at.best_epoch) == (1.0, 2)
    saved.put_in_order()
    assert best_epoch_of(tmp_path / "best.npz") == 2
    assert best_epoch_of(tmp_path / "best.npz.aside") == 3
    assert "is of epoch 3, but the best epoch is 2 by now" in caplog.text


def test_a_best_epoch_whose_checkpoint_is_gone_is_missed_aloud(tmp_path, caplog):
    at, saved = three_epochs(tmp_path, keep=1)
    BestEpoch(at, "val_loss").take_up()
    saved.put_in_order()
    assert not (tmp_path / "best.npz").exists()
    assert best_epoch_of(tmp_path / "best.npz.aside") == 3
    assert "The checkpoint of epoch 2, the best, is no longer in" in caplog.text


def test_the_figures_of_the_epochs_are_in_the_checkpoint(tmp_path):
    at, _ = three_epochs(tmp_path)
    model, found = small_model(seed=5), TrainingState()
    Checkpoints(tmp_path, model, found).restore()
    assert found == at
    assert found.has_history


def test_the_checkpoint_of_another_run_is_refused_by_the_field_that_differs(tmp_path):
    model, at = small_model(), TrainingState()
    config = ConfigDict({"seed": 1, "model": {"width": 4}, "epochs": 2})
    ours = identity_of(config, data="abc")
    Checkpoints(tmp_path, model, at, identity=ours).save()

    def restore(data="abc", **changes):
        other = ConfigDict(config.to_dict())
        other.update_from_flattened_dict(changes)
        saved = Checkpoints(tmp_path, model, at, identity=identity_of(other, data))
        assert saved.restore()
        assert saved.restored == ours

    restore(epochs=3)
    restore(data="")  # not known
    with pytest.raises(ValueError, match=r"step-.*npz holds a run with seed=1, but now it is 2\."):
        restore(seed=2)
    with pytest.raises(ValueError, match=r"model.width=4, but now it is 8"):
        restore(**{"model.width": 8})
    with pytest.raises(ValueError, match="a run of other data"):
        restore(data="abd")


def test_a_checkpoint_of_an_earlier_version_is_of_any_run(tmp_path):
    model, at = small_model(), TrainingState()
    Checkpoints(tmp_path, model, at).save()
    saved = Checkpoints(tmp_path, model, at, identity=identity_of(ConfigDict({"seed": 1})))
    assert saved.restore()
    assert saved.restored is None
