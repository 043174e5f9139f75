"""A stopped skip: path lengths by hand, and the study at a size of seconds."""

import itertools

import keras
import numpy as np
import pandas as pd
import pytest
import requests
import tensorflow_datasets as tfds

from reszoo.layers import GradientScale, ResidualBlock
from reszoo.studies import stop_gradient
from reszoo.studies.results import save_figure
from reszoo.studies.trained_cell import train
from reszoo.training.config import checked


def test_the_path_length_is_that_of_all_paths_one_by_one():
    matrices = [np.random.default_rng(seed).normal(size=(4, 4)) / 2 for seed in range(3)]
    inputs = keras.Input((4,))
    x = keras.layers.Rescaling(1.0, name="stem")(inputs)
    for matrix in matrices:
        dense = keras.layers.Dense(4, use_bias=False)
        x = ResidualBlock([GradientScale(), dense])(x)
        dense.set_weights([matrix])
    model = keras.Model(inputs, x)
    images = np.random.default_rng(9).normal(size=(5, 4)).astype("float32")
    classes = np.array([0, 1, 2, 3, 0])

    logits = images.astype(float)
    for matrix in matrices:
        logits = logits + logits @ matrix
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    upstream = (chances - np.eye(4)[classes]) / 5
    by_length = np.zeros((4, 5, 4))
    for taken in itertools.product((0, 1), repeat=3):
        gradient = upstream
        for matrix, through_branch in zip(matrices[::-1], taken, strict=True):
            gradient = gradient @ matrix.T if through_branch else gradient
        by_length[sum(taken)] += gradient
    whole = by_length.sum(axis=0)
    parts = (by_length * whole).sum(axis=(1, 2)) / (whole**2).sum()
    assert parts.sum() == pytest.approx(1)
    expected = (parts * np.arange(4)).sum()
    assert stop_gradient.path_length(model, images, classes) == pytest.approx(expected, rel=2e-3)


def test_the_smallest_cell_of_the_study_is_trained(tmp_path):
    [first, *others] = stop_gradient.cells("smoke")
    rows = pd.DataFrame(stop_gradient.measure(first.parameters, tmp_path))
    [accuracy] = rows[rows.quantity == "accuracy"].value
    assert 0 < accuracy < 1
    assert sorted(rows[rows.quantity == "gradient"].block.unique()) == [1, 2, 3]
    [length] = rows[rows.quantity == "path length"].value
    assert 0 < length < 3
    moved = rows[rows.quantity == "movement"].set_index("block").value
    assert (moved > 0).all()
    assert list(moved.index) == [0, 1, 2, 3]
    assert [cell.parameters["variant"] for cell in others] == ["stopped skip"]
    table = pd.DataFrame([first.parameters | row for row in rows.to_dict("records")])
    [row] = stop_gradient.answer(table).table.to_dict("records")
    assert row["residual"] == f"{100 * accuracy:.1f}%"
    save_figure(stop_gradient.STUDY, table, tmp_path / "figure")


@pytest.fixture
def table():
    """A made-up table: residual networks learn, a stopped skip less, plain ones diverge."""
    rng, rows = np.random.default_rng(0), []
    for cell in stop_gradient.cells("small"):
        variant, depth = cell.parameters["variant"], cell.parameters["depth"]
        place = list(stop_gradient.VARIANTS).index(variant)
        accuracy = np.nan if variant == "plain" else 0.95 - 0.1 * place + rng.normal(0, 0.01)
        made = [("accuracy", accuracy, 0), ("parameters", 1000.0 * depth, 0)]
        made += [("gradient", 0.5**block if place else 1.0, block) for block in (1, depth // 2)]
        made += [("movement", 0.1, block) for block in (0, 1)]
        made += [("path length", 3.0, 0)] if variant == "residual" else []
        for quantity, value, block in made:
            for at in ("start", "end"):
                row = {"quantity": quantity, "at": at, "block": block, "value": value}
                if at == "end" or quantity == "gradient":
                    rows.append(cell.parameters | row)
    return pd.DataFrame(rows)


def test_the_answer_counts_what_is_better(table, tmp_path):
    answer = stop_gradient.answer(table)
    assert answer.values["settings"] == answer.values["residual_better_than_skip"]
    assert answer.values["skip_better_than_plain"] == answer.values["settings"]
    assert answer.values["skip_worse_than_plain"] == "0"
    assert answer.values["skip_110_ratio_start"] == "$10^{16.3}$"
    assert set(answer.table["plain"]) == {"diverged"}
    assert answer.table["residual"].str.match(r"9\d\.\d% \u00b1 \d").all()
    save_figure(stop_gradient.STUDY, table, tmp_path / "figure")
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_the_published_setting_is_ready_to_run(tmp_path, monkeypatch):
    # A network that answers: what is downloaded is `mock_data`'s.
    monkeypatch.setattr(requests, "head", lambda url, timeout: requests.Response())
    parameters = [cell.parameters for cell in stop_gradient.cells("paper")]
    configs = [checked(stop_gradient.config(of_cell)) for of_cell in parameters]
    assert {config.model.blocks for config in configs} == {(3,) * 3, (9,) * 3, (18,) * 3}
    assert {config.data.name for config in configs} == {"tfds:cifar10"}
    [stopped] = [
        config
        for config, of_cell in zip(configs, parameters, strict=True)
        if of_cell["variant"] == "stopped skip" and of_cell["depth"] == 20 and of_cell["seed"] == 0
    ]
    small = {"model.width": 2, "model.blocks": (1, 1, 1), "batch_size": 8, "epochs": 1}
    stopped.update_from_flattened_dict(small)
    with tfds.testing.mock_data(num_examples=16):
        assert 0 <= train(stopped, tmp_path).accuracy <= 1
