"""Tap of an optimizer's update."""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import keras

from reszoo.gradients.backend.jax.reductions import (
    in_double,
    squares_of_each,
    squares_or_nan_of_each,
)
from reszoo.gradients.measures import NOISE_SUMS, WEIGHT_SUMS
from reszoo.keras_internals import accumulated_gradient, optimized_variables
from reszoo.updates import (
    accumulation_steps,
    applied_variable,
    updating_optimizer,
)

Tensor = Any

_COLUMNS = (
    "weight_gradient_squares",
    "weight_gradient_nonfinite",
    "weight_squares",
    "update_squares",
    "updates_seen",
)


class UpdateTap:
    """Observes each weight, its gradient and its update, in `optimizer.stateless_apply`.

    Of several updates of a weight in a step the last is kept, with the number of updates.

    Args:
        variables: The weights to observe.
        of_parts: Whether the gradients of each accumulated batch are summed too.

    Attributes:
        is_inside: Whether an update is being applied now.
    """

    def __init__(self, variables: Sequence[keras.Variable], of_parts: bool):
        self._row_of = {id(variable): row for row, variable in enumerate(variables)}
        self._of_parts = of_parts
        self.is_inside = False
        self._applied = jnp.zeros(())
        with in_double():
            self._sums = jnp.zeros((len(variables), len(WEIGHT_SUMS)), jnp.float64)
            self._part_sums = jnp.zeros((len(variables), len(NOISE_SUMS)), jnp.float64)

    def __call__(
        self,
        optimizer: keras.optimizers.Optimizer,
        apply: Callable,
        optimizer_variables: Sequence[Tensor],
        grads: Sequence[Tensor],
        trainable_variables: Sequence[Tensor],
    ) -> Any:
        """Applies an update, and returns what the optimizer's own `apply` returns."""
        self.is_inside = True
        try:
            result = apply(optimizer, optimizer_variables, grads, trainable_variables)
        finally:
            self.is_inside = False
        variables = optimized_variables(optimizer)
        places = [i for i, v in enumerate(variables) if id(v) in self._row_of]
        if not places:  # such as another model
            return result
        values = Values(optimizer, optimizer_variables)
        self._applied = Values(optimizer, result[1]).applied()
        rows = jnp.asarray([self._row_of[id(variables[i])] for i in places])
        before, after = ([all_of[i] for i in places] for all_of in (trainable_variables, result[0]))
        gradients = [grads[i] for i in places]
        whole = values.of_all_batches(gradients, [variables[i] for i in places])
        with in_double():
            if self._of_parts:
                of_part, _ = squares_of_each(gradients)
                self._part_sums = self._part_sums.at[rows, 0].add(of_part)
            sums = [*squares_of_each(whole), *_update_sums(before, after), self._sums[rows, -1] + 1]
            columns: dict[str, Tensor] = dict(zip(_COLUMNS, sums, strict=True))
            sums = jnp.stack([columns[name] for name in WEIGHT_SUMS], axis=1)
            sums = jnp.where(values.makes_update(), sums, self._sums[rows])
            self._sums = self._sums.at[rows].set(sums)
        return result

    def sums(self) -> dict[str, Tensor]:
        """Returns the sums by name: `weights`, and `parts` if asked for, each `(weights, sums)`.

        Beside them is `applied`, the number of batches that the optimizer has applied now.
        """
        sums = {"weights": self._sums, "applied": self._applied}
        return {**sums, "parts": self._part_sums} if self._of_parts else sums


class Values:
    """Values of an optimizer's variables in a step.

    Args:
        optimizer: A built optimizer.
        values: One for each of its `variables`.
    """

    def __init__(self, optimizer: keras.optimizers.Optimizer, values: Sequence[Tensor]):
        self._optimizer = optimizer
        self._values = {id(v): value for v, value in zip(optimizer.variables, values, strict=True)}

    def of(self, variable: keras.Variable) -> Tensor:
        """Returns the value of one of the variables."""
        return self._values[id(variable)]

    def loss_scale(self) -> Tensor:
        """Returns the factor by which the optimizer multiplies the loss."""
        if isinstance(self._optimizer, keras.optimizers.LossScaleOptimizer):
            return self.of(self._optimizer.dynamic_scale)
        return self._optimizer.loss_scale_factor or 1.0

    def applied(self) -> Tensor:
        """Returns the number of batches that the optimizer has applied."""
        return self.of(applied_variable(self._optimizer))

    def makes_update(self) -> Tensor | bool:
        """Returns whether the running batch is the last of an update."""
        size = accumulation_steps(self._optimizer)
        return size == 1 or self.applied() % size == size - 1

    def of_all_batches(
        self, gradients: Sequence[Tensor], variables: Sequence[keras.Variable]
    ) -> Sequence[Tensor]:
        """Returns the scaled gradients, added to those of the batches accumulated before."""
        inner = updating_optimizer(self._optimizer)
        if accumulation_steps(inner) == 1:
            return gradients
        # Keras keeps them without the loss scale.
        before = [self.of(accumulated_gradient(inner, variable)) for variable in variables]
        scale = self.loss_scale()
        return [g + scale * old for g, old in zip(gradients, before, strict=True)]


def _update_sums(before: Sequence[Tensor], after: Sequence[Tensor]) -> list[Tensor]:
    """Returns sums of squares of weights before an update, and those of the update.

    Non-finite values of weights are not counted, so they are not left out either: the sum is NaN.
    """
    # They are added in float64 at once. A condition, with weights from before and after the update,
    # would keep the update from being made in place.
    before, after = ([x.astype(jnp.float64) for x in weights] for weights in (before, after))
    updates = [new - old for old, new in zip(before, after, strict=True)]
    return jnp.split(squares_or_nan_of_each([*before, *updates]), 2)
