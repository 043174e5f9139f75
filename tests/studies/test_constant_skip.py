"""A skip as a constant is a stopped gradient, and its error that of matrices worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from reszoo.gradients.double_precision import double_precision
from reszoo.studies import constant_skip
from reszoo.studies.constant_skip import Network, residual, skip_as_constant, stop_gradient


@pytest.fixture(scope="module")
def table():
    rows = []
    for cell in constant_skip.cells("smoke"):
        rows += [cell.parameters | row for row in constant_skip.measure(cell.parameters, None)]
    return pd.DataFrame(rows)


def jacobians(network):
    """Returns the output, and each block's matrix `J` of the branch, for the first example."""
    x, found = network.x[0], []
    for branch in network.branches:
        w1, b1, w2, b2 = branch.get_weights()
        hidden = np.tanh(x @ w1 + b1)
        found.append(w1 @ np.diag(1 - hidden**2) @ w2)  # rows are inputs
        x = x + hidden @ w2 + b2
    return x, found


def test_gradients_are_products_of_matrices_with_and_without_the_identity():
    with double_precision():
        network = Network(3, seed=1)
        of_sum, constant, stopped = (
            network.gradients(block) for block in (residual, skip_as_constant, stop_gradient)
        )
    y, matrices = jacobians(network)
    g = (y - network.targets[0]) / len(network.x)
    with_identity, without = g, g
    for matrix in matrices[::-1]:
        with_identity = with_identity + matrix @ with_identity
        without = matrix @ without
    np.testing.assert_allclose(of_sum[0][0], with_identity, rtol=1e-10)
    np.testing.assert_allclose(constant[0][0], without, rtol=1e-10)
    for number in range(2):
        assert (constant[number] == stopped[number]).all()


def test_finite_differences_agree_with_reverse_mode_and_not_with_a_constant(table):
    assert table.reverse_mode_error.max() < 1e-9
    assert (table.distance_from_stopped == 0).all()
    deep = table[table.blocks > 1]
    assert deep.constant_error.min() > 0.1
    # The weights of a single block are in its branch, of which a skip takes nothing away.
    single = table[(table.blocks == 1) & (table.part == "weights")]
    assert single.constant_error.max() < 1e-9
    assert single.norm_left.tolist() == [1.0]


def test_the_answer_and_the_figure_come_from_the_table(table):
    answer = constant_skip.answer(table)
    assert answer.values["stopped"] == "0"
    assert list(answer.table.blocks) == ["1", "2", "4"]
    assert len(constant_skip.draw(table).axes) == 2
