"""Taps of a block: functions that replace its fork, its merge and its activation.

In the forward pass a tap is the identity; in the backward pass it adds sums of the gradients to an
accumulator, and returns the gradients unchanged, on a CPU after the sums are computed.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from reszoo.accumulator import Accumulator
from reszoo.gradients.backend.tensorflow.backward_graphs import changing_variables
from reszoo.gradients.backend.tensorflow.passes import Turns
from reszoo.gradients.backend.tensorflow.reductions import has_gpu, traced_once
from reszoo.gradients.backend.tensorflow.whole_step import WholeStep
from reszoo.gradients.measures import BACKWARD_PLACES, Measure
from reszoo.keras_internals import hand_on_mask, is_traced_for_xla, is_vectorized
from reszoo.layers.recomputation import runs_again
from reszoo.updates import (
    accumulation_steps,
    applied_variable,
    batches_applied,
)


class Switch:
    """Switch on the device that is on while a batch is recorded.

    The host sets the first batch to record; the device counts batches, and finds the first and the
    last batch of an update by the optimizer's count. So neither the cadence nor several steps per
    execution cause another trace. It must be created in the scope of the model's strategy.

    Args:
        optimizer: The optimizer whose count of batches is used.

    Attributes:
        asks: Whether it is tested on the device if a batch is recorded. It is not where every batch
            that the traced function runs is recorded, because the others run in another function.
            A function within the step is kept by TensorFlow for all steps, and tests it always.
        seen: Number of batches recorded since the last `set`.
    """

    asks = True

    def __init__(self, optimizer: keras.optimizers.Optimizer):
        self._optimizer = optimizer
        self._graph: Any = None  # in which the step is traced; none if it runs eagerly
        self._counted = _replica_local(0, tf.int64)
        self._on = _replica_local(False, tf.bool)
        self._first = tf.Variable(tf.constant(-1, tf.int64), trainable=False)
        # With accumulated batches: the optimizer's count when the update began.
        self._begun = _replica_local(-1, tf.int64)
        self.seen = _replica_local(0, tf.int64)

    def set(self, counted: int, first: int) -> None:
        """Sets which batch to record. Called by the host.

        Args:
            counted: Number of batches that have been tried.
            first: The first batch to record, counted from 0. With several batches per update, the
                update is recorded if it begins with that batch or fewer than one update after it.
        """
        self._counted.assign(counted)
        self._first.assign(first)
        self._begun.assign(-1)
        self.seen.assign(0)

    @tf.autograph.experimental.do_not_convert
    def begin_batch(self) -> None:
        """Counts a batch. Called on each replica when its step begins."""
        self._graph = _graph()
        if not self.asks:
            self._on.assign(True)
            self.seen.assign_add(1)
            return
        on = self._begins_or_goes_on(self._counted.value())
        self._on.assign(on)
        self._counted.assign_add(1)
        self.seen.assign_add(tf.cast(on, tf.int64))

    def _begins_or_goes_on(self, batch: tf.Tensor) -> tf.Tensor:
        size = accumulation_steps(self._optimizer)
        if size == 1:
            return self._first.value() == batch
        applied = self._applied()
        begins = (self._first <= batch) & (batch < self._first + size) & (applied % size == 0)
        begun = tf.where(begins & (self.seen.value() == 0), applied, self._begun.value())
        self._begun.assign(begun)
        return (begun >= 0) & (begun <= applied) & (applied < begun + size)

    def _applied(self) -> Any:
        return tf.cast(applied_variable(self._optimizer).value, tf.int64)

    def on(self) -> tf.Tensor | bool:
        """Returns whether the running batch is recorded, a boolean scalar."""
        return self._on.value() if self.asks or _graph() is not self._graph else True

    def turn_off(self) -> None:
        """Ends the recording of the batch, for functions within the step that go on to run."""
        self._on.assign(False)

    def on_last(self) -> tf.Tensor | bool:
        """Returns whether the running batch is recorded and makes the update."""
        size = accumulation_steps(self._optimizer)
        if not self.asks or size == 1:
            return self.on()
        return self.on() & (self._applied() % size == size - 1)

    def state(self) -> tuple[bool, bool]:
        """Returns whether the update to record has begun, and whether it is over."""
        begun = int(self._begun.numpy())
        size = accumulation_steps(self._optimizer)
        return begun >= 0, 0 <= begun <= batches_applied(self._optimizer) - size


def _graph() -> Any:
    return None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()


def _replica_local(value: Any, dtype: tf.DType) -> tf.Variable:
    return tf.Variable(
        value,
        dtype=dtype,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


class BlockTaps:
    """Taps of one block, which add sums of the tensors at its places.

    Args:
        block: The block, whose own `merge` and `activation` are still called.
        accumulators: Measures, each with the accumulator of its sums.
        switch: The switch, which is on while a batch is recorded.
        anchor: A scalar variable that the tape watches. Without it the tape would not differentiate
            to the block's input, and nothing would be recorded, if the block is the first one or
            all layers before it are frozen.
        turns: The choice of the backward pass that is recorded.
        step: The step that is being traced, to which the sums are added.
        scale: Returns the factor of the loss in the running pass.
    """

    def __init__(
        self,
        block: keras.layers.Layer,
        accumulators: Sequence[tuple[Measure, Accumulator]],
        switch: Switch,
        anchor: tf.Variable,
        turns: Turns,
        step: WholeStep,
        scale: Callable[[], tf.Tensor | float],
    ):
        # Another recorder's fork, if there is one; a block's own returns its input twice, as here.
        self.own_fork = vars(block).get("fork")
        self.own_merge = block.merge
        self.own_activation = block.activation
        self.own_lose = getattr(block, "lose", None)
        self.accumulators = accumulators
        self.switch = switch
        self.anchor = anchor
        self.turns = turns
        self.step = step
        self.scale = scale

    def replacements(self) -> dict[str, Callable]:
        """Returns the replacements of the block's attributes, by their names."""
        replacements = {"fork": self.fork, "merge": self.merge, "lose": self.lose}
        if self._measures("activation"):
            replacements["activation"] = self.activation
        return replacements

    def lose(self) -> None:
        """Replaces `CallsBlock.lose`, which is called where the fork ran without its sum."""
        self.turns.is_lost = True
        if self.own_lose is not None:
            self.own_lose()

    @tf.autograph.experimental.do_not_convert
    def fork(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Replaces `ResidualBlock.fork`, and observes `g_skip` and `g_branch` together."""
        if is_vectorized():
            raise ValueError(
                "A residual block that tf.vectorized_map runs cannot be recorded: its variables "
                "would have to change for each example. Call the block on the whole batch, or "
                "leave it out with GradientRecorder(blocks=...)."
            )
        if runs_again():  # a block in one that recomputes its activations: it is observed then
            return (self.own_fork or _split)(x)
        if self.own_fork is None:
            self.turns.count_run(self.switch.on())
            anchor = self.anchor.value()
            if tf.executing_eagerly():
                # The tape adds the gradients of all readers of x, in its own order.
                paths = self._fork(lambda skip, branch, _: (skip, branch), _to_ends, x, x, anchor)
            else:
                paths = self._fork(lambda x, _: (x, x), _to_input, x, anchor)
            return tuple(hand_on_mask(x, path) for path in paths)
        # Another recorder's fork adds the gradients afterwards.
        ends = self.own_fork(x)
        paths = self._fork(lambda *ends: ends, _to_each_path, *ends)
        return tuple(map(hand_on_mask, ends, paths))

    def _fork(self, split: Callable, gradients_of: Callable, *inputs: tf.Tensor) -> Any:
        """Returns the two paths of a fork, at which the gradients are observed.

        Args:
            split: Takes the inputs and returns the two paths.
            gradients_of: Takes the gradients of the two paths and their sum, and returns those of
                the inputs.
            inputs: The inputs, each of which needs a gradient.
        """

        @tf.custom_gradient
        def fork(*inputs: tf.Tensor) -> Any:
            def backward(skip: tf.Tensor, branch: tf.Tensor) -> Any:
                with self._observed("fork", skip, branch):
                    total = skip + branch
                with self._observed("input", *_seen_at_input(skip, branch, total)):
                    return gradients_of(skip, branch, total)

            return tuple(map(tf.identity, split(*inputs))), backward

        return fork(*inputs)

    @tf.autograph.experimental.do_not_convert
    def merge(self, shortcut: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
        """Replaces `ResidualBlock.merge`, and observes `s(x)`, `f(x)` and `g_y`."""

        @tf.custom_gradient
        def observed(y: tf.Tensor) -> Any:
            def backward(gradient: tf.Tensor) -> Any:
                with self._observed("merge", gradient):
                    return tf.identity(gradient)

            # The tape does not record in here, so the sums are not differentiated.
            with self._observed("forward", shortcut, branch, y):
                return tf.identity(y), backward

        y = self.own_merge(shortcut, branch)
        if runs_again():
            return y
        return hand_on_mask(y, observed(y))

    @tf.autograph.experimental.do_not_convert
    def activation(self, y: tf.Tensor) -> tf.Tensor:
        """Replaces the block's activation, and observes its output."""

        @tf.custom_gradient
        def observed(y: tf.Tensor) -> Any:
            with self._observed("activation", y):
                return tf.identity(y), lambda gradient: gradient

        y = self.own_activation(y)
        if runs_again():
            return y
        return hand_on_mask(y, observed(y))

    def _measures(self, place: str) -> list[tuple[Measure, Accumulator]]:
        return [pair for pair in self.accumulators if pair[0].place == place]

    def _observed(self, place: str, *tensors: tf.Tensor) -> Any:
        """Adds sums of the tensors, and returns a context that waits until they are computed.

        The operations in it are then the last readers of the tensors, so that TensorFlow may write
        their results into the same memory. A GPU, where allocation takes no time, does not wait.
        """
        measures = self._measures(place)

        def add() -> list[tf.Tensor]:
            all_sums, turn = [], self.turns.take(place) if place in BACKWARD_PLACES else None
            for measure, accumulator in measures:
                sums = traced_once(measure.formula)(*self._seen_by(measure, tensors))
                sums_of_loss = unscaled(sums, measure.powers.values(), self.scale())
                self.step.add(accumulator, sums_of_loss, turn)
                all_sums.append(sums)
            return all_sums

        with changing_variables():
            taken = [when(self.switch.on(), add)] if measures else []
        return tf.control_dependencies([] if has_gpu() else taken)

    def _seen_by(self, measure: Measure, tensors: Sequence[tf.Tensor]) -> Sequence[tf.Tensor]:
        if not measure.unscaled:
            return tensors
        return [unscaled(tf.cast(tensor, tf.float64), [1], self.scale()) for tensor in tensors]


def _split(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return x, hand_on_mask(x, tf.identity(x))


def _to_input(skip: tf.Tensor, branch: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns the gradients of a fork's input and of the anchor."""
    return tf.identity(total), tf.zeros(())


def _to_ends(skip: tf.Tensor, branch: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns the gradients of a fork's input, taken twice, and of the anchor."""
    return tf.identity(skip), tf.identity(branch), tf.zeros(())


def _to_each_path(skip: tf.Tensor, branch: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, ...]:
    return tf.identity(skip), tf.identity(branch)


def _seen_at_input(skip: tf.Tensor, branch: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Returns the arguments of `input_sums`."""
    return (skip, branch) if is_traced_for_xla() else (total,)


def unscaled(sums: tf.Tensor, powers: Iterable[int], scale: tf.Tensor | float) -> tf.Tensor:
    """Returns sums of the gradients of the mean loss, given sums of the gradients on the tape.

    The batches of one update count as one large batch, whose mean loss is the mean of theirs.

    Args:
        sums: Shape `(..., sums)`, float64.
        powers: The power of the gradient's unit in each of the sums.
        scale: The factor of the loss, times the number of batches of an update.

    Returns:
        The same shape.
    """
    if isinstance(scale, int | float) and scale == 1:
        return sums
    return sums * (1 / tf.cast(scale, tf.float64)) ** tf.constant(list(powers), tf.float64)


def when(condition: tf.Tensor | bool, action: Callable[[], Sequence[tf.Tensor]]) -> tf.Tensor:
    """Changes variables on the device if a condition holds.

    Args:
        condition: A boolean scalar; a Python `bool` if it is known when the step is traced.
        action: Changes variables. Returns the tensors that must be computed for it.

    Returns:
        A tensor that is computed after these.
    """

    def act() -> tf.Tensor:
        with tf.control_dependencies(action()):
            return tf.constant(True)

    return choose(condition, act, lambda: tf.constant(False))


def choose(condition: tf.Tensor | bool, then: Callable, otherwise: Callable) -> Any:
    """Returns the result of one of two functions, chosen on the device.

    Args:
        condition: A boolean scalar; a Python `bool` if it is known when the step is traced.
        then: Called if it holds.
        otherwise: Called if not; it returns tensors of the same dtypes.
    """
    return then() if condition is True else tf.cond(condition, then, otherwise)
