"""Gradient by one path through the residual blocks at a time."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reszoo.gradients.blocks import graphs_of
from reszoo.gradients.graph import GraphBlock
from reszoo.gradients.patching import replace
from reszoo.keras_internals import RUN_THROUGH_GRAPH
from reszoo.layers import ResidualBlock, stored_activations

Blocks = Mapping[str, ResidualBlock | GraphBlock]


def path_gradients(
    model: keras.Model,
    x: tf.Tensor,
    y: tf.Tensor,
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
    stored = stored_activations()  # the tape must reach the paths inside of reversible blocks
    with contextlib.ExitStack() as put_back, _restored(model.non_trainable_variables), stored:
        for replacement in replacements:
            put_back.callback(replace(*replacement))
        with tf.GradientTape(persistent=True) as tape:
            paths.tape = tape
            total = tf.reduce_mean(loss(y, model(x, training=True)))
        paths.check_calls()
    zero = tf.UnconnectedGradients.ZERO
    for taken in sets:
        paths.taken = frozenset(taken)
        gradient = tape.gradient(total, paths.start, unconnected_gradients=zero)
        yield tf.convert_to_tensor(gradient).numpy().astype(np.float64)


class _Paths:
    """Forks that take the gradient of only one of the two paths.

    Args:
        blocks: The blocks by name, in the order of the network.

    Attributes:
        taken: The positions of the blocks whose branch is taken; it may change between one backward
            pass and the next.
        tape: Records the forward pass.
        start: The input of the first block.
    """

    def __init__(self, blocks: Blocks):
        self.blocks = blocks
        self.taken = frozenset()
        self.tape: Any = None
        self.start: Any = None
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
        @tf.custom_gradient
        def fork(x: tf.Tensor) -> Any:
            def backward(skip: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
                return branch if position in self.taken else skip

            return (tf.identity(x), tf.identity(x)), backward

        def counted(x: tf.Tensor) -> Any:
            self._calls[name] += 1
            if position == 0:
                self.start = x = tf.identity(x)
                self.tape.watch(x)
            return fork(x)

        return counted


@contextlib.contextmanager
def _restored(variables: Sequence[keras.Variable]) -> Iterator[None]:
    """Context at whose end variables are set to their values at its beginning."""
    before = [tf.identity(variable.value) for variable in variables]
    try:
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)
