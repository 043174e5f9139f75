"""What is put in the place of a block's fork and merge, and of the optimizer's update.

Forward a tap is the identity; backward it adds sums of the gradients that pass to an accumulator,
and hands them on as they are.
"""

from collections.abc import Callable, Iterable, Sequence

import tensorflow as tf

from reszoo.gradients.scale import (
    accumulation_steps,
    loss_scale,
    unscaled,
    updating_optimizer,
)
from reszoo.gradients.statistics import FORK_SUMS, MERGE_SUMS, WEIGHT_SUMS
from reszoo.gradients.sums import fork_sums, gradient_sums, merge_sums, squares


class Accumulator:
    """Sums that are added up on the device, over replicas and calls, while recording is on.

    Made in the scope of the model's strategy. As a metric's variables are, its variable is local
    to each replica, so that adding to it costs no communication, and it is no weight of the model.

    Args:
        shape: The shape of the sums.
    """

    def __init__(self, shape: Sequence[int]):
        self.variable = tf.Variable(
            tf.zeros(shape),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.SUM,
            name="gradient_sums",
        )

    def add(self, condition: tf.Tensor, sums: Callable[[], tf.Tensor]) -> None:
        """Adds sums if a condition holds, and computes nothing otherwise.

        Args:
            condition: A boolean scalar.
            sums: Returns the sums, of the accumulator's shape.
        """

        def add():
            self.variable.assign_add(sums())
            return tf.constant(True)

        tf.cond(condition, add, lambda: tf.constant(False))


class Switch:
    """Says, on the device, whether the running batch is recorded.

    The host sets which batches are, from one to another; the device counts. So neither the
    cadence nor several steps per execution trace anything anew. Made in the scope of the model's
    strategy.
    """

    def __init__(self):
        self._counted = _replica_local(0, tf.int64)
        self._on = _replica_local(False, tf.bool)
        self._first = tf.Variable(-1, dtype=tf.int64, trainable=False)
        self._last = tf.Variable(-1, dtype=tf.int64, trainable=False)

    def set_count(self, batches: int) -> None:
        """Sets how many batches have been seen. Called by the host."""
        self._counted.assign(batches)

    def set_window(self, first: int, last: int) -> None:
        """Sets the batches to record, from `first` to `last`. Called by the host."""
        self._first.assign(first)
        self._last.assign(last)

    def begin_batch(self) -> None:
        """Counts a batch. Called on each replica when its step begins."""
        batch = self._counted.value()
        self._on.assign((self._first <= batch) & (batch <= self._last))
        self._counted.assign_add(1)

    def on(self) -> tf.Tensor:
        """Returns whether the running batch is recorded, a boolean scalar."""
        return self._on.value()

    def on_last(self) -> tf.Tensor:
        """Returns whether the running batch is the last of those recorded together."""
        return self.on() & (self._counted.value() == self._last + 1)


