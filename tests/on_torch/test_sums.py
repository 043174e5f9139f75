"""Sums of many tensors at once, on PyTorch."""

import pytest
import torch

from reszoo.gradients.backend.torch.reductions import squares_of_each


def tensors():
    """Returns tensors of several dtypes, and the sum of squares and values left out of each."""
    generator = torch.Generator().manual_seed(0)
    ordinary = torch.randn(3, 4, generator=generator)
    broken = torch.tensor([3.0, torch.inf, torch.nan, 4.0])
    return [
        (ordinary, (ordinary.double() ** 2).sum().item(), 0),
        (broken, 25, 2),
        (torch.full((5,), 1e-25), 5e-50, 0),  # whose squares are zero in float32
        (torch.zeros(7), 0, 0),
        (torch.full((2,), 300.0, dtype=torch.float16), 180000, 0),  # beyond float16
        (torch.full((2,), 1e-200, dtype=torch.float64), 0, 0),
        (torch.full((3,), 2.0, dtype=torch.bfloat16), 12, 0),
        (torch.tensor(1e30), 1e60, 0),  # beyond float32
        (torch.zeros(0), 0, 0),
    ]


def test_each_tensor_is_summed_over_its_finite_values():
    given, squares, left_out = zip(*tensors(), strict=True)
    found, number = squares_of_each(given)
    assert found.dtype == number.dtype == torch.float64
    assert found.tolist() == pytest.approx(squares, rel=1e-6, abs=1e-60)
    assert number.tolist() == list(left_out)


def test_no_tensors_have_no_sums():
    found, number = squares_of_each([])
    assert found.shape == number.shape == (0,)
