"""Backward passes of shortcuts, held to their matrices, which are written out by hand."""

import keras
import numpy as np
import pandas as pd
import pytest

from reszoo import ZeroPadShortcut
from reszoo.gradients.double_precision import double_precision
from reszoo.studies import projections
from reszoo.studies.projections import SHORTCUTS, by_hand, matrices


@pytest.fixture(scope="module")
def table():
    rows = []
    for cell in projections.cells("smoke"):
        rows += [cell.parameters | row for row in projections.measure(cell.parameters, None)]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("name", SHORTCUTS)
def test_every_shortcut_is_its_formula_backward(table, name):
    rows = table[(table.shortcut == name) & (table.quantity == "distance from the formula")]
    exact = name not in ("dense", "1x1 convolution", "1x1 convolution, stride 2")
    assert rows.value.max() <= (0 if exact else 1e-14)


@pytest.mark.parametrize("name", SHORTCUTS)
def test_every_shortcut_but_a_stopped_gradient_is_its_transpose_backward(table, name):
    rows = table[(table.shortcut == name) & (table.quantity == "distance from the transpose")]
    assert list(rows.value) == [1.0 if name == "stopped gradient" else 0.0]


def test_padding_has_no_parameters_and_a_projection_has_its_matrix(table):
    rows = table[table.quantity == "parameters"].set_index("shortcut").value
    assert rows["zero padding"] == rows["strided identity"] == rows["stopped gradient"] == 0
    assert rows["dense"] == 4 * 3 + 3
    assert rows["1x1 convolution"] == 2 * 3 + 3


def test_padding_appends_rows_of_zeros_and_backward_crops_them():
    with double_precision():
        forward, backward = matrices(ZeroPadShortcut(3), (1, 2))
        assert forward.tolist() == [[1, 0], [0, 1], [0, 0]]
        assert backward.tolist() == [[1, 0, 0], [0, 1, 0]]
        # Every second of four pixels.
        forward, backward = matrices(ZeroPadShortcut(1, strides=2), (4, 1))
        assert forward.tolist() == [[1, 0, 0, 0], [0, 0, 1, 0]]
        assert backward.tolist() == [[1, 0], [0, 0], [0, 1], [0, 0]]


def test_the_formula_of_a_projection_multiplies_by_the_transpose():
    with double_precision():
        layer = keras.layers.Dense(2, use_bias=False)
        layer.build((None, 3))
        kernel = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])  # y = x kernel
        layer.set_weights([kernel])
        gradient = by_hand("dense", layer, np.array([[10.0, 1.0]]), (1, 3))
        assert gradient.tolist() == [[12.0, 34.0, 56.0]]
        forward, backward = matrices(layer, (3,))
    assert forward.tolist() == kernel.T.tolist()
    assert backward.tolist() == kernel.tolist()


def test_the_answer_and_the_figure_come_from_the_table(table):
    answer = projections.answer(table)
    assert list(answer.table.shortcut) == list(SHORTCUTS)
    assert answer.values["transpose"] == "0"
    assert len(projections.draw(table).axes) == 2 * len(SHORTCUTS)
