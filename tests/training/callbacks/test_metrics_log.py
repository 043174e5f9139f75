import json
import math

import pytest

from reszoo.training.callbacks.metrics_log import MetricsLog
from reszoo.training.metrics_file import FIGURES, read_metrics
from reszoo.training.state import TrainingState
from tests.training.callbacks.epoch import LOGS


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_line_an_epoch(tmp_path, model):
    log = MetricsLog(tmp_path / "metrics.jsonl", TrainingState())
    log.set_model(model)
    log.on_train_begin()
    log.on_epoch_end(0, LOGS)
    log.on_epoch_end(1, LOGS)
    assert [line["epoch"] for line in lines(tmp_path / "metrics.jsonl")] == [1, 2]
    assert lines(tmp_path / "metrics.jsonl")[0] == {
        "epoch": 1,
        "step": 22,
        "train_loss": 1.0,
        "train_accuracy": 0.5,
        "test_loss": 2.0,
        "test_accuracy": 0.25,
        "test_top5_accuracy": 0.75,
        "learning_rate": 0.125,
        "images_per_second": 100.0,
    }


def line(epoch, **changes):
    figures = dict.fromkeys(FIGURES.values(), 0.5)
    return json.dumps({"epoch": epoch, "step": 11 * epoch, **figures, **changes})


def test_going_on_drops_what_is_done_again_and_a_line_cut_short(tmp_path, model):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{line(1)}\n{line(2)}\n{line(3)[:20]}")
    log = MetricsLog(path, TrainingState(epoch=1))
    log.set_model(model)
    log.on_train_begin()
    log.on_epoch_end(1, LOGS)
    assert [line["epoch"] for line in lines(path)] == [1, 2]


def test_a_figure_that_is_not_finite_is_null_for_every_reader_and_nan_here(tmp_path, model):
    log = MetricsLog(tmp_path / "metrics.jsonl", TrainingState())
    log.set_model(model)
    log.on_epoch_end(0, {**LOGS, "val_loss": math.inf})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert '"test_loss": null' in text
    assert math.isnan(read_metrics(tmp_path / "metrics.jsonl")[0]["test_loss"])


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (line(2)[:30], "in column"),
        ("[]", "must be an object"),
        ('{"epoch": 2}', "no 'step'"),
        (line("2"), "'epoch' must be a whole number, but is '2'"),
        (line(2, test_accuracy="0.5"), "'test_accuracy' must be a number"),
    ],
)
def test_a_broken_line_is_named_and_the_file_kept(tmp_path, model, broken, reason):
    path = tmp_path / "metrics.jsonl"
    path.write_text(f"{line(1)}\n{broken}\n{line(3)}\n")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"Line 2 of .*metrics\.jsonl cannot be read") as error:
        MetricsLog(path, TrainingState(epoch=3)).on_train_begin()
    assert reason in str(error.value)
    assert path.read_bytes() == before
