"""The taps of a whole model: put in place while a step runs, and read by the host."""

import contextlib
import threading
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from reszoo.gradients.blocks import find_blocks
from reszoo.gradients.statistics import FORK_SUMS, MERGE_SUMS, WEIGHT_SUMS
from reszoo.gradients.taps import Accumulator, ForkTap, MergeTap, Switch, UpdateTap


class ModelTaps:
    """Taps of every residual block of a model and of its optimizer.

    Between steps the model is as it was: the taps are put in place when a recorded step is run or
    traced, and taken away when it ends, however it ends. What a `tf.function` traced meanwhile
    keeps them.

    Args:
        model: A built and compiled model.

    Raises:
        ValueError: If the model has no residual block, or is not compiled.
    """

    def __init__(self, model: keras.Model):
        if model.optimizer is None:
            raise ValueError(
                f"The model {model.name!r} has no optimizer. Call model.compile(optimizer, ...) "
                "before recording its gradients."
            )
        self.model = model
        self.blocks = find_blocks(model)
        self.variables = list(model.trainable_variables)
        with model.distribute_strategy.scope():
            if not model.optimizer.built:
                model.optimizer.build(self.variables)
            self.switch = Switch()
            self._anchor = tf.Variable(0.0, trainable=True)
            self._forks = [Accumulator([len(FORK_SUMS)]) for _ in self.blocks]
            self._merges = [Accumulator([len(MERGE_SUMS)]) for _ in self.blocks]
            self._updates = Accumulator([len(self.variables), len(WEIGHT_SUMS)])
        self._accumulators = [*self._forks, *self._merges, self._updates]
        self._read_and_clear = tf.function(self._read_and_clear)
        self._users = 0
        self._replica = threading.local()
        self._put_aside = []

    def recorded(self, step: Callable) -> Callable:
        """Returns a step that is recorded whenever the switch says so.

        Args:
            step: A function of one replica that computes gradients and calls
                `model.optimizer.apply`.

        Returns:
            A function that takes and returns the same.
        """

        def recorded_step(*args, **kwargs):
            with self._in_place():
                return step(*args, **kwargs)

        return recorded_step

    def read(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Returns all sums, in one transfer, and sets them to zero.

        Returns:
            The sums of the blocks, each of shape `(blocks,)`, and those of the weights, each of
            shape `(weights,)`, float64, by name.
        """
        sums = self._read_and_clear().numpy().astype(np.float64)
        shapes = [accumulator.variable.shape for accumulator in self._accumulators]
        ends = np.cumsum([shape.num_elements() for shape in shapes])
        parts = [
            part.reshape(shape)
            for part, shape in zip(np.split(sums, ends[:-1]), shapes, strict=True)
        ]
        blocks = len(self.blocks)
        forks, merges, updates = parts[:blocks], parts[blocks : 2 * blocks], parts[-1]
        of_blocks = np.concatenate([np.stack(forks), np.stack(merges)], axis=1)
        of_weights = dict(zip(WEIGHT_SUMS, updates.T, strict=True))
        return dict(zip((*FORK_SUMS, *MERGE_SUMS), of_blocks.T, strict=True)), of_weights

    def _read_and_clear(self):
        sums = [tf.reshape(a.variable, [-1]) for a in self._accumulators]
        for accumulator in self._accumulators:
            accumulator.variable.assign(tf.zeros(accumulator.variable.shape))
        return tf.concat(sums, axis=0)

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        """Puts the taps in place; replicas enter and leave in any order."""
        outermost = not getattr(self._replica, "inside", False)
        if outermost:
            self._replica.inside = True
            self._users += 1
            if self._users == 1:
                self._put_in_place()
        try:
            if outermost:
                self.switch.begin_batch()
            yield
        finally:
            if outermost:
                self._replica.inside = False
                self._users -= 1
                if self._users == 0:
                    self._take_away()

    def _put_in_place(self):
        optimizer = self.model.optimizer
        for block, fork, merge in zip(self.blocks.values(), self._forks, self._merges, strict=True):
            self._replace(block, "fork", ForkTap(fork, self.switch, self._anchor, optimizer))
            self._replace(block, "merge", MergeTap(block.merge, merge, self.switch, optimizer))
        update = UpdateTap(
            optimizer,
            self.variables,
            self._updates,
            self.switch,
            fixed_shapes=bool(self.model.jit_compile),
        )
        self._replace(optimizer, "apply", update)

    def _replace(self, owner, name, replacement):
        # By the instance's dictionary, past Keras's tracking of what is set on a layer.
        attributes = vars(owner)
        self._put_aside.append((attributes, name, attributes.get(name)))
        attributes[name] = replacement

    def _take_away(self):
        while self._put_aside:
            attributes, name, original = self._put_aside.pop()
            if original is None:
                del attributes[name]
            else:
                attributes[name] = original
