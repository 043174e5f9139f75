"""Sums of tensors on PyTorch, as a CPU takes them and as a GPU does."""

import keras
import numpy as np
import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import reszoo
from reszoo.gradients.backend.torch import many_tensors, reductions
from reszoo.gradients.backend.torch.reductions import OnHost, with_float64
from reszoo.gradients.measures import (
    DISTRIBUTION,
    DISTRIBUTION_MAXIMA,
    FORK,
    FORWARD,
    HISTOGRAMS,
    MERGE,
)

# Names of PyTorch's operations with which the host waits for a GPU.
WAITING = {"_local_scalar_dense", "is_nonzero", "nonzero", "masked_select", "equal"}
# Those that only look at a tensor in another way.
VIEWS = {"detach", "view", "split_with_sizes", "unsqueeze", "expand", "t", "permute", "slice"}


@pytest.fixture(params=["CPU", "GPU"])
def device(request, monkeypatch):
    """Takes sums as on a CPU, and as on a GPU, which PyTorch's operations do on a CPU too."""
    if request.param == "GPU":
        as_on_a_gpu(monkeypatch)


def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(reductions, "adds_there", lambda x: True)


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
        (torch.tensor([-torch.inf, 2.0], dtype=torch.float16), 4, 1),
        (ordinary.T.expand(2, 4, 3), 2 * (ordinary.double() ** 2).sum().item(), 0),
    ]


def values_of(sums):
    return OnHost(sums)(sums).tolist()


def measured(measure, *tensors):
    """Returns the sums of a measure by their names."""
    sums = measure.formula(*tensors)
    return dict(zip(measure.powers, values_of(sums), strict=True))


@pytest.mark.parametrize("bucket", [1, 14, many_tensors.BUCKET])
def test_each_tensor_is_summed_over_its_finite_values(device, monkeypatch, bucket):
    monkeypatch.setattr(many_tensors, "BUCKET", bucket)
    given, squares, left_out = zip(*tensors(), strict=True)
    found, number = many_tensors.squares_of_each(given)
    assert values_of(found) == pytest.approx(squares, rel=1e-6, abs=1e-60)
    assert values_of(number) == list(left_out)


def test_differences_of_tensors_are_summed(device):
    given = [x for x, *_ in tensors()]
    minus = [torch.full_like(x, 1.5) for x in given]
    differences = [(x - y).double() for x, y in zip(given, minus, strict=True)]
    found, number = many_tensors.squares_of_each(given, minus)
    expected = [(x[x.isfinite()] ** 2).sum().item() for x in differences]
    assert values_of(found) == pytest.approx(expected, rel=1e-6)
    assert values_of(number) == [(~x.isfinite()).sum() for x in differences]


def test_no_tensors_have_no_sums(device):
    assert many_tensors.squares_of_each([]) == ([], [])
    assert many_tensors.squares_of_each([], []) == ([], [])
    assert many_tensors.copies([]) == []


def test_copies_are_exact():
    given = [x for x, *_ in tensors()]
    for x, copy in zip(given, many_tensors.copies(given), strict=True):
        assert x.dtype == copy.dtype
        assert torch.equal(x.nan_to_num(7), copy.nan_to_num(7))
        assert not x.numel() or copy.data_ptr() != x.data_ptr()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("size", [1, 1e-12])
