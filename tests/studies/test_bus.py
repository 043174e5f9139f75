"""The gradient on the bus is the product written out by hand, and records of it add up."""

import keras
import numpy as np
import pandas as pd
import pytest

from reszoo.models import ResidualMLP
from reszoo.studies import bus
from reszoo.studies.input_skip import digits


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    [cell] = bus.cells("smoke")
    rows = bus.measure(cell.parameters, tmp_path_factory.mktemp("cell"))
    return pd.DataFrame([cell.parameters | row for row in rows])


def values(table, quantity):
    return table[table.quantity == quantity].value.to_numpy()


def records_of(gradients):
    """Returns a log of blocks by their gradients `g_skip`, `g_branch` and `g_y`."""
    rows = []
    for block, (skip, branch, y) in gradients.items():
        norms = [np.linalg.norm(g) for g in (skip, branch, skip + branch, y)]
        statistics = {
            "skip_gradient_norm": norms[0],
            "branch_gradient_norm": norms[1],
            "input_gradient_norm": norms[2],
            "output_gradient_norm": norms[3],
            "skip_branch_cosine": skip @ branch / norms[0] / norms[1],
            "gradient_gain": norms[2] / norms[3],
            "skip_share": norms[0] / (norms[0] + norms[1]),
        }
        rows += [
            {"step": 3, "block": block, "statistic": name, "value": value}
            for name, value in statistics.items()
        ]
    return pd.DataFrame(rows)


def test_the_cosine_of_what_leaves_and_enters_follows_from_the_records_of_an_identity():
    skip, branch, other = np.random.default_rng(0).normal(size=(3, 8))
    log = records_of({"identity": (skip, branch, skip), "projection": (skip, branch, other)})
    rows = pd.DataFrame(bus.of_records(log)).set_index(["quantity", "block"]).value
    g_x = skip + branch
    expected = g_x @ skip / np.linalg.norm(g_x) / np.linalg.norm(skip)
    assert rows["cosine of g_x and g_y", "identity"] == pytest.approx(expected, rel=1e-12)
    assert np.isnan(rows["cosine of g_x and g_y", "projection"])
    assert rows["distance of the sum", ""] < 1e-12
    assert rows["records", ""] == 2


def test_the_gradient_is_the_product_of_matrices_written_out_by_hand():
    model = ResidualMLP(input_shape=(8, 8, 1), width=5, blocks=3, norm=None, activation="tanh")
    images, labels = (part[:2] for part in digits()[0])
    gradients, matrices = bus.gradients_on_bus(model, images, labels, training=False)
    x = model.get_layer("stem")(keras.ops.reshape(images, (2, -1))).numpy()
    expected = gradients[-1]
    by_hand = []
    for layer in model.layers:
        if layer.name.startswith("stage1"):
            w1, b1, w2, b2 = layer.get_weights()
            hidden = np.tanh(np.tanh(x) @ w1 + b1)
            slopes = [1 - np.tanh(x) ** 2, 1 - hidden**2]
            by_hand.append([np.diag(a) @ w1 @ np.diag(b) @ w2 for a, b in zip(*slopes)])  # noqa: B905
            x = x + hidden @ w2 + b2
    for of_block, matrix in zip(by_hand[::-1], matrices[::-1], strict=True):
        np.testing.assert_allclose(np.swapaxes(matrix, 1, 2), of_block, rtol=1e-4, atol=1e-6)
        expected = np.stack([g + j @ g for g, j in zip(expected, of_block, strict=True)])
    np.testing.assert_allclose(gradients[0], expected, rtol=1e-4, atol=1e-7)


def test_recorded_norms_add_up_and_the_product_is_the_gradient(table):
    assert values(table, "distance of the sum").max() < 1e-5
    assert values(table, "records") >= 12 * 3
    assert values(table, "distance from the product") < 1e-5
    assert len(values(table, "cosine with g_L, trained")) == 12
    assert np.abs(values(table, "cosine of g_x and g_y")).max() <= 1 + 1e-6


def test_the_answer_and_the_figure_come_from_the_table(table):
    answer = bus.answer(table)
    assert len(answer.table) == 12
    assert answer.values["seeds"] == "1"
    assert len(bus.draw(table).axes) == 3


def test_each_training_has_a_valid_configuration():
    from reszoo.training.config import complete

    for network in bus.NETWORKS:
        complete(bus.configuration_of(network, seed=1))
