"""Gradients of sums and of a branch's weights are those of matrices worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from reszoo.studies import addition


@pytest.fixture(scope="module")
def table():
    rows = []
    for cell in addition.cells("smoke"):
        rows += [cell.parameters | row for row in addition.measure(cell.parameters, None)]
    return pd.DataFrame(rows)


def values(table, quantity, skips=""):
    return table[(table.quantity == quantity) & (table.skips == skips)].value.to_numpy()


def test_both_inputs_of_a_sum_get_its_gradient(table):
    assert values(table, "gradient of a plain sum").tolist() == [1.0, 1.0]
    at_sum = values(table, "gradient at the sum")
    assert np.abs(at_sum).min() > 0
    assert values(table, "gradient at the skip").tolist() == at_sum.tolist()
    assert values(table, "gradient at the branch").tolist() == at_sum.tolist()


def test_a_skip_alters_no_weight_gradient_of_a_block_whose_input_and_output_gradient_are_given(
    table,
):
    assert values(table, "with less without, for the same x and g").tolist() == [0]


@pytest.mark.parametrize("skips", addition.SKIPS)
def test_weights_of_every_branch_get_the_gradient_of_the_formula(table, skips):
    assert len(values(table, "weight gradient", skips)) == addition.BLOCKS
    assert values(table, "weight gradient", skips).min() > 0
    assert values(table, "distance from the formula", skips).max() < 1e-12


def test_the_formula_is_that_of_a_single_weight():
    # y = x + w2 tanh(w1 x), loss (y - t)^2 / 2, all of them numbers.
    x, t, w1, w2 = 0.5, 0.2, 0.3, 0.7
    h = np.tanh(w1 * x)
    for skip in (True, False):
        g = skip * x + w2 * h - t
        weights = [np.full(shape, w) for shape, w in (((1, 1), w1), (1, 0), ((1, 1), w2), (1, 0))]
        [[of_w1, _, of_w2, _]] = addition.by_hand(
            [weights], np.full((1, 1), x), np.full((1, 1), t), skip
        )
        assert of_w2.item() == pytest.approx(g * h, rel=1e-14)
        assert of_w1.item() == pytest.approx(g * w2 * (1 - h**2) * x, rel=1e-14)


def test_the_answer_and_the_figure_come_from_the_table(table):
    answer = addition.answer(table)
    assert answer.values["plain"] == "1.0, 1.0"
    assert (answer.values["apart"], answer.values["same"]) == ("0", "0")
    assert list(answer.table.network) == ["16 blocks with skips", "16 blocks without skips"]
    assert len(addition.draw(table).axes) == 2