def test_sums_of_a_fork_are_those_in_float64(device, dtype, size):
    generator = torch.Generator().manual_seed(0)
    size = max(size, 1e-3) if dtype == torch.float16 else size
    skip, branch = (torch.randn(2, 3, 4, 5, generator=generator) * size for _ in range(2))
    skip[0, 0, 0, 0], branch[1, 2, 3, 4], branch[0, 0, 0, 1] = torch.nan, torch.inf, -torch.inf
    skip[1, 1, 1, 1] = 0
    skip, branch = skip.to(dtype), branch.to(dtype)
    s, b = (np.nan_to_num(x.double().numpy(), nan=0, posinf=0, neginf=0) for x in (skip, branch))
    assert measured(FORK, skip, branch) == pytest.approx(
        {
            "skip_gradient_squares": (s**2).sum(),
            "branch_gradient_squares": (b**2).sum(),
            "skip_branch_products": (s * b).sum(),
            "input_elements": 120,
            "examples": 2,
            "skip_gradient_nonfinite": 1,
            "branch_gradient_nonfinite": 2,
        },
        rel=1e-6,
        abs=1e-60,
    )
    assert measured(MERGE, branch)["output_gradient_nonfinite"] == 2
    assert measured(DISTRIBUTION, skip, branch) == pytest.approx(
        {
            "skip_gradient_zeros": 1,
            "branch_gradient_zeros": 0,
            "skip_gradient_fourth_powers": (s**4).sum(),
            "branch_gradient_fourth_powers": (b**4).sum(),
        },
        rel=1e-5,
        abs=1e-90,
    )
    largest = measured(DISTRIBUTION_MAXIMA, skip, branch)
    assert [*largest.values()] == pytest.approx([abs(s).max(), abs(b).max()])
    counts = [*measured(HISTOGRAMS, skip, branch).values()]
    assert (sum(counts[:65]), sum(counts[65:])) == (119, 118)


def test_sums_of_a_forward_pass_are_those_in_float64(device):
    x, f = torch.randn(2, 9) + 100, torch.randn(2, 9) * 1e-20
    sums = measured(FORWARD, x, f, x + f)
    assert sums["skip_output_sum"] == pytest.approx(x.double().sum().item(), rel=1e-9)
    assert sums["branch_output_sum"] == pytest.approx(f.double().sum().item(), rel=1e-9)
    assert sums["branch_output_squares"] == pytest.approx((f.double() ** 2).sum().item())
    assert sums["sum_squares"] == pytest.approx((x.double() ** 2).sum().item(), rel=1e-6)


