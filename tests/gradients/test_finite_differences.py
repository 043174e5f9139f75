"""Finite differences are as exact as they say."""

import numpy as np
import pytest

from reszoo.gradients.finite_differences import derivative, directions


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda t: 3 * t + 1, 3),
        (lambda t: np.sin(5 * t), 5),
        (lambda t: np.exp(t) + 1e4, 1),
        (lambda t: t**2, 0),
        (lambda t: np.maximum(t, -1e-4) * 2, 2),  # a kink, farther than the shortest steps
        (lambda t: np.maximum(t - 3e-3, 0) + t, 1),
    ],
)
def test_the_error_is_a_bound_and_small(function, expected):
    found = derivative(function, 1.0, function(0.0))
    assert abs(found.value - expected) <= found.error < 1e-6


@pytest.mark.parametrize(
    "function",
    [
        abs,
        lambda t: max(t, 0.0),
        lambda t: t + 1e-3 * abs(t),
        lambda t: t + 1e-3 * max(t - 1e-9, 0),  # nearer than the shortest step
        lambda t: float(np.float32(1 + t)),
        lambda t: np.nan if t > 0 else t,
        # Steps that float32 does not resolve leave the first term as it is.
        lambda t: float(np.float32(np.sin(1 + t))) + t,
    ],
)
def test_a_kink_within_every_step_shows_in_the_error(function):
    assert derivative(function, 1.0, function(0.0)).error > 1e-5


def test_few_elements_have_a_direction_each():
    (elements,) = directions(np.ones((2, 2)), 4, 0)
    np.testing.assert_array_equal([d.ravel() for d in elements], np.eye(4))


def test_of_many_elements_directions_are_drawn():
    x = np.eye(6)
    dense, masked, elements = (np.array(list(of_round)) for of_round in directions(x, 5, 0))
    for drawn in (dense, masked, elements):
        assert np.linalg.norm(drawn, axis=(1, 2)) == pytest.approx(np.ones(5))
    assert (dense != 0).all()
    assert ((masked != 0) == (x != 0)).all()
    assert elements.sum() == (elements * x).sum() == 5
    np.testing.assert_array_equal(dense, list(directions(x, 5, 0)[0]))
    assert len(directions(np.ones((6, 6)), 5, 0)) == len(directions(0 * x, 5, 0)) == 2
