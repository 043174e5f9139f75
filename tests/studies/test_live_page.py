"""The page of three runs is written from their logs, and each run is trained once."""

import json
import shutil

import pandas as pd
import pytest

from reszoo.gradients.log import LogWriter
from reszoo.studies import live_page
from reszoo.training.config import complete


@pytest.fixture
def trained(monkeypatch):
    """Names of the runs that were trained, by writing a log of three blocks and two steps."""
    names = []

    def train(config, folder):
        names.append(folder.name)
        factor = 1 + len(names)
        blocks = [{"name": f"block{number}"} for number in (1, 2, 3)]
        statistics = ["input_gradient_norm", "output_gradient_norm"]
        writer = LogWriter(str(folder / "gradients"), blocks, statistics, 0)
        writer.write(0, [[8.0 * factor, 1.0], [1.0, 1.0], [1.0, 2.0]], {})
        writer.write(6, [[3.0, 1.0], [1.0, 1.0], [1.0, 6.0]], {})
        figures = (
            "train_loss",
            "train_accuracy",
            "test_loss",
            "test_accuracy",
            "test_top5_accuracy",
        )
        rates = ("learning_rate", "images_per_second")
        line = {"epoch": config.epochs, "step": 12} | dict.fromkeys((*figures, *rates), 0.5)
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")

    monkeypatch.setattr(live_page, "train", train)
    return names


def test_the_page_and_its_table_have_all_runs_and_each_is_trained_once(trained, tmp_path):
    target = tmp_path / "docs" / "live.html"
    for _ in range(2):
        assert live_page.write_live_page(tmp_path / "runs", target) == target
    assert trained == ["with-skip", "stop-gradient", "plain"]
    assert all(f'"run": "{name}"' in target.read_text() for name in trained)
    table = pd.read_csv(target.with_suffix(".csv"))
    assert table.run.tolist() == trained
    assert table.change_at_first_step.tolist() == [8.0, 12.0, 16.0]
    assert table.change_at_last_step.tolist() == [0.5] * 3
    assert table.median_change.tolist() == [4.25, 6.25, 8.25]
    first = live_page.live_table(target).splitlines()[2]
    assert first == "| with-skip | `projection` | 50.0% | 8 | 0.5 | 4.2 |"


def test_a_run_that_was_killed_is_trained_on(trained, tmp_path):
    live_page.write_live_page(tmp_path / "runs", tmp_path / "live.html")
    metrics = tmp_path / "runs" / "plain" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"epoch": 12', '"epoch": 11'))
    shutil.rmtree(metrics.parent / "gradients")
    live_page.write_live_page(tmp_path / "runs", tmp_path / "live.html")
    assert trained == ["with-skip", "stop-gradient", "plain", "plain"]


@pytest.mark.parametrize("run", live_page.SHORTCUTS)
def test_the_configuration_of_a_run_is_a_valid_one(run):
    assert complete(live_page.config_of(run)).model.shortcut == live_page.SHORTCUTS[run]
