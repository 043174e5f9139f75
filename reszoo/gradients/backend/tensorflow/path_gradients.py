"""Gradient by one path through the residual blocks at a time."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reszoo.gradients.patching import replace
from reszoo.gradients.series import Blocks, Series
from reszoo.layers import stored_activations


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
    stored = stored_activations()  # the tape must reach the paths inside of reversible blocks
    with contextlib.ExitStack() as put_back, keras.StatelessScope(), stored:
        for replacement in paths.replacements(model):
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


class _Paths(Series):
    """Forks that take the gradient of only one of the two paths.

    Attributes:
        tape: Records the forward pass.
        start: The input of the first block.
    """

    tape: Any = None
    start: Any = None

    def _start(self, x: tf.Tensor) -> tf.Tensor:
        self.start = tf.identity(x)
        self.tape.watch(self.start)
        return self.start

    def _fork(self, x: tf.Tensor, position: int) -> Any:
        @tf.custom_gradient
        def fork(x: tf.Tensor) -> Any:
            def backward(skip: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
                return branch if position in self.taken else skip

            return (tf.identity(x), tf.identity(x)), backward

        return fork(x)
