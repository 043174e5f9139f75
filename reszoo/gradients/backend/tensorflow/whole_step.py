"""Sums of a step that is traced as a whole, written by a single assignment."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from reszoo.accumulator import Accumulator
from reszoo.keras_internals import without_recording

# Whether the running pass is recorded, and whether it replaces what was recorded before.
Turn = tuple[Any, Any]


class WholeStep:
    """Sums of the step that is being traced, as long as each of its operations runs exactly once.

    Which backward pass reaches which block is then known while the step is traced, so that no
    variable has to hold what was seen before, and all is written by one assignment when the step
    ends. In a loop, under a condition or in a function of its own an operation may run any number
    of times. Where something is observed there, what was kept so far is handed over to the
    variables of the parts, which are added to on the device, in this step and in all traced later.

    It must be created in the scope of the model's strategy.

    Args:
        accumulators: The accumulators of all sums.
        known: Number of the numbers that are known when the step is traced.
        hand_over: Writes these numbers to the variables of the parts that know them.

    Attributes:
        written: The variable that the sums of a whole step are written to.
        uses_variables: Whether a step that was traced or run may have added to the variables of
            the parts.
    """

    def __init__(
        self, accumulators: Sequence[Accumulator], known: int, hand_over: Callable[[], None]
    ):
        self._accumulators = accumulators
        self._hand_over = hand_over
        shapes: list[Any] = [a.variable.shape.as_list() for a in accumulators]
        self._zeros = tf.zeros(1 + known + sum(map(math.prod, shapes)), tf.float64)
        # As those of accumulators, which replicas may assign.
        self.written = tf.Variable(
            self._zeros,
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
            name="gradient_sums",
        )
        self._graph: Any = None
        self._sums: dict[int, tf.Tensor] = {}
        self._is_broken = False
        self.uses_variables = False

    def begin(self, is_possible: bool) -> None:
        """Begins a step.

        Args:
            is_possible: Whether it runs for recorded batches alone, one at a time, on one replica.
        """
        is_whole = is_possible and not self._is_broken and not tf.executing_eagerly()
        self.uses_variables = self.uses_variables or not is_whole
        self._graph = tf.compat.v1.get_default_graph() if is_whole else None
        self._sums = {}

    def is_here(self) -> bool:
        """Returns whether the step is whole so far, with the operation that is about to be made.

        If it is the first operation that is not, what was kept so far is handed over.
        """
        if self._graph is None or tf.compat.v1.get_default_graph() is self._graph:
            return self._graph is not None
        graph, self._graph = self._graph, None
        self._is_broken = self.uses_variables = True
        with graph.as_default(), tf.control_dependencies(None), without_recording():
            self._hand_over()
            for accumulator in self._accumulators:
                if id(accumulator) in self._sums:
                    accumulator.variable.assign(self._sums[id(accumulator)])
        return False

    def value(self, accumulator: Accumulator) -> tf.Tensor:
        """Returns the sums of the step so far.

        Args:
            accumulator: One of the accumulators.
        """
        variable = accumulator.variable
        if not self.is_here():
            return variable.value()
        kept = self._sums.get(id(accumulator))
        return tf.zeros(variable.shape, tf.float64) if kept is None else kept

    def add(self, accumulator: Accumulator, sums: tf.Tensor, turn: Turn | None = None) -> None:
        """Adds sums. Called on each replica.

        Args:
            accumulator: One of the accumulators.
            sums: Numbers of its shape; of one replica if it keeps the largest.
            turn: As `Accumulator.add` takes it, of Python booleans where the step is whole.
        """
        if not self.is_here():
            accumulator.add(sums, turn)
            return
        is_taken, is_new = (True, False) if turn is None else turn
        before = self._sums.get(id(accumulator))
        if not is_taken:
            return
        if accumulator.maximum:
            sums = sums[None]
        if before is not None and not is_new:
            sums = tf.maximum(before, sums) if accumulator.maximum else before + sums
        self._sums[id(accumulator)] = sums

    def put(self, accumulator: Accumulator, rows: Any, sums: tf.Tensor) -> None:
        """Replaces some rows by sums. Called on each replica.

        Args:
            accumulator: One of the accumulators.
            rows: Positions of the rows, of shape `(rows, 1)`.
            sums: The new rows, in the order of `rows`.
        """
        if not self.is_here():
            accumulator.put(rows, sums)
            return
        value = self.value(accumulator)
        self._sums[id(accumulator)] = tf.tensor_scatter_nd_update(value, rows, sums)

    def end(self, batches: tf.Tensor, known: Sequence[float]) -> None:
        """Writes the sums of the step, if it was whole.

        Args:
            batches: The number of recorded batches, a scalar.
            known: The numbers that are known now.
        """
        if not self.is_here():
            return
        sums = [tf.reshape(self.value(accumulator), [-1]) for accumulator in self._accumulators]
        first = [tf.cast(batches, tf.float64)[None], tf.constant(known, tf.float64)]
        self.written.assign(tf.concat([*first, *sums], axis=0))

    def leave(self) -> None:
        """Ends a step, also one that failed."""
        self._graph, self._sums = None, {}

    def take(self) -> np.ndarray:
        """Returns what whole steps have written, and sets it to zero. Called by the host."""
        written = self.written.numpy()
        self.written.assign(self._zeros)
        return written
