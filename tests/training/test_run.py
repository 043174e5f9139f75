import errno
import json
import os
import runpy
import shutil
import signal
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

import reszoo.gradients
from reszoo import GradientRecorder, save_weights
from reszoo.gradients import read_findings
from reszoo.models import create_model
from reszoo.training import predict_run, prepare, results
from reszoo.training.callbacks.checkpoints import Checkpoints
from reszoo.training.config import complete
from reszoo.training.state import RunError
from tests.training import tiny

FINE_TUNING = Path(__file__).parents[2] / "configs" / "finetune_folder.py"
PICTURES = {"tensorboard.examples": True, "tensorboard.graph": True}


def tiny_config(**changes):
    config = complete(tiny.get_config())
    config.update_from_flattened_dict({"epochs": 2, "recording.every_steps": 2, **changes})
    return config


def lines(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    # The only figures that may differ between two runs.
    return [{k: v for k, v in line.items() if k != "images_per_second"} for line in lines]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The work directory of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    prepare(tiny_config(**PICTURES), workdir).train()
    return workdir


def test_a_run_leaves_everything_in_its_work_directory(whole):
    assert {path.name for path in whole.iterdir()} == {
        "checkpoints",
        "config.json",
        "confusion.csv",
        "data.json",
        "gradients",
        "lock",
        "metrics.jsonl",
        "model.keras",
        "provenance.jsonl",
        "summary.json",
        "test",
        "train",
    }
    written = json.loads((whole / "config.json").read_text())
    assert written == json.loads(json.dumps(complete(tiny_config(**PICTURES)).to_dict()))
    assert [(line["epoch"], line["step"]) for line in lines(whole)] == [(1, 5), (2, 10)]
    assert lines(whole)[-1]["learning_rate"] == pytest.approx(0, abs=1e-7)


def test_the_summary_agrees_with_the_metrics_and_the_confusion_matrix(whole):
    summary = json.loads((whole / "summary.json").read_text())
    counts = pd.read_csv(whole / "confusion.csv", index_col=0).to_numpy()
    assert counts.sum() == 360
    assert np.trace(counts) / 360 == pytest.approx(summary["test_accuracy"])
    assert summary["test_accuracy"] == lines(whole)[-1]["test_accuracy"]
    assert summary["model"] == "resnet18"
    assert (summary["epochs"], summary["steps"]) == (2, 10)
    log = reszoo.gradients.load(str(whole / "gradients"))
    shares = log[log.statistic == "skip_share"].pivot(columns="block", index="step", values="value")
    gradients = summary["gradients"]
    assert gradients["skip_share"] == pytest.approx(np.median(shares.median(axis=1)))
    assert (gradients["first_step"], gradients["last_step"]) == (0, 8)
    assert gradients["alarms"] == {}


def test_the_gradients_of_every_block_are_recorded(whole):
    log = reszoo.gradients.load(str(whole / "gradients"))
    assert sorted(set(log.step)) == [0, 2, 4, 6, 8]
    assert set(log.block) == {"stage1_block1", "stage2_block1"}
    assert (log[log.statistic == "output_gradient_norm"].value > 0).all()


def test_recording_changes_nothing(whole, tmp_path):
    prepare(tiny_config(**{"recording.every_steps": 0}), tmp_path / "run").train()
    assert lines(tmp_path / "run") == lines(whole)
    plain, recorded = (
        keras.models.load_model(workdir / "model.keras").get_weights()
        for workdir in (tmp_path / "run", whole)
    )
    for of_plain, of_recorded in zip(plain, recorded, strict=True):
        np.testing.assert_array_equal(of_plain, of_recorded)


def test_what_is_looked_at_and_how_often_changes_nothing(whole, tmp_path):
    looks = {"tensorboard.confusion_every_epochs": 1, "tensorboard.profile_steps": (2, 4)}
    prepare(tiny_config(**looks, steps_per_loop=3), tmp_path / "run").train()
    assert lines(tmp_path / "run") == lines(whole)
    assert len(list((tmp_path / "run").glob("train/plugins/profile/*/*.xplane.pb"))) == 1
    assert not list(whole.glob("train/plugins"))
    plain, other = (
        keras.models.load_model(workdir / "model.keras").get_weights()
        for workdir in (tmp_path / "run", whole)
    )
    for of_plain, of_other in zip(plain, other, strict=True):
        np.testing.assert_array_equal(of_plain, of_other)
    logs = [reszoo.gradients.load(str(path / "gradients")) for path in (tmp_path / "run", whole)]
    pd.testing.assert_frame_equal(*logs)


def test_a_summary_that_cannot_be_written_is_made_up_for_by_running_again(
    whole, tmp_path, monkeypatch, capsys
):
    shutil.copytree(whole, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()

    def full(path, summary):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(results, "write_summary", full)
    with pytest.raises(RunError, match=r"No space left on device: .*summary.json.* is intact"):
        prepare(tiny_config(), tmp_path / "run").train()
    monkeypatch.undo()
    prepare(tiny_config(), tmp_path / "run").train()
    assert "test accuracy   " in capsys.readouterr().out
    found, expected = (
        json.loads((workdir / "summary.json").read_text()) for workdir in (tmp_path / "run", whole)
    )
    assert found == expected


def test_the_saved_model_is_the_one_that_was_tested(whole):
    model = keras.models.load_model(whole / "model.keras")
    run = prepare(tiny_config(), whole)
    run.lock.release()
    pipeline = run.pipeline
    images, labels = zip(*pipeline.test_batches().map(lambda *batch: batch[:2]), strict=True)
    images, labels = np.concatenate(images)[:360], np.concatenate(labels)[:360]
    loss, accuracy = model.evaluate(images, labels, verbose=0)
    assert loss == pytest.approx(lines(whole)[-1]["test_loss"], rel=1e-4)
    assert accuracy == pytest.approx(lines(whole)[-1]["test_accuracy"], abs=1e-6)


def test_a_finished_run_says_so(whole, capsys):
    before = (whole / "model.keras").read_bytes()
    prepare(tiny_config(), whole).train()
    assert capsys.readouterr().out.startswith("All 2 epochs are done; the model is")
    assert (whole / "model.keras").read_bytes() == before
    assert len(lines(whole)) == 2


def test_a_run_killed_before_its_second_checkpoint_goes_on_bit_for_bit(
    whole, tmp_path, capsys, monkeypatch
):
    save = Checkpoints.on_epoch_end

    def killed(self, epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt
        save(self, epoch, logs)

    monkeypatch.setattr(Checkpoints, "on_epoch_end", killed)
    with pytest.raises(KeyboardInterrupt):
        prepare(tiny_config(), tmp_path).train()
    assert not (tmp_path / "model.keras").exists()
    monkeypatch.undo()
    keras.utils.set_random_seed(123)
    prepare(tiny_config(), tmp_path).train()

    assert "Going on after epoch 1" in capsys.readouterr().out
    assert lines(tmp_path) == lines(whole)
    found, expected = (
        keras.models.load_model(workdir / "model.keras") for workdir in (tmp_path, whole)
    )
    for variable, other in zip(found.variables, expected.variables, strict=True):
        np.testing.assert_array_equal(variable, other)


def test_a_model_file_that_is_missing_is_made_from_the_checkpoint(whole):
    before = keras.models.load_model(whole / "model.keras").get_weights()
    (whole / "model.keras").unlink()
    prepare(tiny_config(), whole).train()
    after = keras.models.load_model(whole / "model.keras").get_weights()
    for weight, expected in zip(after, before, strict=True):
        np.testing.assert_array_equal(weight, expected)


@pytest.mark.parametrize("content", [b"", b'{"epochs": 2', b"[]", b"\xff{}", b'{"a.b": 1}'])
def test_a_broken_configuration_in_the_work_directory_is_named_and_kept(tmp_path, content):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"config\.json cannot be read: .*another workdir\.$"):
        prepare(tiny_config(), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["config.json"]
    assert path.read_bytes() == content


def test_another_configuration_in_the_same_work_directory(whole):
    with pytest.raises(ValueError, match=r"holds a run with batch_size=256, but now it is 128"):
        prepare(tiny_config(batch_size=128), whole)
    assert json.loads((whole / "config.json").read_text())["batch_size"] == 256


def test_more_epochs_and_no_recording_may_be_asked_for(whole):
    run = prepare(tiny_config(**{"epochs": 3, "recording.every_steps": 0}), whole)
    assert run.state.epoch == 2
    run.lock.release()
    recorders = [each for each in run.callbacks.in_order if isinstance(each, GradientRecorder)]
    assert recorders == []
    prepare(tiny_config(), whole).lock.release()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1"),
        ({"optimizer.warmup_epochs": float("nan")}, "warmup_epochs must be a number of at least 0"),
        ({"data.name": "digit"}, "no data set 'digit'"),
        ({"model.shortcut": "highway"}, r"model.shortcut must be .* but got 'highway'"),
        ({"tensorboard.profile_steps": (10, 20)}, "profile_steps must begin within the 10 batches"),
    ],
)
def test_bad_configurations(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        prepare(tiny_config(**changes), tmp_path / "several" / "deep" / "run")
    assert not any(tmp_path.iterdir())


def test_fields_that_have_no_effect_are_named(tmp_path, caplog):
    prepare(tiny_config(**{"schedule.power": 2.0, "crop.min_area": 0.5}), tmp_path).lock.release()
    assert (
        "2 field(s) have no effect: crop.min_area=0.5 (needs data.crop=True), schedule.power=2.0 "
        '(needs schedule.name="polynomial").'
    ) in caplog.text


def test_the_default_run_may_be_cut_to_one_epoch(tmp_path):
    prepare(tiny_config(**{"epochs": 1, "recording.every_steps": 0}), tmp_path).train()
    assert [line["epoch"] for line in lines(tmp_path)] == [1]


def test_a_work_directory_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"cannot be written \(Not a directory\)"):
        prepare(tiny_config(), tmp_path / "file" / "run")


def test_a_second_run_in_the_same_work_directory_is_refused(tmp_path):
    run = prepare(tiny_config(), tmp_path)
    with pytest.raises(ValueError, match=rf"Another run is at work in {tmp_path}: process \d+ on"):
        prepare(tiny_config(), tmp_path)
    run.lock.release()


class Overflow(keras.callbacks.Callback):
    """Makes a weight infinite once, after some batches."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_train_batch_end(self, batch, logs=None):
        self.batches -= 1
        if self.batches == 0:
            kernel = self.model.trainable_variables[0]
            kernel.assign(np.full(kernel.shape, np.inf))


def overflowing_run(workdir, **changes):
    run = prepare(tiny_config(**{"checkpoint.every_steps": 2, "epochs": 3, **changes}), workdir)
    run.callbacks.in_order.insert(0, Overflow(batches=8))
    return run


def test_a_loss_that_is_not_finite_stops_the_run_before_the_last_checkpoint_is_lost(tmp_path):
    with pytest.raises(RunError, match=r"The loss is nan in epoch 2, batch 4.*is good"):
        overflowing_run(tmp_path, **{"checkpoint.every_steps": 0}).train()
    assert [line["epoch"] for line in lines(tmp_path)] == [1]
    assert sorted(file.stem for file in (tmp_path / "checkpoints").glob("step-*")) == [
        "step-000000-000000000",
        "step-000001-000000000",
    ]


def test_a_run_can_go_back_and_on_at_a_lower_rate(tmp_path, capsys):
    run = overflowing_run(tmp_path, **{"nonfinite.action": "roll_back"})
    run.train()
    assert "Back to the last checkpoint, at 0.5 of the rate." in capsys.readouterr().out
    assert run.state.roll_backs == 1
    found = lines(tmp_path)
    assert [(line["epoch"], line["step"]) for line in found] == [(1, 5), (2, 10), (3, 15)]
    schedule = run.model.optimizer._learning_rate
    assert float(schedule(5)) == pytest.approx(0.05)
    assert np.isfinite([line["test_loss"] for line in found]).all()
    log = reszoo.gradients.load(str(tmp_path / "gradients"))
    assert sorted(set(log.step)) == list(range(0, 15, 2))
    assert (log.groupby(["step", "block", "statistic"], observed=True).size() == 1).all()


def test_a_run_that_does_not_get_better_ends_early_and_stays_ended(tmp_path, capsys):
    changes = {"epochs": 6, "best.patience": 1, "optimizer.learning_rate": 1e-12}
    changes["recording.every_steps"] = 0
    prepare(tiny_config(**changes), tmp_path).train()
    epochs = [line["epoch"] for line in lines(tmp_path)]
    assert epochs[-1] < 6
    (tmp_path / "model.keras").unlink()
    prepare(tiny_config(**changes), tmp_path).train()
    assert [line["epoch"] for line in lines(tmp_path)] == epochs
    assert (tmp_path / "model.keras").exists()


class Terminate(keras.callbacks.Callback):
    """Sends its own process SIGTERM in the second epoch."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    def on_train_batch_end(self, batch, logs=None):
        if (self.state.epoch, batch) == (1, 1):
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_termination_signal_saves_and_stops_after_one_more_step(whole, tmp_path, capsys):
    run = prepare(tiny_config(), tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    run.callbacks.in_order.insert(0, Terminate(run.state))
    with pytest.raises(RunError, match="SIGTERM"):
        run.train()
    assert signal.getsignal(signal.SIGTERM) is before
    prepare(tiny_config(), tmp_path).train()
    assert "Going on after epoch 1, batch 3" in capsys.readouterr().out
    assert lines(tmp_path) == lines(whole)


def put_photos(folder, classes=("cat", "cow", "dog"), count=6):
    generator = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count + 2 * label):
            pixels = generator.integers(0, 80, (24, 30, 3)) + 80 * (np.arange(3) == label)
            Image.fromarray(pixels.astype("uint8")).save(folder / name / f"{index}.jpg")


@pytest.mark.parametrize("frozen", [False, True])
def test_a_folder_of_photos_is_learned_from_the_weights_of_another_task(tmp_path, frozen):
    put_photos(tmp_path / "photos")
    model = create_model("resnet18", num_classes=7, input_shape=(16, 16, 3), width=4)
    save_weights(model, tmp_path / "weights.safetensors")
    config = runpy.run_path(str(FINE_TUNING))["get_config"]()
    config = complete(config)
    config.update_from_flattened_dict(
        {
            "data.name": f"folder:{tmp_path}/photos",
            "data.image_size": 16,
            "crop.test_image_size": 32,
            "model.name": "resnet18",
            "model.width": 4,
            "model.weights": str(tmp_path / "weights.safetensors"),
            "model.frozen": frozen,
            "loss.class_weights": ("balanced",),
            "epochs": 2,
            "batch_size": 6,
            "recording.every_steps": 2,
        }
    )
    prepare(config, tmp_path / "run").train()
    trained = keras.models.load_model(tmp_path / "run" / "model.keras")
    assert trained.output_shape == (None, 3)
    for block in ("stem", "stage4_block2"):
        of_both = zip(*(m.get_layer(block).get_weights() for m in (trained, model)), strict=True)
        same = [np.array_equal(weight, other) for weight, other in of_both]
        assert all(same) if frozen else not all(same)
    assert len(lines(tmp_path / "run")) == 2
    photo = str(tmp_path / "photos" / "cow" / "0.jpg")
    [(name, probability)] = predict_run(config, tmp_path / "run", [photo])
    assert name in ("cat", "cow", "dog")
    image = tf.io.decode_jpeg(tf.io.read_file(photo))[1:22, 4:25]  # 0.875 of 24, in the middle
    assert 1 / 3 <= probability <= 1
    logits = trained(tf.image.resize(image[None], (32, 32)) / 255, training=False)
    assert float(tf.reduce_max(tf.nn.softmax(logits))) == pytest.approx(probability, abs=1e-3)


RECORDED = 2


def test_a_termination_signal_waits_for_the_end_of_an_update(tmp_path, capsys):
    # An alarm that has held from the first recorded step to the last goes off at the last.
    alarm = {"model.gate": "stop_branch_input", "recording.alarms.dead_branch": RECORDED}
    config = tiny_config(**{"optimizer.accumulation_steps": 2, **alarm})
    prepare(config, tmp_path / "whole").train()
    run = prepare(config, tmp_path / "stopped")
    run.callbacks.in_order.insert(0, Terminate(run.state))
    with pytest.raises(RunError, match="SIGTERM"):
        run.train()
    prepare(config, tmp_path / "stopped").train()
    # Told in the second batch, heard of in the third, which is the first of an update.
    assert "Going on after epoch 1, batch 4" in capsys.readouterr().out
    assert lines(tmp_path / "stopped") == lines(tmp_path / "whole")
    logs = [reszoo.gradients.load(tmp_path / name / "gradients") for name in ("stopped", "whole")]
    assert logs[0].equals(logs[1])
    assert len(set(logs[0].step)) == RECORDED
    found = [read_findings(str(tmp_path / name / "gradients")) for name in ("stopped", "whole")]
    texts = [[finding.text for finding in findings] for findings in found]
    assert texts[0] == texts[1]
    assert len(texts[0]) == 2
