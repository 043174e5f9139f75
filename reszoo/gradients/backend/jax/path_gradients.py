"""Gradient by one path through the residual blocks at a time."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np

from reszoo.gradients.blocks import graphs_of
from reszoo.gradients.graph import GraphBlock
from reszoo.gradients.patching import replace
from reszoo.keras_internals import RUN_THROUGH_GRAPH
from reszoo.layers import ResidualBlock

Tensor = Any
Blocks = Mapping[str, ResidualBlock | GraphBlock]


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
    replacements = paths.forks()
    replacements += [(g.function, RUN_THROUGH_GRAPH, g.run) for g in graphs_of(model, blocks)]

    def total(anchor: Tensor) -> Tensor:
        paths.anchor = anchor
        # Averages and seeds are updated in the scope alone, so the model is unchanged.
        with keras.StatelessScope():
            return jnp.mean(loss(y, model(x, training=True)))

    with contextlib.ExitStack() as put_back:
        for replacement in replacements:
            put_back.callback(replace(*replacement))
        value, backward = jax.vjp(total, jnp.zeros(()))
    paths.check_calls()
    for taken in sets:
        paths.taken = frozenset(taken)
        backward(jnp.ones_like(value))
        yield np.asarray(paths.gradient).astype(np.float64)


class _Paths:
    """Forks that take the gradient of only one of the two paths.

    Args:
        blocks: The blocks by name, in the order of the network.

    Attributes:
        taken: The positions of the blocks whose branch is taken; it may change between one backward
            pass and the next.
        anchor: A scalar by which the loss is differentiated; the first block's input depends on it.
        gradient: The gradient at the first block's input in the last backward pass.
    """

    def __init__(self, blocks: Blocks):
        self.blocks = blocks
        self.taken = frozenset()
        self.anchor: Any = None
        self.gradient: Any = None
        self._calls = Counter()

    def forks(self) -> list[tuple[Any, str, Callable]]:
        """Returns the replacements of the blocks' forks: owner, attribute, replacement."""
        return [
            (block, "fork", self._fork(position, name))
            for position, (name, block) in enumerate(self.blocks.items())
        ]

    def check_calls(self) -> None:
        """Raises an error if a block did not run exactly once."""
        for name in self.blocks:
            if self._calls[name] != 1:
                raise ValueError(
                    f"The block {name!r} runs {self._calls[name]} times in one forward pass. The "
                    "length of a path is defined for blocks in series that run once each."
                )

    def _fork(self, position: int, name: str) -> Callable:
        @jax.custom_vjp
        def fork(x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

        def backward(_: None, gradients: tuple[Tensor, Tensor]) -> tuple[Tensor]:
            return (gradients[position in self.taken],)

        fork.defvjp(lambda x: (fork(x), None), backward)

        def counted(x: Tensor) -> tuple[Tensor, Tensor]:
            self._calls[name] += 1
            return fork(self._start(x) if position == 0 else x)

        return counted

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
