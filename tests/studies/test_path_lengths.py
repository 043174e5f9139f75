"""Shares of the gradient by path length, by hand and of a small trained network."""

import pandas as pd
import pytest

from reszoo.studies.path_lengths import STUDY, by_length, cells, mean_length, measure, quantile


def test_the_share_of_a_length_is_its_mean_norm_times_its_number():
    paths = pd.DataFrame(
        {
            "length": [0, 1, 1, 2],
            "sample": [0, 0, 1, 0],
            "gradient_norm": [4.0, 1.0, 3.0, 2.0],
            "number_of_paths": [1.0, 2.0, 2.0, 1.0],
        }
    )
    table = by_length(paths)
    assert table.share_of_paths.tolist() == [0.25, 0.5, 0.25]
    assert table.norm_of_a_path.tolist() == [4.0, 2.0, 2.0]
    assert table.share.tolist() == pytest.approx([0.4, 0.4, 0.2])
    assert mean_length(table, "share") == pytest.approx(0.8)
    assert [quantile(table, share) for share in (0.05, 0.5, 0.95)] == [0, 1, 2]


def test_figure_and_answer(tmp_path):
    [cell] = cells("smoke")
    rows = measure(dict(cell.parameters), tmp_path)
    table = pd.DataFrame([cell.parameters | row for row in rows])
    assert table.groupby("when").share.sum().tolist() == pytest.approx([1.0, 1.0])
    assert len(STUDY.draw(table).axes) == 2
    answer = STUDY.answer(table)
    assert answer.values["blocks"] == "3"
    assert answer.table.network.tolist() == ["at initialization", "after training"]
