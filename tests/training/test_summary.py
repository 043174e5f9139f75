import json
import shlex
import unicodedata

import keras
import pytest

from reszoo.data import Pipeline, load_source
from reszoo.models import ResNet18
from reszoo.training.confusion import ClassFigures
from reszoo.training.summary import as_table, summarize, write_summary
from tests.odd_names import ODD_NAMES


def line(epoch, test_accuracy, images_per_second):
    return {
        "epoch": epoch,
        "step": 14 * epoch,
        "test_accuracy": test_accuracy,
        "test_top5_accuracy": 1.0,
        "test_loss": 0.5,
        "images_per_second": images_per_second,
    }


@pytest.fixture
def summary():
    pipeline = Pipeline(load_source("digits"), batch_size=100)
    model = ResNet18(num_classes=10, input_shape=(8, 8, 1), stem="cifar", width=4)
    epochs = [line(1, 0.5, 100), line(2, 0.75, 14), line(3, 0.75, 200), line(4, 0.7, 400)]
    return summarize(model, pipeline, "digits", epochs, [ClassFigures("3", 36, 30, "8")])


def test_the_figures_are_those_of_the_epochs(summary):
    assert (summary["epochs"], summary["steps"]) == (4, 56)
    assert summary["test_accuracy"] == 0.7
    assert (summary["best_test_accuracy"], summary["best_epoch"]) == (0.75, 2)
    assert summary["images_per_second"] == 150
    assert summary["train_seconds"] == pytest.approx(14 + 100 + 7 + 3.5)
    assert summary["parameters"] - summary["trainable_parameters"] == 2 * 4 * (
        5 + 5 * 2 + 5 * 4 + 5 * 8
    )
    assert summary["worst_classes"][0]["accuracy"] == pytest.approx(30 / 36)


def test_an_epoch_whose_batches_were_all_done_before_has_no_rate():
    pipeline = Pipeline(load_source("digits"), batch_size=100)
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    some = summarize(model, pipeline, "digits", [line(1, 0.5, 100), line(2, 0.5, 0.0)])
    assert (some["train_seconds"], some["images_per_second"]) == (28, 100)
    none = summarize(model, pipeline, "digits", [line(1, 0.5, 0.0)])
    assert (none["train_seconds"], none["images_per_second"]) == (0, 0)


def test_the_table_fits_a_terminal(summary):
    table = as_table(summary | {"data": "folder:" + "a long path " * 9}, "runs/digits")
    lines = table.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("model           resnet18, ")
    assert "test accuracy   70.00% after the last epoch; at best 75.00%, after epoch 2" in lines
    assert "training        4 epochs, 56 steps, batches of 100 images" in lines
    assert "worst classes   3 (83.3%)" in lines
    assert "speed           2 min 4 s of training steps, 150 images/s" in lines
    assert lines[-1] == "TensorBoard     tensorboard --logdir runs/digits"


def test_a_narrow_terminal_has_narrow_lines_and_whole_commands(summary):
    *lines, command = as_table(summary, "runs/a_long_name_of_a_run_of_digits", 50).splitlines()
    assert max(map(len, lines)) <= 50
    assert command == "TensorBoard     tensorboard --logdir runs/a_long_name_of_a_run_of_digits"
    assert as_table(summary, "runs/digits", 5).splitlines()[0] == "model           resnet18, 45,150"


def test_the_gradients_are_told_with_the_command_of_the_report(summary):
    assert "gradients  " not in as_table(summary, "runs/digits")
    assert "report  " not in as_table(summary, "runs/digits")
    gradients = {"skip_share": 0.56, "last_to_first": 3.3, "alarms": {}}
    lines = as_table(summary | {"gradients": gradients}, "runs/a b").splitlines()
    assert lines[-4:] == [
        "gradients       skip 56% in the median block, x3.3 from the last block to the",
        "                first, no alarms",
        "report          python -m reszoo.report 'runs/a b'",
        "TensorBoard     tensorboard --logdir 'runs/a b'",
    ]


def test_one_epoch_is_one(summary):
    assert "training        1 epoch, 56 steps" in as_table(summary | {"epochs": 1}, "runs/digits")


def test_no_mistake_no_worst_class(summary):
    assert "worst" not in as_table(summary | {"worst_classes": []}, "runs/digits")


def test_the_file_is_json(summary, tmp_path):
    write_summary(tmp_path / "summary.json", summary)
    assert json.loads((tmp_path / "summary.json").read_text()) == summary


def test_the_table_fits_a_terminal_whatever_the_classes_are_called(summary):
    for name in [*ODD_NAMES, "你" * 60]:
        worst = [{"name": name, "accuracy": 0.5}] * 5
        table = as_table(summary | {"worst_classes": worst}, "runs/$HOME; rm a")
        lines = table.split("\n")
        assert (
            max(sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in x) for x in lines) <= 80
        )
        assert len(lines) <= 13
        assert table.replace("\n", "").isprintable() or "\u200d" in table
    assert shlex.split(lines[-1])[-1] == "runs/$HOME; rm a"
