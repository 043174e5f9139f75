"""The shortcuts of He et al. 2016: gates that start open, the order, the study in seconds."""

import keras
import numpy as np
import pandas as pd
import pytest
import requests
import tensorflow_datasets as tfds

from reszoo.layers import Gate
from reszoo.studies import shortcut_table
from reszoo.studies.results import save_figure
from reszoo.studies.trained_cell import train
from reszoo.training.config import checked


def test_a_gate_with_a_bias_of_0_is_half_open():
    gate = Gate(3, initial_bias=-6.0)
    model = keras.Sequential([keras.Input((4, 4, 3)), gate])
    images = np.zeros((1, 4, 4, 3))
    assert model(images).numpy().max() == pytest.approx(1 / (1 + np.exp(6)))
    shortcut_table.open_gates(model)
    assert model(images).numpy() == pytest.approx(0.5)


def test_the_smallest_cell_of_the_study_is_trained_from_open_gates(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(shortcut_table, "open_gates", opened.append)
    [cell] = shortcut_table.cells("smoke")
    [row] = shortcut_table.measure(cell.parameters, tmp_path)
    assert len(opened) == 1
    assert 0 <= row["error"] <= 100
    assert row["diverged"] == 0
    table = pd.DataFrame([cell.parameters | row])
    assert shortcut_table.answer(table).values["pairs"] == "0"
    save_figure(shortcut_table.STUDY, table, tmp_path / "figure")


@pytest.fixture
def table():
    """A made-up table: in the order of the paper, but for dropout, and dropout equal to none."""
    rows = []
    for cell in shortcut_table.cells("small"):
        shortcut, seed = cell.parameters["shortcut"], cell.parameters["seed"]
        error = min(shortcut_table.PUBLISHED.get(shortcut, 30.0), 80.0)
        if shortcut == "dropout 0.5":
            error = 5.0
        error += 0.1 * (seed % 2)
        rows.append(cell.parameters | {"error": error, "diverged": 0, "parameters": 1000})
    return pd.DataFrame(rows)


def test_the_order_is_compared_pair_by_pair(table, tmp_path):
    orders = shortcut_table.compared(table)
    wrong = orders[orders.order == "reversed"]
    assert set(wrong.worse) == {"dropout 0.5"}
    numbers = [error for error in shortcut_table.PUBLISHED.values() if np.isfinite(error)]
    assert len(wrong) == len(numbers)
    failing = len(shortcut_table.PUBLISHED) - len(numbers)
    assert len(orders) == len(numbers) * (len(numbers) - 1) / 2 + len(numbers) * failing
    answer = shortcut_table.answer(table)
    assert answer.values["reversed"] == str(len(wrong))
    assert answer.values["identity"].startswith("6.7% [6.6, ")
    assert answer.values["no_shortcut_fails"] == "5 of 5"
    assert "identity before dropout 0.5" in answer.values["reversed_pairs"]
    save_figure(shortcut_table.STUDY, table, tmp_path / "figure")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_the_published_setting_is_ready_to_run(tmp_path, monkeypatch):
    # A network that answers: what is downloaded is `mock_data`'s.
    monkeypatch.setattr(requests, "head", lambda url, timeout: requests.Response())
    cells = shortcut_table.cells("paper")
    configs = [checked(shortcut_table.config(cell.parameters)) for cell in cells]
    assert {config.model.blocks for config in configs} == {(18, 18, 18)}
    gated = configs[list(shortcut_table.SHORTCUTS).index("exclusive gate (bias 0)")]
    small = {"model.width": 2, "model.blocks": (1, 1, 1), "batch_size": 8, "epochs": 1}
    gated.update_from_flattened_dict(small | {"recording.every_steps": 1})
    with tfds.testing.mock_data(num_examples=16):
        assert 0 <= train(gated, tmp_path, shortcut_table.open_gates).accuracy <= 1
