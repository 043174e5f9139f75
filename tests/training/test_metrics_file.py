import json
import math

import pytest

from reszoo.training.metrics_file import FIGURES, read_metrics


def line(epoch, **changes):
    figures = dict.fromkeys(FIGURES.values(), 0.5)
    return json.dumps({"epoch": epoch, "step": 11 * epoch, **figures, **changes})


def test_numbers_that_an_earlier_version_wrote_as_they_are_not_json_are_read(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(line(1, test_loss=math.inf) + "\n")
    assert read_metrics(tmp_path / "metrics.jsonl")[0]["test_loss"] == math.inf


def test_lines_are_by_epoch_and_a_repeated_one_counts_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join([line(2), line(1), line(2), line(3, test_loss=None), ""]))
    assert [each["epoch"] for each in read_metrics(path)] == [1, 2, 3]
    path.write_text("\n".join([line(1), line(1, test_loss=0.25), ""]))
    with pytest.raises(ValueError, match="two lines of epoch 1 that differ"):
        read_metrics(path)
