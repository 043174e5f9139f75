"""Names of Keras and PyTorch that are not public still mean what is relied on."""

import keras
import pytest
import torch

from reszoo import keras_internals
from reszoo.gradients import backend
from reszoo.gradients.patching import replace
from reszoo.keras_internals import MULTIPLY_EACH, NORM_OF_EACH, RUN_BACKWARD, SUBTRACT_FROM_EACH


def test_every_backward_pass_is_made_by_one_function():
    passes = []
    original = vars(torch.autograd)[RUN_BACKWARD]

    def run(
        outputs, gradients, retain_graph, create_graph, inputs, allow_unreachable, accumulate_grad
    ):
        passes.append((len(inputs), accumulate_grad))
        options = (retain_graph, create_graph, inputs, allow_unreachable, accumulate_grad)
        return original(outputs, gradients, *options)

    x = torch.ones(2, requires_grad=True)
    put_back = replace(torch.autograd, RUN_BACKWARD, run)
    try:
        (2 * x).sum().backward()
        torch.autograd.backward((2 * x).sum(), inputs=[x])
        (gradient,) = torch.autograd.grad((2 * x).sum(), [x])
    finally:
        put_back()
    if passes != [(0, True), (1, True), (1, False)]:
        pytest.fail(f"torch.autograd.{RUN_BACKWARD} is not what reszoo relies on: {passes}")
    assert gradient.tolist() == [2, 2]
    assert x.grad.tolist() == [4, 4]


def test_functions_of_torch_take_many_tensors_at_once():
    tensors = [torch.tensor([3.0, 4.0]), torch.tensor([[-1e30]]), torch.zeros(0)]
    norms = vars(torch)[NORM_OF_EACH](tensors, 2, dtype=torch.float64)
    assert [norm.dtype for norm in norms] == [torch.float64] * 3
    assert [norm.item() for norm in norms] == pytest.approx([5, 1e30, 0])
    copies = vars(torch)[MULTIPLY_EACH](tensors, 1.0)
    assert all(map(torch.equal, copies, tensors))
    vars(torch)[SUBTRACT_FROM_EACH](copies, tensors)
    assert not any(copy.any() for copy in copies)


def test_the_backend_has_the_names_of_all():
    for name in backend._NAMES:
        assert getattr(backend, name) is getattr(backend.torch, name)


def test_results_are_float64_on_request():
    x = torch.ones(2, 2, dtype=torch.float64)
    assert keras.ops.matmul(x, x).dtype == torch.float32
    with keras_internals.results_in_float64():
        assert keras.ops.matmul(x, x).dtype == torch.float64
    assert keras.ops.matmul(x, x).dtype == torch.float32
