"""Gradient by one path through the residual blocks at a time."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from reszoo.gradients.patching import replace
from reszoo.gradients.series import Blocks, Series

Tensor = Any


def path_gradients(
    model: keras.Model,
    x: Tensor,
    y: Tensor,
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

    def total(anchor: Tensor) -> Tensor:
        paths.anchor = anchor
        # Averages and seeds are updated in the scope alone, so the model is unchanged.
        with keras.StatelessScope():
            return jnp.mean(loss(y, model(x, training=True)))

    with contextlib.ExitStack() as put_back:
        for replacement in paths.replacements(model):
            put_back.callback(replace(*replacement))
        value, backward = jax.vjp(total, jnp.zeros(()))
    paths.check_calls()
    for taken in sets:
        paths.taken = frozenset(taken)
        backward(jnp.ones_like(value))
        yield np.asarray(paths.gradient).astype(np.float64)


class _Paths(Series):
    """Forks that take the gradient of only one of the two paths.

    Attributes:
        anchor: A scalar by which the loss is differentiated; the first block's input depends on it.
        gradient: The gradient at the first block's input in the last backward pass.
    """

    anchor: Any = None
    gradient: Any = None

    def _fork(self, x: Tensor, position: int) -> tuple[Tensor, Tensor]:
        @jax.custom_vjp
        def fork(x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

        def backward(_: None, gradients: tuple[Tensor, Tensor]) -> tuple[Tensor]:
            return (gradients[position in self.taken],)

        fork.defvjp(lambda x: (fork(x), None), backward)
        return fork(x)

    def _start(self, x: Tensor) -> Tensor:
        """Returns the first block's input, whose gradient is kept."""

        @jax.custom_vjp
        def start(x: Tensor, anchor: Tensor) -> Tensor:
            return x

        def backward(_: None, gradient: Tensor) -> tuple[Tensor, Tensor]:
            self.gradient = gradient
            return gradient, jnp.zeros(())

        start.defvjp(lambda x, anchor: (x, None), backward)
        # The loss does not depend on a block that no gradient leaves.
        self.gradient = jnp.zeros_like(x)
        return start(x, self.anchor)
