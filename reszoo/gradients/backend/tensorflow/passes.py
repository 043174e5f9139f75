"""Backward passes of a training step, one of which is recorded for each block."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from reszoo.gradients.backend.tensorflow.whole_step import Turn
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
        is_whole: Returns whether the running operation is one of a whole step, whose passes are
            known while it is traced.

    Attributes:
        counted: The number of passes so far, a variable.
    """

    def __init__(self, blocks: Sequence[ResidualBlock | FoundBlock], is_whole: Callable[[], bool]):
        self._own = [
            {identity_of_variable(v) for v in block.trainable_variables} for block in blocks
        ]
        self.is_whole = is_whole
        self.counted = _first_of_replicas(0.0)
        self._keys = _first_of_replicas([0.0] * len(self._own))
        self._known = (0.0, [0.0] * len(self._own))

    def begin_step(self) -> None:
        """Counts from 0 again. Called on each replica."""
        self._known = (0.0, [0.0] * len(self._own))
        if not self.is_whole():
            self.write_known()

    @property
    def known(self) -> list[float]:
        """Number of passes of a whole step, known while it is traced."""
        return [self._known[0]]

    def write_known(self) -> None:
        """Writes what is known to the variables."""
        number, keys = self._known
        self.counted.assign(number)
        self._keys.assign(tf.constant(keys, tf.float64))

    def begin(self, sources: Any) -> None:
        """Begins a pass. Called on each replica.

        Args:
            sources: The `sources` of the tape's gradient, any structure of tensors and variables.
        """
        sources = {identity_of_variable(source) for source in tf.nest.flatten(sources)}
        offsets = [_OF_OWN_WEIGHTS * bool(own & sources) for own in self._own]
        if self.is_whole():
            number = self._known[0] + 1
            self._known = (number, [number + offset for offset in offsets])
            return
        self.counted.assign_add(1.0)
        self._keys.assign(self.counted.value() + tf.constant(offsets, tf.float64))

    def number(self) -> tf.Tensor | float:
        """Returns the number of the running pass, from 1; known in a whole step."""
        return self._known[0] if self.is_whole() else self.counted.value()

    def key(self, position: int) -> tf.Tensor | float:
        """Returns the key of the running pass for a block; of two passes the larger is recorded.

        Args:
            position: Position of the block in the network, from 0.

        Returns:
            A number if the step is whole, else a scalar.
        """
        return self._known[1][position] if self.is_whole() else self._keys.value()[position]


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
        self.begin_step()

    def begin_step(self) -> None:
        """Forgets what is known of the step before."""
        self._known_runs = 0.0
        self._known_turns: dict[str, tuple[float, float]] = dict.fromkeys(
            BACKWARD_PLACES, (0.0, 0.0)
        )

    @property
    def known(self) -> list[float]:
        """Values of the `variables` of a whole step, known while it is traced."""
        return [self._known_runs, *itertools.chain(*self._known_turns.values())]

    def write_known(self) -> None:
        """Writes what is known to the variables."""
        self.ran.assign(self._known_runs)
        for place, variable in self._of_places.items():
            variable.assign(tf.constant(self._known_turns[place], tf.float64))

    @property
    def variables(self) -> list[tf.Variable]:
        """Number of runs; for each place, the key of the pass and the number of passes."""
        return [self.ran, *self._of_places.values()]

    def count_run(self, on: tf.Tensor | bool) -> None:
        """Counts a forward run.

        Args:
            on: Whether the batch is recorded.
        """
        if self._passes.is_whole():
            self._known_runs += 1
        else:
            self.ran.assign_add(tf.cast(on, tf.float64))

    def take(self, place: str) -> Turn:
        """Returns whether the running pass is recorded, and whether it replaces another.

        Args:
            place: The place of the block, one of `BACKWARD_PLACES`.

        Returns:
            Python booleans if the step is whole, else tensors.
        """
        return self._take_known(place) if self._passes.is_whole() else self._take(place)

    def _take_known(self, place: str) -> Turn:
        key, (last, number) = float(self._passes.key(self._position)), self._known_turns[place]
        if number == 0:
            self._known_turns[place] = (key, 1.0)
            return True, False
        if key > last:
            alike = (key >= _OF_OWN_WEIGHTS) == (last >= _OF_OWN_WEIGHTS)
            self._known_turns[place] = (key, number + 1 if alike else 1.0)
        return key >= last, key > last

    def _take(self, place: str) -> Turn:
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
