"""Tap of an optimizer's update."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras
import tensorflow as tf

from reszoo.accumulator import Accumulator
from reszoo.gradients.backend.tensorflow.taps import Switch, choose, unscaled, when
from reszoo.gradients.backend.tensorflow.weight_sums import gradient_sums, update_sums
from reszoo.gradients.backend.tensorflow.whole_step import WholeStep
from reszoo.gradients.measures import NOISE_SUMS, WEIGHT_SUMS
from reszoo.keras_internals import (
    accumulated_gradient,
    can_communicate_in_replicas,
    is_traced_for_xla,
    optimized_variables,
)
from reszoo.updates import (
    accumulation_steps,
    loss_scale,
    updating_optimizer,
)

# Longer vectors are not copied into a matrix; all weights of a normalization are shorter.
LONGEST_STACKED = 2**13


class UpdateTap:
    """Replacement of `optimizer.apply` that observes each weight, its gradient and its update.

    Of several updates of a weight in a step the last is kept, with the number of updates.

    Args:
        optimizer: The optimizer whose `apply` was called.
        apply: Its own `apply`, which still updates the weights.
        variables: The weights to observe.
        accumulator: Accumulator of the `WEIGHT_SUMS`, of shape `(weights, sums)`.
        noise_accumulator: Accumulator of the `NOISE_SUMS`, of shape `(weights, sums)`, or `None`.
        switch: The switch, which is on while a batch is recorded.
        step: The step that is being traced, to which the sums are added.
    """

    def __init__(
        self,
        optimizer: keras.optimizers.Optimizer,
        apply: Callable,
        variables: Sequence[keras.Variable],
        accumulator: Accumulator,
        noise_accumulator: Accumulator | None,
        switch: Switch,
        step: WholeStep,
    ):
        self.optimizer = optimizer
        self.apply = apply
        self.row_of = {id(variable): row for row, variable in enumerate(variables)}
        self.accumulator = accumulator
        self.noise_accumulator = noise_accumulator
        self.switch = switch
        self.step = step
        self.stack_sizes = []  # of the weights updated in this step, as `gradient_sums` takes them

    @tf.autograph.experimental.do_not_convert
    def __call__(self, grads: Iterable, trainable_variables: Iterable | None = None) -> None:
        if trainable_variables is None:
            trainable_variables = optimized_variables(self.optimizer)
        grads, variables = list(grads), list(trainable_variables)
        if not self.optimizer.built:  # as its `apply` would, but its scale is needed before
            with keras.name_scope(self.optimizer.name):
                self.optimizer.build(variables)
        pairs = zip(grads, variables, strict=True)
        observed = [(g, variable) for g, variable in pairs if id(variable) in self.row_of]
        if not observed:  # such as a factor in the loss, or another model
            self.apply(grads, variables)
            return
        observed, self.stack_sizes = _in_stacks(observed)
        rows = [[self.row_of[id(variable)]] for _, variable in observed]
        weights = [variable.value for _, variable in observed]
        dense = [
            tf.zeros(variable.shape) if g is None else tf.convert_to_tensor(g)
            for g, variable in observed
        ]
        self._add_noise(rows, dense)
        due = self.switch.on_last()
        gradient_parts = self._gradient_parts(due, dense, [variable for _, variable in observed])
        before = self._copies(due, weights)
        self.apply(grads, variables)
        when(due, lambda: self._add(rows, gradient_parts, before, weights))

    def _add_noise(self, rows: Any, gradients: Sequence[tf.Tensor]) -> None:
        """Adds the sums of this part of the batch only: of this replica, of this batch."""
        accumulator = self.noise_accumulator
        if accumulator is None:
            return

        def add() -> list[tf.Tensor]:
            sums = gradient_sums(gradients, self.stack_sizes)[:, :1]
            sums = unscaled(sums, NOISE_SUMS.values(), self._scale())
            sums = tf.scatter_nd(rows, sums, accumulator.variable.shape)
            self.step.add(accumulator, sums)
            return [sums]

        when(self.switch.on(), add)

    def _gradient_parts(
        self,
        due: tf.Tensor | bool,
        gradients: Sequence[tf.Tensor],
        variables: Sequence[keras.Variable],
    ) -> tf.Tensor:
        """Returns the sums of each weight's gradient, summed over replicas; zeros if not due."""
        strategy = tf.distribute.get_strategy()
        if strategy.num_replicas_in_sync == 1:
            return self._parts(due, gradients, lambda: self._of_all_batches(gradients, variables))
        context = tf.distribute.get_replica_context()
        if can_communicate_in_replicas():
            add = tf.distribute.ReduceOp.SUM
            return self._parts(due, gradients, lambda: context.all_reduce(add, gradients))
        # Where replicas are threads, communication under a condition must be started outside them.
        return context.merge_call(self._parts_of_replicas, args=(due, gradients))

    def _of_all_batches(
        self, gradients: Sequence[tf.Tensor], variables: Sequence[keras.Variable]
    ) -> Sequence[tf.Tensor]:
        """Returns the scaled gradients, added to those of the batches accumulated before."""
        optimizer = updating_optimizer(self.optimizer)
        if accumulation_steps(optimizer) == 1:
            return gradients
        # Keras keeps them without the loss scale.
        accumulated = [accumulated_gradient(optimizer, variable).value for variable in variables]
        scale = loss_scale(self.optimizer)
        return [g + scale * a for g, a in zip(gradients, accumulated, strict=True)]

    def _parts_of_replicas(
        self,
        strategy: tf.distribute.Strategy,
        due: tf.Tensor | bool,
        gradients: Sequence[tf.Tensor],
    ) -> tf.Tensor:
        def summed() -> list[tf.Tensor]:
            return [strategy.reduce(tf.distribute.ReduceOp.SUM, g, axis=None) for g in gradients]

        # All replicas are due at the same time.
        return self._parts(strategy.experimental_local_results(due)[0], gradients, summed)

    def _parts(
        self,
        due: tf.Tensor | bool,
        gradients: Sequence[tf.Tensor],
        summed: Callable[[], Sequence[tf.Tensor]],
    ) -> tf.Tensor:
        parts = ("weight_gradient_squares", "weight_gradient_nonfinite")
        powers = [WEIGHT_SUMS[name] for name in parts]
        return choose(
            due,
            lambda: unscaled(gradient_sums(summed(), self.stack_sizes), powers, self._scale()),
            lambda: tf.zeros((len(gradients), len(parts)), tf.float64),
        )

    def _scale(self) -> tf.Tensor | float:
        return loss_scale(self.optimizer) * accumulation_steps(self.optimizer)

    def _copies(self, due: tf.Tensor | bool, weights: Sequence[tf.Variable]) -> list[tf.Tensor]:
        """Returns copies of the weights; empty tensors if not due."""
        # Under XLA both branches of a condition must return the same shapes.
        if is_traced_for_xla() or due is True:
            return [tf.convert_to_tensor(weight) for weight in weights]
        return choose(
            due,
            lambda: [tf.identity(weight) for weight in weights],
            lambda: [tf.zeros(0, weight.dtype) for weight in weights],
        )

    def _add(
        self,
        rows: Any,
        gradient_parts: tf.Tensor,
        before: Sequence[tf.Tensor],
        weights: Sequence[tf.Variable],
    ) -> list[tf.Tensor]:
        """Adds the sums of weights that were updated."""
        weight_squares, update_squares = update_sums(before, weights, self.stack_sizes)
        gradient_squares, gradient_nonfinite = tf.unstack(gradient_parts, axis=1)
        sums = [gradient_squares, weight_squares, update_squares, gradient_nonfinite]
        # Every replica has the whole sum, and the accumulators of all replicas are added.
        share = 1 / tf.distribute.get_strategy().num_replicas_in_sync
        seen = tf.gather_nd(self.step.value(self.accumulator), rows)[:, -1] + share
        sums = tf.stack([*(share * s for s in sums), seen], axis=1)
        self.step.put(self.accumulator, rows, sums)
        return [sums]


def _in_stacks(
    pairs: Iterable[tuple[Any, keras.Variable]],
) -> tuple[list[tuple[Any, keras.Variable]], list[int]]:
    """Orders pairs of a gradient and its weight: vectors of one size and dtype come last, together.

    Returns:
        The pairs, and the number of pairs in each stack; 1 for a weight by itself.
    """
    stacks = {}
    for gradient, variable in pairs:
        is_small_vector = len(variable.shape) == 1 and variable.shape[0] <= LONGEST_STACKED
        key = (variable.shape, variable.dtype) if is_small_vector else id(variable)
        stacks.setdefault(key, []).append((gradient, variable))
    stacks = sorted(stacks.values(), key=lambda stack: len(stack) > 1)
    return [pair for stack in stacks for pair in stack], [len(stack) for stack in stacks]
