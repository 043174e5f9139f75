"""Runs whose work directories were damaged, and runs in which something fails."""

import errno
import json
import os
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import reszoo.training.run as run_module
from reszoo.training import loggers, prepare, resume
from reszoo.training.callbacks import logging
from reszoo.training.callbacks.checkpoints import Checkpoints
from reszoo.training.config import complete
from reszoo.training.failures import in_one_line
from reszoo.training.metrics_file import mend_metrics
from reszoo.training.state import RunError
from tests.training import tiny


def config_of(**changes):
    config = complete(tiny.get_config())
    config.update_from_flattened_dict({"epochs": 2, "recording.every_steps": 0, **changes})
    return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The work directory of a finished run of two epochs."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    prepare(config_of(), workdir).train()
    return workdir


@pytest.fixture
def workdir(finished, tmp_path):
    """A copy of it, elsewhere."""
    return shutil.copytree(finished, tmp_path / "run")


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def without_speed(workdir):
    return [{**line, "images_per_second": None} for line in lines(workdir)]


class TestIdentity:
    """Files that must be in a work directory, so that a run goes on from it."""

    def test_another_seed_is_found_in_the_checkpoints_where_there_is_no_configuration(
        self, workdir
    ):
        (workdir / "config.json").unlink()
        with pytest.raises(ValueError, match=r"npz holds a run with seed=0, but now it is 7\."):
            prepare(config_of(seed=7), workdir)
        assert not (workdir / "config.json").exists()

    def test_a_configuration_that_was_deleted_is_written_again_aloud(self, workdir, caplog):
        (workdir / "config.json").unlink()
        prepare(config_of(), workdir).lock.release()
        assert "config.json was not there. It is written again" in caplog.text
        assert json.loads((workdir / "config.json").read_text())["seed"] == 0

    def test_checkpoints_of_nobody_knows_which_run_are_refused(self, workdir, monkeypatch):
        (workdir / "config.json").unlink()
        load = Checkpoints._load

        def of_an_earlier_version(self, path):
            load(self, path)
            self.restored = None

        monkeypatch.setattr(Checkpoints, "_load", of_an_earlier_version)
        with pytest.raises(ValueError, match=r"holds checkpoints but no config.json"):
            prepare(config_of(), workdir)

    @pytest.mark.parametrize("pattern", ["step-*.npz", "*"])
    def test_a_run_whose_checkpoints_are_gone_does_not_begin_anew(self, workdir, pattern):
        for file in (workdir / "checkpoints").glob(pattern):
            file.unlink()
        before = lines(workdir)
        with pytest.raises(ValueError, match=r"holds metrics.jsonl, .*has no checkpoint to go on"):
            prepare(config_of(epochs=3), workdir)
        assert lines(workdir) == before
        # The lock was let go of.
        with pytest.raises(ValueError, match="has no checkpoint to go on"):
            prepare(config_of(), workdir)

    def test_a_start_that_lost_the_race_for_the_lock_looks_at_the_configuration_again(
        self, tmp_path, monkeypatch
    ):
        lock_workdir = run_module.lock_workdir

        def after_another(workdir):
            monkeypatch.undo()
            prepare(config_of(seed=1), workdir).lock.release()
            return lock_workdir(workdir)

        monkeypatch.setattr(run_module, "lock_workdir", after_another)
        with pytest.raises(ValueError, match="holds a run with seed=1, but now it is 0"):
            prepare(config_of(), tmp_path)

    def test_a_run_within_an_epoch_cannot_end_before_it(self, workdir):
        run = prepare(config_of(), workdir)
        run.state.batch = 3
        run.callbacks.checkpoints.save()
        run.lock.release()
        with pytest.raises(ValueError, match=r"in its epoch 3 already. Give --config.epochs=3 or"):
            prepare(config_of(), workdir)

    def test_an_interrupted_preparation_leaves_nothing_behind(self, tmp_path, monkeypatch):
        def interrupted(*_):
            raise KeyboardInterrupt

        for module, name in (
            (run_module, "create_pipeline"),
            (run_module, "lock_workdir"),
            (resume, "write_whole"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(module, name, interrupted)
                with pytest.raises(KeyboardInterrupt):
                    prepare(config_of(), tmp_path / "run")
            assert not (tmp_path / "run").exists()


class TestMetrics:
    """A metrics file that does not agree with the checkpoint is completed from it."""

    @pytest.mark.parametrize("fault", ["gone", "a bad byte", "a line less", "another figure"])
    def test_lines_are_written_again_from_the_checkpoint(self, workdir, caplog, fault):
        expected, path = without_speed(workdir), workdir / "metrics.jsonl"
        before = path.read_bytes()
        first, second = before.splitlines(keepends=True)
        path.write_bytes(
            {
                "gone": b"",
                "a bad byte": first + second.replace(b"epoch", b"epo\xffh"),
                "a line less": second,
                "another figure": first
                + second.replace(b'"test_accuracy": 0', b'"test_accuracy": 9'),
            }[fault]
        )
        if fault == "gone":
            path.unlink()
        prepare(config_of(), workdir).train()
        assert without_speed(workdir) == expected
        assert "written again from the checkpoint" in caplog.text
        assert (workdir / "metrics.jsonl.aside").exists() == (fault != "gone")

    def test_several_epochs_that_are_trained_again_are_kept_aside(self, workdir, caplog):
        run = prepare(config_of(), workdir)
        run.lock.release()
        for file in (workdir / "checkpoints").glob("*"):
            file.unlink()
        run.state.epoch, run.state.history = 0, ()
        run.state.best, run.state.best_epoch = None, 0
        run.callbacks.checkpoints.save()
        run = prepare(config_of(), workdir)
        run.callbacks.checkpoints.put_in_order()
        mend_metrics(workdir / "metrics.jsonl", run.state)
        run.lock.release()
        assert "epochs 1, 2 are later than the checkpoint, and trained again" in caplog.text
        assert len((workdir / "metrics.jsonl.aside").read_text().splitlines()) == 2


class TestEnd:
    """The end of a run, made up for where it was interrupted, and the way on from there."""

    def test_the_model_of_an_earlier_end_is_not_taken_for_that_of_this_one(
        self, finished, workdir, capsys
    ):
        prepare(config_of(epochs=3), workdir).train()
        for name in ("model.keras", "summary.json"):  # killed before it wrote them
            shutil.copy(finished / name, workdir / name)
        prepare(config_of(epochs=3), workdir).train()
        assert json.loads((workdir / "summary.json").read_text())["epochs"] == 3
        model = keras.models.load_model(workdir / "model.keras")
        run = prepare(config_of(epochs=3), workdir)
        run.lock.release()
        for weight, expected in zip(model.get_weights(), run.model.get_weights(), strict=True):
            np.testing.assert_array_equal(weight, expected)
        assert "All" not in capsys.readouterr().out

    def test_a_run_that_ended_early_says_how_it_goes_on_and_does(self, tmp_path, capsys):
        slow = {"optimizer.learning_rate": 1e-12, "epochs": 4}
        early = {**slow, "best.patience": 1}
        prepare(config_of(**early), tmp_path).train()
        done = len(lines(tmp_path))
        assert done < 4
        out = capsys.readouterr().out
        assert f"ended early, after {done} epochs (val_accuracy was best after epoch" in out
        prepare(config_of(**early), tmp_path).train()
        assert "Give a larger --config.best.patience, or 0" in capsys.readouterr().out
        assert len(lines(tmp_path)) == done
        prepare(config_of(**slow), tmp_path).train()
        assert len(lines(tmp_path)) == 4

    def test_a_full_disk_leaves_no_half_of_a_model(self, workdir, monkeypatch):
        (workdir / "model.keras").unlink()

        def full(self, path):
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

        monkeypatch.setattr(keras.Model, "save", full)
        with pytest.raises(RunError, match=r"No space left on device: .*What was saved is intact"):
            prepare(config_of(), workdir).train()
        assert not list(workdir.glob("model*"))


class Fails(keras.callbacks.Callback):
    """Raises in the second batch."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise self.error


IMAGE_IS_GONE = tf.errors.NotFoundError(
    None,
    None,
    "{{function_node __wrapped__IteratorGetNext_output_types_2_device_/job:localhost}} "
    "photos/cat/3.jpg; No such file or directory\n\t [[{{node ReadFile}}]] "
    "[Op:IteratorGetNext] name: ",
)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (IMAGE_IS_GONE, "photos/cat/3.jpg; No such file or directory. What was saved is intact"),
        (
            ValueError("The data ended before\nits 5 batches."),
            "ended before its 5 batches. What was",
        ),
        (
            OSError(errno.EIO, "Input/output error", "a.png"),
            "Input/output error: 'a.png'. What was",
        ),
        (OSError(errno.ENOSPC, "No space left"), "[Errno 28] No space left, in /"),
    ],
)
def test_a_failure_from_outside_is_one_line_that_names_where_it_was(tmp_path, error, text):
    run = prepare(config_of(), tmp_path)
    run.callbacks.in_order.insert(0, Fails(error))
    with pytest.raises(RunError) as raised:
        run.train()
    assert text in str(raised.value)
    assert "\n" not in str(raised.value)
    assert f"(Where it was: {tmp_path}/error.log.)" in str(raised.value)
    assert "in on_train_batch_end" in (tmp_path / "error.log").read_text()
    # The lock was let go of, and what was saved is gone on from.
    prepare(config_of(), tmp_path).lock.release()


def test_a_place_for_figures_that_cannot_be_made_is_said_before_the_first_step(tmp_path):
    (tmp_path / "train").write_text("")
    run = prepare(config_of(), tmp_path)
    run.callbacks.in_order.append(Fails(AssertionError("a step was run")))
    with pytest.raises(RunError, match=r"File exists: '.*/train'\. What was saved is intact"):
        run.train()


def test_a_mistake_of_this_package_keeps_its_traceback(tmp_path):
    run = prepare(config_of(), tmp_path)
    run.callbacks.in_order.insert(0, Fails(TypeError("a mistake")))
    with pytest.raises(TypeError, match="a mistake"):
        run.train()


def test_an_error_of_tensorflow_is_told_without_its_graph():
    error = tf.errors.UnknownError(
        None,
        None,
        "2 root error(s) found.\n  (0) UNKNOWN:  ValueError: The image a.png cannot be read.\n"
        'Traceback (most recent call last):\n\n  File "/x/script_ops.py", line 270\n',
    )
    assert in_one_line(error) == "UNKNOWN: ValueError: The image a.png cannot be read."
    of_a_function = tf.errors.InvalidArgumentError(
        None,
        None,
        "Graph execution error:\n\n"
        "Detected at node sgd/Reduce defined at (most recent call last):\n"
        '  File "a.py", line 3, in <module>\n\n  File "b.py", line 4, in step\n\n'
        "Shape mismatch in the collective instance 100.\nThe error could be from before.\n"
        "\t [[{{node sgd/Reduce}}]] [Op:__inference_run_1]",
    )
    assert in_one_line(of_a_function) == (
        "Shape mismatch in the collective instance 100. The error could be from before."
    )
    assert len(in_one_line(ValueError("x" * 10_000))) < 1000


def test_first_weights_that_are_not_finite_are_one_sentence(tmp_path):
    run = prepare(config_of(**{"nonfinite.action": "roll_back"}), tmp_path)
    kernel = run.model.trainable_variables[0]
    kernel.assign(np.full(kernel.shape, np.nan))
    with pytest.raises(RunError, match=r"kernel is not finite.*There is no checkpoint") as raised:
        run.train()
    assert "\n" not in str(raised.value)


def test_a_logger_that_cannot_start_stops_nothing(tmp_path, monkeypatch, caplog):
    class Offline:
        def __init__(self, *_):
            raise ConnectionError("no network")

    monkeypatch.setitem(loggers.LOGGERS, "wandb", Offline)
    monkeypatch.setattr(logging, "check_logger", lambda name: None)
    prepare(config_of(loggers=("wandb",), epochs=1), tmp_path).train()
    assert "The logger 'wandb' failed (ConnectionError: no network)" in caplog.text
    assert (tmp_path / "model.keras").exists()
