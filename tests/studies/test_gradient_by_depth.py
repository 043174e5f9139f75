"""Gradients at blocks are those of a backward pass by hand; networks are trained as elsewhere."""

import keras
import numpy as np
import pandas as pd
import pytest

from reszoo.layers import ResidualBlock
from reszoo.studies.gradient_by_depth import STUDY, cells, gradient_norms, measure, ratios_of


def test_the_gradient_at_each_block_by_hand():
    keras.utils.set_random_seed(1)
    dense = [keras.layers.Dense(4, use_bias=False) for _ in range(3)]
    blocks = [ResidualBlock([layer]) for layer in dense[:2]]
    model = keras.Sequential([keras.Input((4,)), *blocks, dense[2]])
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    labels = np.arange(5) % 4
    first, second, last = (layer.kernel.numpy().astype(float) for layer in dense)
    logits = (x @ (np.eye(4) + first) @ (np.eye(4) + second)) @ last
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    behind = (softmax - np.eye(4)[labels]) / 5 @ last.T
    between = behind + behind @ second.T
    before = between + between @ first.T
    found = gradient_norms(keras.Model(model.inputs, model.outputs), x, labels)
    assert found == pytest.approx([np.linalg.norm(g) for g in (before, between, behind)], rel=1e-5)


def test_a_gradient_that_is_zero_has_no_ratio_and_is_counted():
    known = {
        "epochs": 0,
        "depth": 8,
        "network": "plain",
        "norm": "none",
        "when": "",
        "accuracy": 1.0,
    }
    rows = [
        known | {"parameters": 1, "seed": seed, "block": block, "norm_of_g": norm}
        for seed, norms in enumerate([(1.0, 10.0), (0.0, 1.0)])
        for block, norm in enumerate(norms)
    ]
    logs = ratios_of(pd.DataFrame(rows)).log_ratio.tolist()
    assert logs == pytest.approx([-1.0, np.nan], nan_ok=True)


def test_figure_and_answer(tmp_path):
    some = [cell for cell in cells("smoke") if cell.parameters["network"] == "residual"]
    table = pd.DataFrame(
        [
            cell.parameters | row
            for cell in some
            for row in measure(dict(cell.parameters), tmp_path / cell.name)
        ]
    )
    assert [cell.parameters["epochs"] for cell in some] == [0, 1]
    assert len(STUDY.draw(table).axes) == 2
    answer = STUDY.answer(table)
    [row] = answer.table.to_dict("records")
    assert float(row["8 layers"]) > 0
    assert answer.values["residual_batch_accuracy"] == row["its test accuracy"]
