"""A run from its beginning to its end on two devices, and in two processes."""

import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import reszoo.gradients
import reszoo.training.run as run_module
from reszoo.training import evaluate_run, export_run, predict_run, prepare
from reszoo.training.config import complete
from reszoo.training.strategy import spread_over
from tests.training import tiny
from tests.training.test_strategy import cluster, start, wait_for


def config_of(**changes):
    config = complete(tiny.get_config())
    fields = {"epochs": 1, "recording.every_steps": 2, "model.norm": "sync_batch"}
    config.update_from_flattened_dict({**fields, **changes})
    return config


@pytest.fixture(scope="module")
def _two_devices():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_module, "create_strategy", lambda name: spread_over(["CPU:0", "CPU:1"]))
        yield


@pytest.fixture(scope="module")
def mirrored(tmp_path_factory, _two_devices):
    """The work directory of a whole run on two devices."""
    workdir = tmp_path_factory.mktemp("mirrored") / "run"
    prepare(config_of(), workdir).train()
    return workdir


def check_end(workdir, epochs):
    """Checks that all that a run leaves at its end agrees."""
    summary = json.loads((workdir / "summary.json").read_text())
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, epochs + 1))
    assert (summary["epochs"], summary["steps"]) == (epochs, 5 * epochs)
    assert summary["test_accuracy"] == lines[-1]["test_accuracy"]
    counts = pd.read_csv(workdir / "confusion.csv", index_col=0).to_numpy()
    assert counts.sum() == 360
    assert np.trace(counts) / 360 == pytest.approx(summary["test_accuracy"])
    events = EventAccumulator(str(workdir / "test"), size_guidance={"tensors": 0}).Reload()
    assert [event.step for event in events.Tensors("accuracy")][-1] == 5 * epochs
    assert {"accuracy", "confusion"} <= set(events.Tags()["tensors"])
    steps = reszoo.gradients.load(str(workdir / "gradients")).step
    assert sorted(set(steps)) == list(range(0, 5 * epochs, 2))


@pytest.mark.usefixtures("_two_devices")
class TestOnTwoDevices:
    """The end of a run on two devices."""

    def test_a_run_comes_to_its_end(self, mirrored):
        check_end(mirrored, epochs=1)

    def test_a_finished_run_says_so_and_can_go_on(self, mirrored, tmp_path, capsys):
        shutil.copytree(mirrored, tmp_path / "run")
        prepare(config_of(), tmp_path / "run").train()
        assert capsys.readouterr().out.startswith("All 1 epochs are done; the model is")
        pictures = ("examples", "graph")
        changes = {f"tensorboard.{name}": True for name in pictures} | {
            "tensorboard.confusion_every_epochs": 1,
            "tensorboard.profile_steps": (6, 8),
        }
        prepare(config_of(epochs=2, **changes), tmp_path / "run").train()
        check_end(tmp_path / "run", epochs=2)

    def test_an_end_that_was_interrupted_is_made_up_for(self, mirrored, tmp_path):
        shutil.copytree(mirrored, tmp_path / "run")
        for name in ("summary.json", "model.keras", "confusion.csv"):
            (tmp_path / "run" / name).unlink()
        prepare(config_of(), tmp_path / "run").train()
        check_end(tmp_path / "run", epochs=1)
        found, expected = (
            keras.models.load_model(path / "model.keras").get_weights()
            for path in (tmp_path / "run", mirrored)
        )
        for weight, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(weight, other)

    def test_its_model_is_tested_exported_and_asked(self, mirrored, tmp_path):
        figures = evaluate_run(config_of(), mirrored)
        summary = json.loads((mirrored / "summary.json").read_text())
        assert figures["accuracy"] == pytest.approx(summary["test_accuracy"])
        assert export_run(config_of(), mirrored)["savedmodel"].is_dir()
        image = str(tmp_path / "black.png")
        keras.utils.save_img(image, np.zeros((8, 8, 1)), scale=False)
        [(name, _)] = predict_run(config_of(), mirrored, [image])
        assert name in "0123456789"

    def test_averages_of_mixed_precision_are_what_is_saved(self, tmp_path):
        changes = {"optimizer.ema_momentum": 0.5, "dtype": "mixed_bfloat16"}
        prepare(config_of(**changes), tmp_path).train()
        check_end(tmp_path, epochs=1)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"batch_size": 255}, "cannot be split evenly over 2 devices"),
            ({"jit_compile": True}, "XLA cannot compile a step that is spread over 2 devices"),
            ({"optimizer.accumulation_steps": 2}, "cannot be accumulated over 2 devices"),
        ],
    )
    def test_what_several_devices_cannot_do_is_said_before_the_first_step(
        self, tmp_path, changes, message
    ):
        with pytest.raises(ValueError, match=message):
            prepare(config_of(**changes), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_two_processes_come_to_the_end_of_a_run_and_take_it_up_again(tmp_path):
    command = ["train.py", "--config=tests/training/tiny.py", f"--workdir={tmp_path}"]
    command.append("--config.recording.every_steps=2")
    for epochs in (1, 2):
        changed = [*command, f"--config.epochs={epochs}"]
        wait_for([start(changed, environment) for environment in cluster(2)])
        check_end(tmp_path, epochs)
