"""The taps of a whole model: put in place while a step runs, and read by the host."""

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reszoo.gradients.blocks import find_blocks, graphs_of
from reszoo.gradients.first_batch import is_built
from reszoo.gradients.graph import GraphBlock, acting_block
from reszoo.gradients.measures import measures_of
from reszoo.gradients.scale import accumulation_steps
from reszoo.gradients.statistics import NOISE_SUMS, WEIGHT_SUMS
from reszoo.gradients.taps import Accumulator, BlockTaps, Switch
from reszoo.gradients.update_tap import UpdateTap
from reszoo.layers import ResidualBlock


class ModelTaps:
    """Taps of every residual block of a model and of its optimizer.

    Between steps the model is as it was: the taps are put in place when a recorded step is run or
    traced, and taken away when it ends, however it ends. What a `tf.function` traced meanwhile
    keeps them.

    Args:
        model: A built and compiled model.
        groups: Names of the sets of statistics to take sums for.
        blocks: The blocks by name; `None` for every `ResidualBlock` of the model.

    Raises:
        ValueError: If the model has no residual block, is not compiled, or has not these blocks.
    """

    def __init__(
        self,
        model: keras.Model,
        groups: Iterable[str],
        blocks: Mapping[str, ResidualBlock | GraphBlock] | None = None,
    ):
        if model.optimizer is None:
            raise ValueError(
                f"The model {model.name!r} has no optimizer. Call model.compile(optimizer, ...) "
                "before recording its gradients."
            )
        if not is_built(model):
            raise ValueError(
                f"The model {model.name!r} is not built, so it has no weights to observe. Call it "
                "on a batch, or model.build(input_shape), before the first recorded step."
            )
        self.model = model
        self.blocks = find_blocks(model) if blocks is None else dict(blocks)
        self._graphs = graphs_of(model, self.blocks)
        self.variables = list(model.trainable_variables)
        measures = measures_of(groups)
        with model.distribute_strategy.scope():
            if not model.optimizer.built:
                model.optimizer.build(self.variables)
            self.switch = Switch(model.optimizer)
            self._anchor = tf.Variable(0.0, trainable=True)
            self._of_blocks = {
                name: [(m, Accumulator([len(m.powers)], m.maximum)) for m in measures]
                for name in self.blocks
            }
            self._updates = self._noise = None
            if {"weights", "noise_scale", "variables"} & set(groups):
                self._updates = Accumulator([len(self.variables), len(WEIGHT_SUMS)])
            if "noise_scale" in groups:
                self._noise = Accumulator([len(self.variables), len(NOISE_SUMS)])
        self._read_and_clear = tf.function(self._read_and_clear)
        self._users = 0
        self._replica = threading.local()
        self._put_aside = []

    @property
    def parts(self) -> int:
        """How many parts a batch is made of: replicas, times accumulated batches."""
        replicas = self.model.distribute_strategy.num_replicas_in_sync
        return replicas * accumulation_steps(self.model.optimizer)

    def recorded(self, step: Callable, always: bool = False) -> Callable:
        """Returns a step that is recorded whenever the switch says so.

        Args:
            step: A function of one replica that computes gradients and calls
                `model.optimizer.apply`.
            always: Whether it is run for batches alone that are recorded, and need not ask.

        Returns:
            A function that takes and returns the same.
        """

        def recorded_step(*args, **kwargs):
            with self._in_place(always, (args, kwargs)):
                return step(*args, **kwargs)

        return recorded_step

    def read(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], int]:
        """Returns all sums, in one transfer, and sets them to zero.

        Returns:
            The sums of the blocks, each of shape `(blocks,)`, and those of the weights, each of
            shape `(weights,)`, float64, by name; and how many batches they are of.
        """
        flat = self._read_and_clear().numpy()
        seen, flat = flat[0], flat[1:]
        shapes = [accumulator.variable.shape for accumulator in self._accumulators()]
        ends = np.cumsum([shape.num_elements() for shape in shapes])
        parts = (
            part.reshape(shape)
            for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)
        )
        of_blocks = {}
        for pairs in self._of_blocks.values():
            for measure, _ in pairs:
                part = next(parts)
                values = part.max(axis=0) if measure.maximum else part
                for name, value in zip(measure.powers, values, strict=True):
                    of_blocks.setdefault(name, []).append(value)
        of_weights = {}
        # None are left where the weights are not observed.
        for names, part in zip((WEIGHT_SUMS, NOISE_SUMS), parts, strict=False):
            of_weights |= zip(names, part.T, strict=True)
        of_blocks = {name: np.array(values) for name, values in of_blocks.items()}
        return of_blocks, of_weights, int(seen)

    def _accumulators(self):
        of_blocks = [accumulator for pairs in self._of_blocks.values() for _, accumulator in pairs]
        return [*of_blocks, *filter(None, (self._updates, self._noise))]

    def _read_and_clear(self):
        variables = [accumulator.variable for accumulator in self._accumulators()]
        sums = [v if v.shape.rank == 1 else tf.reshape(v, [-1]) for v in variables]
        sums = tf.concat([tf.cast(self.switch.seen, tf.float64)[None], *sums], axis=0)
        for variable in variables:
            variable.assign(tf.zeros(variable.shape, variable.dtype))
        self.switch.seen.assign(0)
        return sums

    @contextlib.contextmanager
    def _in_place(self, always: bool, batch: Any) -> Iterator[None]:
        """Puts the taps in place; replicas enter and leave in any order."""
        outermost = not getattr(self._replica, "inside", False)
        if outermost:
            self._replica.inside = True
            self._users += 1
            if self._users == 1:
                self._put_in_place()
        try:
            if outermost:
                self.switch.always = always
                # A batch that is not there, because the data has ended, is not counted.
                with tf.control_dependencies(_tensors_in(batch)):
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
        for name, block in self.blocks.items():
            accumulators = self._of_blocks[name]
            block = acting_block(block)
            taps = BlockTaps(block, accumulators, self.switch, self._anchor, optimizer)
            for attribute, replacement in taps.replacements().items():
                self._replace(block, attribute, replacement)
        for graph in self._graphs:
            if graph.acting() is None:
                self._replace(graph.function, "_run_through_graph", graph.run)
        if self._updates is None:
            return
        update = UpdateTap(
            optimizer,
            self.variables,
            self._updates,
            self._noise,
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


def _tensors_in(batch):
    return [x for x in tf.nest.flatten(batch, expand_composites=True) if tf.is_tensor(x)]
