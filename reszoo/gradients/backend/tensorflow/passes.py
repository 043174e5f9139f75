"""Backward passes of a training step, one of which is recorded for each block."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from reszoo.gradients.found_block import FoundBlock
from reszoo.gradients.measures import BACKWARD_PLACES
from reszoo.keras_internals import identity_of_variable
from reszoo.layers import ResidualBlock

# Difference of the keys of a pass that trains a block and of one that does not.
_OF_OWN_WEIGHTS = 2.0**20


def number_of(keys: Any) -> Any:
    """Returns the numbers of passes, given their keys.

    Args:
        keys: A NumPy array.
    """
    return keys % _OF_OWN_WEIGHTS


class Passes:
    """Backward passes of a step, numbered on the device; each has a key for every block.

    A pass that differentiates with respect to weights of a block trains it, and has priority over
    others, such as that of a gradient penalty to the input, or the generator's through the
    discriminator. Of several with the same priority the last is recorded. A pass is a call of
    `tf.GradientTape.gradient`; calls within it, to compute activations again, are parts of it.

    Args:
        blocks: The blocks, in the order of the network.
    """

    def __init__(self, blocks: Sequence[ResidualBlock | FoundBlock]):
        self._own = [
            {identity_of_variable(v) for v in block.trainable_variables} for block in blocks
        ]
        self.number = _first_of_replicas(0.0)
        self._keys = _first_of_replicas([0.0] * len(self._own))

    def begin_step(self) -> None:
        """Counts from 0 again. Called on each replica."""
        self.number.assign(0.0)
        self._keys.assign(tf.zeros_like(self._keys.value()))

    def begin(self, sources: Any) -> None:
        """Begins a pass. Called on each replica.

        Args:
            sources: The `sources` of the tape's gradient, any structure of tensors and variables.
        """
        sources = {identity_of_variable(source) for source in tf.nest.flatten(sources)}
        self.number.assign_add(1.0)
        trains = tf.constant([bool(own & sources) for own in self._own])
        self._keys.assign(self.number.value() + _OF_OWN_WEIGHTS * tf.cast(trains, tf.float64))

    def key(self, position: int) -> tf.Tensor:
        """Returns the key of the running pass for a block; of two passes the larger is recorded.

        Args:
            position: Position of the block in the network, from 0.
        """
        return self._keys.value()[position]


class Turns:
    """Choice of the pass that is recorded of a block, at each of its places.

    Args:
        passes: The passes of the step.
        position: Position of the block in the network, from 0.

    Attributes:
        ran: Number of times that the block ran forward in recorded batches.
        is_lost: Whether its fork was seen to run without its sum.
    """

    is_lost = False

    def __init__(self, passes: Passes, position: int):
        self._passes = passes
        self._position = position
        self.ran = _of_all_replicas(0.0)
        self._of_places = {place: _of_all_replicas([0.0, 0.0]) for place in BACKWARD_PLACES}

    @property
    def variables(self) -> list[tf.Variable]:
        """Number of runs; for each place, the key of the pass and the number of passes."""
        return [self.ran, *self._of_places.values()]

    def count_run(self, on: tf.Tensor | bool) -> None:
        """Counts a forward run.

        Args:
            on: Whether the batch is recorded.
        """
        self.ran.assign_add(tf.cast(on, tf.float64))

    def take(self, place: str) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns whether the running pass is recorded, and whether it replaces another.

        Args:
            place: The place of the block, one of `BACKWARD_PLACES`.
        """
        variable = self._of_places[place]
        key, (last, number) = self._passes.key(self._position), tf.unstack(variable.value())
        is_first = number == 0
        is_taken, is_new = (key >= last) | is_first, (key > last) & ~is_first
        alike = (key >= _OF_OWN_WEIGHTS) == (last >= _OF_OWN_WEIGHTS)
        number = tf.where(is_new, tf.where(alike, number + 1, 1.0), tf.maximum(number, 1.0))
        variable.assign(tf.stack([tf.where(is_taken, key, last), number]))
        return is_taken, is_new


def _first_of_replicas(value: Any) -> tf.Variable:
    return _replica_local(value, tf.VariableAggregation.ONLY_FIRST_REPLICA)


def _of_all_replicas(value: Any) -> tf.Variable:
    return _replica_local(value, tf.VariableAggregation.SUM)


def _replica_local(value: Any, aggregation: tf.VariableAggregation) -> tf.Variable:
    return tf.Variable(
        value,
        dtype=tf.float64,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=aggregation,
    )
