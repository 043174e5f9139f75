"""The document of eight patterns says what its table says, and each pattern's run is made once."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reszoo.gradients.log import LogWriter
from reszoo.studies import patterns
from reszoo.training.config import complete

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", patterns.PATTERNS)
def test_the_configuration_of_a_pattern_is_a_valid_one(name):
    assert complete(patterns.config_of(name)).model.name == "resnet20"


def test_the_document_is_made_of_its_table():
    expected = patterns.written_document(DOCS / patterns.RESULTS)
    assert (DOCS / patterns.DOCUMENT).read_text(encoding="utf-8") == expected, (
        "docs/how_to_read.md is written by: python -m reszoo.studies.patterns WORKDIR docs"
    )


def test_each_pattern_is_what_its_name_says():
    table = pd.read_csv(DOCS / patterns.RESULTS / patterns.TABLE)
    first = table[table.step == 0].set_index(["pattern", "block"])
    last = table.groupby("pattern").tail(1).set_index("pattern")
    factor = {name: first.g_x[name, 1] / first.g_y[name].iloc[-1] for name in patterns.PATTERNS}
    assert 1 < factor["healthy"] < 10
    assert factor["vanishing"] < 1e-3
    assert factor["exploding"] > 1e3
    assert (table[table.pattern == "dead_branch"].g_branch == 0).all()
    assert (first.g_branch["zero_start"] == 0).all()
    assert last.g_branch["zero_start"] > 0
    assert (table[table.pattern == "stop_gradient"].g_skip == 0).all()
    assert first["update"]["high_rate"].max() > 0.3
    assert table[table.pattern == "overflow"].nonfinite.sum() > 0
    assert last.accuracy["healthy"] > last.accuracy.drop(["healthy", "zero_start"]).max()


def test_runs_are_made_once_and_their_numbers_reach_the_document(monkeypatch, tmp_path):
    trained = []

    def train(config, folder):
        trained.append(folder.name)
        statistics = list(patterns._STATISTICS)
        writer = LogWriter(str(folder / "gradients"), [{"name": "a"}, {"name": "b"}], statistics, 0)
        for step in (0, 4, 8):
            writer.write(step, np.full((2, len(statistics)), 0.25 * (step + 1)), {})
        line = {"epoch": config.epochs, "step": 12, "test_accuracy": 0.5}
        line |= dict.fromkeys(("train_loss", "train_accuracy", "test_loss"), 0.5)
        line |= dict.fromkeys(("test_top5_accuracy", "learning_rate", "images_per_second"), 0.5)
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")

    monkeypatch.setattr(patterns, "train", train)
    for _ in range(2):
        document = patterns.write_patterns(tmp_path / "runs", tmp_path / "docs")
    assert trained == list(patterns.PATTERNS)
    assert "50.0% of the test images are right" in " ".join(document.read_text().split())
    figures = sorted(path.stem for path in (tmp_path / "docs" / "patterns").glob("*.svg"))
    assert figures == sorted(patterns.PATTERNS)
