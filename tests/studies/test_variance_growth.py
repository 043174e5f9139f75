"""The growth of the signal is that of layers written out by hand, and of the theory."""

import numpy as np
import pandas as pd
import pytest

from reszoo.studies import variance_growth
from reszoo.studies.variance_growth import STUDY, cells, measure, network

SIZES = {"blocks": 3, "units": 8, "channels": 4, "pixels": 8, "examples": 16, "seed": 5}


def test_the_dense_network_against_layers_by_hand(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(
        variance_growth, "network", lambda parameters: made.append(network(parameters)) or made[0]
    )
    rows = measure(SIZES | {"layers": "dense", "norm": "none"}, tmp_path)
    weights = [
        weight.numpy().astype(float) for weight in made[0].weights if "kernel" in weight.path
    ]
    x = np.random.default_rng(5).normal(size=(16, 8)) @ weights[0]
    for row, first, second in zip(rows, weights[1:7:2], weights[2:8:2], strict=False):
        branch = np.maximum(np.maximum(x, 0) @ first, 0) @ second
        squares = (x**2).mean(), (branch**2).mean()
        assert row["mean_square"] == pytest.approx(squares[0], rel=1e-5)
        assert row["branch_share"] == pytest.approx(squares[1] / sum(squares), rel=1e-5)
        x = x + branch
    assert rows[-1]["mean_square"] == pytest.approx((x**2).mean(), rel=1e-5)
    assert np.isnan(rows[-1]["branch_share"])


def test_normalized_branches_add_one_and_others_double(tmp_path):
    wide = SIZES | {"units": 512, "examples": 256, "layers": "dense"}
    for norm in ("batch", "none"):
        squares = [row["mean_square"] for row in measure(wide | {"norm": norm}, tmp_path)]
        predicted = variance_growth.predicted(norm, squares[0], np.arange(4))
        np.testing.assert_allclose(squares, predicted, rtol=0.1)


def test_figure_and_answer(tmp_path):
    table = pd.DataFrame(
        [
            cell.parameters | row
            for cell in cells("smoke")
            for row in measure(dict(cell.parameters), tmp_path)
        ]
    )
    assert len(STUDY.draw(table).axes) == 2
    answer = STUDY.answer(table)
    assert answer.table["normalization"].tolist() == ["batch", "none"] * 3
    assert float(answer.values["added"]) == pytest.approx(1.0, abs=0.3)
    assert answer.values["blocks"] == "4"
