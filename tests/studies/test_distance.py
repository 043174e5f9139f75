"""Gradients over long skips are sums over all ways, of matrices worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from reszoo.studies import distance
from reszoo.studies.distance import WAYS, gradient_at_origin, ways


@pytest.fixture(scope="module")
def table():
    cells = distance.cells("smoke")
    cells += [cell for cell in distance.cells("small")
              if cell.parameters == {"layers": "attention", "distance": 2, "seed": 0}]  # fmt: skip
    rows = []
    for cell in cells:
        rows += [cell.parameters | row for row in distance.measure(cell.parameters, None)]
    return pd.DataFrame(rows)


def values(table, quantity):
    return table[table.quantity == quantity].value


def test_both_inputs_of_the_merge_get_its_gradient(table):
    assert len(values(table, "distance at the merge")) == 3
    assert (values(table, "distance at the merge") == 0).all()


def test_finite_differences_agree_with_the_sum_alone(table):
    assert values(table, "error of the sum").max() < 1e-8
    assert values(table, "error of the average").to_numpy() == pytest.approx(0.5, rel=1e-6)
    assert values(table, "error of the skip as a constant").min() > 0.1


def test_two_layers_have_the_ways_that_are_drawn_by_hand():
    kernels, x, g = (np.random.default_rng(0).normal(size=size) for size in
                     ((2, 3, 3), (1, 3), (1, 3)))  # fmt: skip
    h1 = np.tanh(x @ kernels[0])
    for over, x1 in ((1, h1 + x), (2, h1)):
        h2 = np.tanh(x1 @ kernels[1])
        j1 = kernels[0] * (1 - h1**2)  # rows are inputs
        j2 = kernels[1] * (1 - h2**2)
        expected = g @ (j1 @ j2).T + g  # through both layers, through none
        if over == 1:  # x1 = h1 + x, x2 = h2 + x1
            expected = expected + g @ j1.T + g @ j2.T
        gradient, slopes = gradient_at_origin(kernels, over, x, g)
        np.testing.assert_allclose(gradient, expected[0], rtol=1e-12)
        found = list(ways(kernels, slopes, over, g))
        assert sorted(passed for passed, _ in found) == ([0, 1, 1, 2] if over == 1 else [0, 2])
        np.testing.assert_allclose(sum(of_way for _, of_way in found), expected, rtol=1e-12)


def test_all_ways_together_are_the_gradient_and_no_fewer(table):
    of_ways = table[table.layers == WAYS]
    last = of_ways.number == distance.DEPTH
    errors = of_ways.quantity == "error of the ways so far"
    assert of_ways[last & errors].value.max() < 1e-13
    assert of_ways[~last & errors].value.min() > 1e-6
    counts = of_ways[of_ways.quantity == "ways"].groupby("distance").value.sum()
    assert counts.to_dict() == {1: 2**8, 2: 34}  # 34: a number of Fibonacci's


def test_the_answer_and_the_figure_come_from_the_table(table):
    answer = distance.answer(table)
    assert answer.values["merge"] == "0"
    assert answer.values["most_ways"] == "256"
    assert list(answer.table.layers) == ["dense", "attention"]
    assert len(distance.draw(table).axes) == 2
