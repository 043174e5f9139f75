"""Sums that are named before they are taken."""

import numpy as np
import pytest

from reszoo.gradients.sums import Sums

TENSORS = [np.array(values, "float32") for values in ([1, 2], [3, -5], [0.5, 4])]


@pytest.mark.parametrize(
    ("sums", "number", "expected"),
    [
        (Sums(squares=1), 1, [5]),
        (Sums(totals=1), 1, [3]),
        (Sums(squares=2, products=True), 2, [5, 34, -7]),
        (Sums(squares=3, totals=2), 3, [5, 34, 16.25, 3, -2]),
    ],
)
def test_sums_are_in_the_order_of_their_names(sums, number, expected):
    assert np.array(sums(*TENSORS[:number])).tolist() == expected
