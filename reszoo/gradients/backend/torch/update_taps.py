"""Taps of optimizers: of Keras's, and of those of `torch.optim`."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import torch
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from reszoo.gradients.backend.torch.block_sums import BlockSums
from reszoo.gradients.backend.torch.switch import Switch
from reszoo.gradients.backend.torch.weight_sums import WeightSums
from reszoo.gradients.found_block import FoundBlock
from reszoo.gradients.patching import replace
from reszoo.keras_internals import accumulated_gradient, optimized_variables
from reszoo.layers import ResidualBlock
from reszoo.updates import accumulation_steps, loss_scale, optimizer_classes, updating_optimizer

Weights = dict[int, torch.Tensor]  # by their row


class UpdateTaps:
    """Taps of all optimizers, wherever a step finds or creates them.

    Args:
        variables: The weights to observe.
        of_weights: Their sums; `None` if only the passes are told from each other.
        of_blocks: The blocks, each with its sums.
        switch: The switch, which knows whether a batch makes the update.
    """

    def __init__(
        self,
        variables: Sequence[keras.Variable],
        of_weights: WeightSums | None,
        of_blocks: Iterable[tuple[ResidualBlock | FoundBlock, BlockSums]],
        switch: Switch,
    ):
        self._row_of = {id(variable.value): row for row, variable in enumerate(variables)}
        self._of_weights = of_weights
        self._of_blocks = [({id(v.value) for v in b.trainable_variables}, s) for b, s in of_blocks]
        self._switch = switch
        self._is_updating = False
        self._loss_scale: Callable[[], torch.Tensor | float] = lambda: 1.0

    def loss_scale(self) -> torch.Tensor | float:
        """Returns the factor by which the loss of the batch was multiplied."""
        return self._loss_scale()

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Context of a recorded batch, in which the taps are installed."""
        self._loss_scale = lambda: 1.0
        with contextlib.ExitStack() as put_back:
            for kind in optimizer_classes():
                for name, tap in (("scale_loss", self._scale_loss), ("apply", self._apply)):
                    if name in vars(kind):
                        put_back.callback(replace(kind, name, tap(vars(kind)[name])))
            scaler = torch.amp.GradScaler
            put_back.callback(replace(scaler, "scale", self._scale(scaler.scale)))
            put_back.callback(register_optimizer_step_pre_hook(self._before_step).remove)
            put_back.callback(register_optimizer_step_post_hook(self._after_step).remove)
            yield

    def _scale_loss(self, original: Callable) -> Callable:
        """Returns the replacement of `scale_loss` of Keras's optimizers."""

        @functools.wraps(original)
        def scale_loss(optimizer: keras.optimizers.Optimizer, loss: torch.Tensor) -> torch.Tensor:
            self._loss_scale = functools.partial(loss_scale, optimizer)
            return original(optimizer, loss)

        return scale_loss

    def _scale(self, original: Callable) -> Callable:
        """Returns the replacement of `torch.amp.GradScaler.scale`."""

        @functools.wraps(original)
        def scale(scaler: torch.amp.GradScaler, outputs: Any) -> Any:
            scaled = original(scaler, outputs)
            if isinstance(outputs, torch.Tensor):
                one = torch.ones((), device=outputs.device)
                factor = original(scaler, one)  # a tensor, for which the host does not wait
                self._loss_scale = lambda: factor
            return scaled

        return scale

    def _apply(self, original: Callable) -> Callable:
        """Returns the replacement of `apply` of Keras's optimizers; only the outermost observes."""

        @functools.wraps(original)
        def apply(
            optimizer: keras.optimizers.Optimizer,
            grads: Iterable,
            trainable_variables: Iterable | None = None,
        ) -> Any:
            if self._is_updating or not self._switch.has_size_of(optimizer):
                return original(optimizer, grads, trainable_variables)
            self._is_updating = True
            try:
                if trainable_variables is None:
                    trainable_variables = optimized_variables(optimizer)
                grads, variables = list(grads), list(trainable_variables)
                own = functools.partial(original, optimizer, grads, variables)
                self._observe(optimizer, own, list(zip(grads, variables, strict=True)))
            finally:
                self._is_updating = False
            return None

        return apply

    def _observe(
        self,
        optimizer: keras.optimizers.Optimizer,
        apply: Callable,
        pairs: Sequence[tuple[Any, keras.Variable]],
    ) -> None:
        variables = [variable for _, variable in pairs]
        if not optimizer.built:  # as its `apply` would, but its scale is needed before
            with keras.name_scope(optimizer.name):
                optimizer.build(variables)
        values = [variable.value for variable in variables]
        rows = self._rows(values)
        if self._of_weights is None or not rows:
            apply()
            return
        weights = {row: values[i] for i, row in rows.items()}
        gradients = {row: _dense(pairs[i][0], values[i]) for i, row in rows.items()}
        scale = loss_scale(optimizer) * accumulation_steps(optimizer)
        self._of_weights.add_parts(gradients, scale)
        if not self._switch.makes_update:
            apply()
            return
        if accumulation_steps(optimizer) > 1:
            for i, row in rows.items():
                # Those of the batches before, which Keras keeps without the loss scale.
                before = accumulated_gradient(updating_optimizer(optimizer), variables[i]).value
                gradients[row] = gradients[row] + loss_scale(optimizer) * before.detach()
        self._of_weights.add_gradients(gradients, scale)
        self._of_weights.begin_update(weights)
        apply()
        self._of_weights.end_update(weights)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        """Runs before `step` of an optimizer of `torch.optim`."""
        weights = self._observed(optimizer)
        if self._of_weights is None or not weights:
            return
        if not _has_closure(args, kwargs):
            self._of_weights.add_gradients(*_gradients(optimizer, weights))
        self._of_weights.begin_update(weights)

    def _after_step(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:
        weights = self._observed(optimizer)
        if self._of_weights is None or not weights:
            return
        if _has_closure(args, kwargs):  # which computes the gradients during the step
            self._of_weights.add_gradients(*_gradients(optimizer, weights))
        self._of_weights.end_update(weights)

    def _observed(self, optimizer: torch.optim.Optimizer) -> dict[int, torch.nn.Parameter]:
        parameters = [x for group in optimizer.param_groups for x in group["params"]]
        return {row: parameters[i] for i, row in self._rows(parameters).items()}

    def _rows(self, weights: Sequence[torch.Tensor]) -> dict[int, int]:
        """Returns the rows of weights that are about to be updated, by their positions.

        The backward passes made so far are those that their blocks are trained by.
        """
        updated = set(map(id, weights))
        for own, sums in self._of_blocks:
            if own & updated:
                sums.update()
        rows = ((i, self._row_of.get(id(weight))) for i, weight in enumerate(weights))
        return {i: row for i, row in rows if row is not None}


def _gradients(
    optimizer: torch.optim.Optimizer, weights: dict[int, torch.nn.Parameter]
) -> tuple[Weights, torch.Tensor | float]:
    """Returns the gradients of weights, and the factor of the loss in them."""
    # A `GradScaler` has divided the gradients, but leaves it to a fused optimizer.
    scale = getattr(optimizer, "grad_scale", None)
    gradients = {row: _dense(weight.grad, weight) for row, weight in weights.items()}
    return gradients, 1.0 if scale is None else scale


def _has_closure(args: tuple, kwargs: dict) -> bool:
    return any(map(callable, (*args, *kwargs.values())))


def _dense(gradient: torch.Tensor | None, weight: torch.Tensor) -> torch.Tensor:
    if gradient is None:
        return torch.zeros_like(weight)
    return gradient.to_dense() if gradient.is_sparse else gradient