class Operations(TorchDispatchMode):
    """Context that lists the names of all operations that run."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function._schema.name.split("::")[1])
        return function(*args, **(kwargs or {}))


class Listed(keras.Sequential):
    """A model that keeps the names of the operations of its last step."""

    def train_step(self, data):
        with Operations() as operations:
            logs = super().train_step(data)
        self.operations = operations.names
        return logs


def operations_of_a_step(blocks, *recorders):
    """Returns the numbers of operations that a step launches, and that the host waits for."""
    layers = [reszoo.ResidualBlock([keras.layers.Dense(4)]) for _ in range(blocks)]
    model = Listed([keras.Input((4,)), *layers])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.fit(np.ones((8, 4)), np.zeros((8, 4)), verbose=0, callbacks=list(recorders))
    names = [name for name in model.operations if name not in VIEWS]
    return len(names), sum(name in WAITING for name in names)


def test_a_recorded_step_on_a_gpu_launches_little_and_never_waits(monkeypatch, tmp_path):
    as_on_a_gpu(monkeypatch)
    added = []
    for blocks in (1, 3):
        launched, waited = operations_of_a_step(blocks)
        recorder = reszoo.GradientRecorder(tmp_path / str(blocks), 1)
        with_recorder, still_waited = operations_of_a_step(blocks, recorder)
        assert still_waited == waited
        added.append(with_recorder - launched)
    of_a_block = (added[1] - added[0]) / 2
    assert of_a_block <= 18
    assert added[0] - of_a_block <= 30


@pytest.mark.parametrize(
    ("of_branch", "is_known"),
    [
        (lambda skip, other: other, True),
        (lambda skip, other: 1e-3 * other, True),
        (lambda skip, other: 0 * other, True),
        (lambda skip, other: -skip + 1e-4 * other, False),  # cancels most of it
        (lambda skip, other: -skip, False),
        (lambda skip, other: other / 0, False),
        (lambda skip, other: 1e37 * other, False),
        (lambda skip, other: other.half(), False),
    ],
)
def test_squares_of_a_sum_are_known_by_those_of_its_parts(of_branch, is_known):
    generator = torch.Generator().manual_seed(0)
    skip, other = torch.randn(2, 5, 3, 8, 40, generator=generator)
    branch = of_branch(skip, other)
    skip = skip.to(branch.dtype)
    found = reductions.squares_of_sum_by(FORK.formula(skip, branch), skip.dtype)
    assert (found is not None) == is_known
    if is_known:
        expected = (skip.double() + branch.double()).square().sum().item()
        assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("size", [7, 1024, 2304, 2 * 1021, 1_300_001])
def test_squares_of_many_values_are_accurate_on_a_cpu(size):
    generator = torch.Generator().manual_seed(0)
    alike = torch.full((size,), 0.1)
    uneven = torch.randn(size, generator=generator).exp()
    uneven[3] = 1e3
    found = reductions.squares_on_cpu([alike, uneven])
    expected = [x.double().square().sum().item() for x in (alike, uneven)]
    assert found.tolist() == pytest.approx(expected, rel=2e-6)


def test_values_are_read_in_the_order_of_memory():
    x = torch.randn(2, 3, 5, 7)
    for turned in (
        x,
        x.permute(0, 2, 3, 1),
        x.transpose(0, 1),
        x[:, ::2],
        x[:1].expand(4, 3, 5, 7),
    ):
        expected = turned.double().square().sum().item()
        assert reductions.squares_on_cpu([turned]).item() == pytest.approx(expected, rel=1e-6)


def test_a_tensor_of_a_device_without_float64_is_copied_to_the_host():
    with FakeTensorMode():  # there is no such device here
        assert with_float64(torch.empty(2, device="mps")).device.type == "cpu"
    x = torch.ones(2)
    assert with_float64(x) is x


def test_an_update_of_half_precision_is_subtracted_in_float32():
    after, before = (torch.tensor([x], dtype=torch.bfloat16) for x in (-2.01e-3, 1e-3))
    expected = (float(after) - float(before)) ** 2
    squares, _ = many_tensors.squares_of_each([after], [before.clone()])
    assert squares == pytest.approx([expected], rel=1e-6)


def test_sums_of_the_host_do_not_depend_on_the_device_of_keras():
    skip, branch = torch.ones(2, 3), torch.arange(6.0).reshape(2, 3)
    with keras.device("meta"):  # in place of a GPU, on which nothing can be read either
        sums = FORWARD.formula(skip, branch, skip + branch)
    assert sums[:2] == [6.0, 15.0]


def test_a_tensor_with_a_third_reader_gets_the_gradient_of_a_plain_step(tmp_path):
    def weights(log_dir):
        keras.utils.set_random_seed(0)
        given = keras.Input((6,))
        x = keras.layers.Dense(8)(given)
        branch = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(8)])
        outputs = [keras.layers.Dense(3)(reszoo.ResidualBlock(branch, name="b")(x))]
        outputs.append(keras.layers.Dense(2)(x))
        model = keras.Model(given, outputs)
        model.compile(keras.optimizers.SGD(0.1), ["mse", "mse"])
        recorders = [reszoo.GradientRecorder(log_dir, 1)] if log_dir else []
        y = [np.ones((64, 3), "float32"), np.ones((64, 2), "float32")]
        data = np.random.default_rng(0).normal(size=(64, 6)).astype("float32")
        model.fit(data, y, 8, shuffle=False, verbose=0, callbacks=recorders)
        return model.get_weights()

    for policy in ("float32", "mixed_bfloat16"):
        keras.config.set_dtype_policy(policy)
        for own, other in zip(weights(tmp_path / policy), weights(None), strict=True):
            np.testing.assert_array_equal(own, other)