def _replica_local(value, dtype):
    return tf.Variable(
        value,
        dtype=dtype,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


class ForkTap:
    """Takes the place of `ResidualBlock.fork`, and sees `g_skip` and `g_branch` at once.

    Args:
        accumulator: Where the sums of `FORK_SUMS` are added.
        switch: Whether they are.
        anchor: A scalar variable that the tape watches. Without it nothing would be differentiated
            to this block, and so nothing recorded, where all before it is frozen or it is first.
        optimizer: The optimizer, which may have scaled the loss.
    """

    def __init__(self, accumulator, switch, anchor, optimizer):
        self.accumulator = accumulator
        self.switch = switch
        self.anchor = anchor
        self.optimizer = optimizer

    def __call__(self, x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        @tf.custom_gradient
        def fork(x, anchor):
            def backward(skip, branch):
                total = skip + branch
                self.accumulator.add(
                    self.switch.on(),
                    lambda: unscaled(fork_sums(skip, branch, total), FORK_SUMS, self.optimizer),
                )
                return total, tf.zeros_like(anchor)

            return (tf.identity(x), tf.identity(x)), backward

        return fork(x, self.anchor.value())


class MergeTap:
    """Takes the place of `ResidualBlock.merge`, and sees `g_y`.

    Args:
        merge: The block's own merge, which still does the adding.
        accumulator: Where the sums of `MERGE_SUMS` are added.
        switch: Whether they are.
        optimizer: The optimizer, which may have scaled the loss.
    """

    def __init__(self, merge, accumulator, switch, optimizer):
        self.merge = merge
        self.accumulator = accumulator
        self.switch = switch
        self.optimizer = optimizer

    def __call__(self, shortcut: tf.Tensor, branch: tf.Tensor) -> tf.Tensor:
        @tf.custom_gradient
        def observed(y):
            def backward(gradient):
                self.accumulator.add(
                    self.switch.on(),
                    lambda: unscaled(merge_sums(gradient), MERGE_SUMS, self.optimizer),
                )
                return gradient

            return tf.identity(y), backward

        return observed(self.merge(shortcut, branch))


class UpdateTap:
    """Takes the place of `optimizer.apply`, and sees each weight, its gradient and its update.

    Args:
        optimizer: The optimizer, whose own `apply` still does the updating.
        variables: The weights to observe.
        accumulator: Where the sums of `WEIGHT_SUMS` are added, of shape `(weights, sums)`.
        switch: Whether they are.
        fixed_shapes: Whether the step is compiled by XLA, whose branches agree in shapes.
    """

    def __init__(self, optimizer, variables, accumulator, switch, fixed_shapes):
        self.optimizer = optimizer
        self.apply = optimizer.apply
        self.row_of = {id(variable): row for row, variable in enumerate(variables)}
        self.accumulator = accumulator
        self.switch = switch
        self.fixed_shapes = fixed_shapes

    def __call__(self, grads: Iterable, trainable_variables: Iterable | None = None) -> None:
        if trainable_variables is None:
            trainable_variables = self.optimizer._trainable_variables
        grads, variables = list(grads), list(trainable_variables)
        rows, observed = self._observed(grads, variables)
        weights = [variable.value for _, variable in observed]
        due = self.switch.on_last()
        gradient_parts = self._gradient_parts(due, observed)
        before = self._copies(due, weights)
        self.apply(grads, variables)
        self.accumulator.add(due, lambda: self._sums(rows, gradient_parts, before, weights))

    def _observed(self, grads, variables):
        """Returns the rows of the weights that are observed, and their gradients with them."""
        pairs = zip(grads, variables, strict=True)
        observed = [(g, variable) for g, variable in pairs if id(variable) in self.row_of]
        return [self.row_of[id(variable)] for _, variable in observed], observed

    def _gradient_parts(self, due, observed):
        """Returns the sums of each weight's gradient, of all replicas' sum; zeros if not due."""
        dense = [tf.zeros(1) if g is None else tf.convert_to_tensor(g) for g, _ in observed]
        strategy = tf.distribute.get_strategy()
        if strategy.num_replicas_in_sync == 1:
            accumulated = self._accumulated([variable for _, variable in observed])
            return self._parts(due, dense, lambda: map(tf.add, dense, accumulated()))
        context = tf.distribute.get_replica_context()
        if tf.__internal__.distribute.strategy_supports_no_merge_call():
            add = tf.distribute.ReduceOp.SUM
            return self._parts(due, dense, lambda: context.all_reduce(add, dense))
        # Where replicas are threads, communication under a condition is asked for outside them.
        return context.merge_call(self._parts_of_replicas, args=(due, dense))

    def _accumulated(self, variables):
        """Returns a function that gives the scaled gradients of the batches before this one."""
        optimizer = updating_optimizer(self.optimizer)
        if accumulation_steps(optimizer) == 1:
            return lambda: [0.0] * len(variables)
        # Keras has no public way to them.
        indices = [optimizer._get_variable_index(variable) for variable in variables]
        return lambda: [
            optimizer._accumulated_gradients[index].value * loss_scale(self.optimizer)
            for index in indices
        ]

    def _parts_of_replicas(self, strategy, due, gradients):
        def summed():
            return [strategy.reduce(tf.distribute.ReduceOp.SUM, g, axis=None) for g in gradients]

        # All replicas are due together.
        return self._parts(strategy.experimental_local_results(due)[0], gradients, summed)

    def _parts(self, due, gradients, summed):
        parts = ("weight_gradient_squares", "weight_gradient_nonfinite")
        powers = {name: WEIGHT_SUMS[name] for name in parts}
        return tf.cond(
            due,
            lambda: unscaled(gradient_sums(summed()), powers, self.optimizer),
            lambda: tf.zeros((len(gradients), len(parts))),
        )

    def _copies(self, due, weights):
        """Returns the weights as they are now; nothing if not due."""
        if self.fixed_shapes:
            return [tf.identity(weight) for weight in weights]
        return tf.cond(
            due,
            lambda: [tf.identity(weight) for weight in weights],
            lambda: [tf.zeros(0, weight.dtype) for weight in weights],
        )

    def _sums(self, rows, gradient_parts, before, weights):
        before = [tf.reshape(old, w.shape) for old, w in zip(before, weights, strict=True)]
        weight_squares = tf.stack([squares(old) for old in before])
        updates = [w - old for old, w in zip(before, weights, strict=True)]
        update_squares = tf.stack([squares(update) for update in updates])
        gradient_squares, gradient_nonfinite = tf.unstack(gradient_parts, axis=1)
        sums = [gradient_squares, weight_squares, update_squares, gradient_nonfinite]
        # Every replica has all of it, and the accumulators of all are added up.
        sums = tf.stack(sums, axis=1) / tf.distribute.get_strategy().num_replicas_in_sync
        return tf.scatter_nd([[row] for row in rows], sums, self.accumulator.variable.shape)
