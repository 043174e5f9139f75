"""Sums by one kernel, which Triton's interpreter runs here, are those of single operations."""

import sys

import numpy as np
import pytest
import torch

import reszoo
from reszoo.gradients import load, load_variables
from reszoo.gradients.backend.torch import reductions
from reszoo.gradients.sums import Sums
from tests.gradients.dense import BATCH, LABELS, LOSS, X, dense_model, sgd

pytest.importorskip("triton")
from reszoo.gradients.backend.torch import gpu_sums

pytestmark = pytest.mark.filterwarnings(
    # NumPy's, in the interpreter, where values are not finite.
    "ignore:invalid value encountered:RuntimeWarning"
)
ALL_SUMS = [
    (1, Sums(squares=1)),
    (1, Sums(totals=1)),
    (2, Sums(squares=2, products=True)),
    (3, Sums(squares=3, totals=2)),
    (3, Sums(squares=1, products=True, totals=3)),
]


def values(shape, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("number", "sums"), ALL_SUMS)
def test_finite_values_are_summed_in_float64(number, sums, dtype):
    tensors = [values((3, 5, 7), seed, dtype) for seed in range(number)]
    tensors[0][0, 0, :2] = torch.tensor([torch.inf, torch.nan])
    tensors[-1][2, 1, 3] = -torch.inf
    found, left_out = gpu_sums.over_finite(sums, tensors)
    finite = [np.where(np.isfinite(x), x, 0) for x in (x.double().numpy() for x in tensors)]
    expected = [np.sum(x**2) for x in finite[: sums.squares]]
    expected += [np.sum(finite[0] * finite[1])] if sums.products else []
    expected += [np.sum(x) for x in finite[: sums.totals]]
    assert found.tolist() == pytest.approx([float(x) for x in expected], rel=1e-12)
    assert left_out.tolist() == [(~torch.isfinite(x)).sum() for x in tensors]


@pytest.mark.parametrize("size", [0, 1, gpu_sums.BLOCK, 2 * gpu_sums.BLOCK + 1])
def test_tensors_of_any_size_are_read_to_their_end(size):
    x = values((size,), 0)
    found, left_out = gpu_sums.over_finite(Sums(squares=1, totals=1), [x])
    x = x.double()
    assert found.tolist() == pytest.approx([float((x * x).sum()), float(x.sum())], rel=1e-12)
    assert left_out.tolist() == [0]


@pytest.mark.parametrize(
    "of_x",
    [
        lambda x: x.permute(0, 2, 1),
        lambda x: x[:, ::2],
        lambda x: x[..., :1].expand(-1, -1, 6),
        lambda x: x.transpose(0, 1),
        lambda x: x[1:],
    ],
)
def test_values_that_are_laid_out_in_another_way_meet_their_partners(of_x):
    x = of_x(values((4, 5, 6), 0))
    y = values(x.shape, 1)
    found, _ = gpu_sums.over_finite(Sums(squares=2, products=True), [x, y])
    x, y = x.double(), y.double()
    expected = [(x * x).sum(), (y * y).sum(), (x * y).sum()]
    assert found.tolist() == pytest.approx([float(x) for x in expected], rel=1e-12)


def test_squares_that_float32_cannot_hold_are_summed():
    found, _ = gpu_sums.over_finite(
        Sums(squares=2), [torch.full((9,), 1e-25), torch.full((9,), 1e30)]
    )
    assert found.tolist() == pytest.approx([9e-50, 9e60], rel=1e-6)


def test_many_tensors_are_summed_at_once():
    shapes = [(3, 4), (0,), (2 * gpu_sums.BLOCK + 5,), (), (7,), (2, 3)]
    tensors = [values(shape, seed) for seed, shape in enumerate(shapes)]
    tensors[4] = tensors[4].double()
    tensors[5] = tensors[5].T
    tensors[0][1, 2] = torch.nan
    found, left_out = gpu_sums.squares_of_each(tensors)
    expected = [(x[x.isfinite()].double() ** 2).sum() for x in tensors]
    assert found.tolist() == pytest.approx([float(x) for x in expected], rel=1e-12)
    assert left_out.tolist() == [1, 0, 0, 0, 0, 0]


def test_a_scalar_may_be_the_first_of_its_dtype():
    tensors = [torch.tensor(3.0), torch.ones(2), torch.tensor(2.0, dtype=torch.float64)]
    found, left_out = gpu_sums.squares_of_each(tensors)
    assert found.tolist() == [9, 2, 4]
    assert left_out.tolist() == [0, 0, 0]


def test_differences_of_many_tensors_are_summed_at_once():
    after = [values(shape, 0) for shape in [(3, 4), (5,)]]
    before = [values((4, 3), 1).T, values((5,), 1)]
    found, left_out = gpu_sums.squares_of_each(after, before)
    expected = [((x - y).double() ** 2).sum() for x, y in zip(after, before, strict=True)]
    assert found.tolist() == pytest.approx([float(x) for x in expected], rel=1e-12)
    assert left_out.tolist() == [0, 0]


def test_a_training_is_recorded_alike(tmp_path, monkeypatch):
    def tables(log_dir):
        model = dense_model()
        model.compile(sgd(), LOSS)
        sets = ["paths", "weights", "forward", "distribution", "variables"]
        recorder = reszoo.GradientRecorder(log_dir, every_steps=1, statistics=sets)
        model.fit(X, LABELS, BATCH, shuffle=False, verbose=0, callbacks=[recorder])
        return load(log_dir), load_variables(log_dir)

    expected = tables(tmp_path / "operations")
    monkeypatch.setattr(reductions, "kernels", lambda tensors: gpu_sums)
    for own, other in zip(tables(tmp_path / "kernel"), expected, strict=True):
        assert own.statistic.equals(other.statistic)
        np.testing.assert_allclose(own.value, other.value, rtol=1e-5, atol=1e-7)


def test_a_kernel_that_cannot_be_built_is_told_of_and_done_without(monkeypatch):
    def cannot(*_):
        raise RuntimeError("Failed to find C compiler.")

    monkeypatch.setattr(gpu_sums, "over_finite", cannot)
    reductions._kernels_on.cache_clear()
    monkeypatch.setattr(torch, "ones", lambda *_, **__: None)
    with pytest.warns(UserWarning, match="Triton cannot build a kernel for cuda:0: Failed to find"):
        assert reductions._kernels_on(torch.device("cuda", 0)) is None
    reductions._kernels_on.cache_clear()


def test_triton_is_not_loaded_beside_tensorflow(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    monkeypatch.delitem(sys.modules, "triton")
    reductions._kernels_on.cache_clear()
    with pytest.warns(UserWarning, match="a process that has loaded TensorFlow"):
        assert reductions._kernels_on(torch.device("cuda", 0)) is None
    reductions._kernels_on.cache_clear()
