"""Gradient by one path through the residual blocks at a time."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import torch

from reszoo.gradients.patching import replace
from reszoo.gradients.series import Blocks, Series


def path_gradients(
    model: keras.Model,
    x: Any,
    y: Any,
    loss: Callable,
    sets: Iterable[Iterable[int]],
    blocks: Blocks,
) -> Iterator[np.ndarray]:
    """Yields the gradient at the input of the first block by one path at a time.

    Args:
        model: A built model whose blocks are in series.
        x: A batch of inputs.
        y: Targets of the batch.
        loss: Takes `(y, model(x))` and returns a scalar or a loss per example, which is averaged.
        sets: For each path, the positions of the blocks whose branch it takes.
        blocks: The blocks by name, in the order of the network.

    Yields:
        The gradient, float64, of the shape of the block's input.

    Raises:
        ValueError: If a block does not run exactly once.
    """
    paths = _Paths(blocks)
    with contextlib.ExitStack() as put_back, keras.StatelessScope():
        for replacement in paths.replacements(model):
            put_back.callback(replace(*replacement))
        put_back.enter_context(torch.compiler.set_stance("force_eager"))
        put_back.enter_context(torch.enable_grad())
        total = torch.mean(loss(keras.ops.convert_to_tensor(y), model(x, training=True)))
        paths.check_calls()
    for taken in sets:
        paths.taken = frozenset(taken)
        yield _as_array(_gradient(total, paths.start))


def _gradient(total: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    if not total.requires_grad:
        return torch.zeros_like(start)
    return torch.autograd.grad(total, start, retain_graph=True, materialize_grads=True)[0]


def _as_array(gradient: torch.Tensor) -> np.ndarray:
    return gradient.detach().cpu().double().numpy()


class _Fork(torch.autograd.Function):
    """Splits a tensor in two, and takes the gradient of only one of them."""

    @staticmethod
    def forward(ctx: Any, takes_branch: Callable[[], bool], x: torch.Tensor) -> tuple:
        ctx.takes_branch = takes_branch
        return x.view_as(x), x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple:
        skip, branch = gradients
        return None, branch if ctx.takes_branch() else skip


class _Paths(Series):
    """Forks that take the gradient of only one of the two paths.

    Attributes:
        start: The input of the first block.
    """

    start: Any = None

    def _start(self, x: torch.Tensor) -> torch.Tensor:
        self.start = x.detach().requires_grad_()
        return self.start

    def _fork(self, x: torch.Tensor, position: int) -> tuple:
        return _Fork.apply(lambda: position in self.taken, x)
