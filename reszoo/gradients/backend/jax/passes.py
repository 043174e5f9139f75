"""Backward passes of one run, or one trace, of a training step."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import get_opaque_trace_state

from reszoo.gradients.backend.jax.reductions import in_double
from reszoo.gradients.backend.jax.taps import Running, Tap, empty_tap
from reszoo.gradients.measures import Measure
from reszoo.layers.recomputation import carrying

Tensor = Any


class Passes:
    """Collects the sums of the backward passes of a step.

    Where a function of a model's weights begins, the weights pass through an identity that also
    returns the taps of all blocks. In the backward pass it gets the gradients of the taps, which
    are the sums, and hands on those of the weights. So a step gets the gradients that it always
    gets, and may do with them what it likes. Of several passes that reach a block the last is
    recorded; one that does not differentiate by the model's weights reaches none.

    Args:
        parts: The measures of each part of a tap.
        blocks: Number of blocks.

    Attributes:
        running: The tap of each block that is used now.
        lost: Whether a pass was made in a function of its own, such as a loop on the device.
    """

    def __init__(self, parts: dict[str, list[Measure]], blocks: int):
        self._parts = parts
        self.running = [Running() for _ in range(blocks)]
        self.lost = False
        self._passes: list[list[list[Tap]]] = []
        self._losses: list[Tensor | None] = []  # of each of them; None if it is not known
        self._loss: Tensor | None = None  # that is differentiated now
        self._has_ended = True
        self._trace = get_opaque_trace_state()

    @contextlib.contextmanager
    def differentiated(self, weights: Sequence[Tensor]) -> Iterator[Sequence[Tensor]]:
        """Context of a function that may be differentiated by the weights.

        Args:
            weights: The weights that it is given.

        Yields:
            The weights to use in it.
        """
        if not len(weights) or any(running.tap is not None for running in self.running):
            yield weights
            return
        weights, taps = self._collector()(list(weights))
        for running in self.running:
            running.forks = 0
        with self.using(taps), carrying(self):
            yield weights

    def get(self) -> list[Tap] | None:
        """Returns the taps that are used now; `None` outside of a function."""
        taps = [running.tap for running in self.running if running.tap is not None]
        return taps or None

    @contextlib.contextmanager
    def using(self, tensors: list[Tap]) -> Iterator[None]:
        """Context in which some taps are used.

        Args:
            tensors: The tap of each block.
        """
        before = [running.tap for running in self.running]
        try:
            for running, tap in zip(self.running, tensors, strict=True):
                running.tap = tap
            yield
        finally:
            for running, tap in zip(self.running, before, strict=True):
                running.tap = tap

    def added(self, tensors: list[Tap], others: list[Tap]) -> list[Tap]:
        """Returns the sums of the gradients of taps.

        Args:
            tensors: The gradients of each tap.
            others: The gradients that are added to them, in the same order.
        """
        with in_double():
            return jax.tree.map(jnp.add, tensors, others)

    def with_loss(self, vjp: Callable) -> Callable:
        """Returns the replacement of JAX's function by which scalars are differentiated.

        Args:
            vjp: The function that is replaced.
        """

        @functools.wraps(vjp)
        def of_scalar(function: Callable, *primals: Any, **options: Any) -> Any:
            loss, backward, *aux = vjp(function, *primals, **options)

            def observed(*cotangents: Any) -> Any:
                before, self._loss = self._loss, loss
                try:
                    return backward(*cotangents)
                finally:
                    self._loss = before

            return loss, observed, *aux

        return of_scalar

    def _collector(self) -> Any:
        @jax.custom_vjp
        def collect(weights: list[Tensor]) -> tuple[list[Tensor], list[Tap]]:
            return weights, [empty_tap(self._parts) for _ in self.running]

        def forward(weights: list[Tensor]) -> tuple[Any, None]:
            return collect(weights), None

        def backward(_: None, gradients: Any) -> tuple[list[Tensor]]:
            of_weights, of_taps = gradients
            self._end(of_taps)
            return (of_weights,)

        collect.defvjp(forward, backward)
        # Functions that begin before a pass ends are differentiated by the same pass.
        if self._has_ended:
            self._has_ended = False
            self._passes.append([])
            self._losses.append(None)
        return collect

    def _end(self, sums: list[Tap]) -> None:
        self._has_ended = True
        if get_opaque_trace_state() != self._trace:
            self.lost = True  # the values exist in that function alone
            return
        self._passes[-1].append(sums)
        is_scalar = isinstance(self._loss, jax.Array) and self._loss.ndim == 0
        self._losses[-1] = self._loss if is_scalar else None

    def sums(self) -> dict[str, Tensor]:
        """Returns the sums of the step.

        Returns:
            By name: each part of the taps, of shape `(blocks, sums + 1)`; `reached`, the number of
            passes that reached the places of each part; `ran`, which blocks ran; `passes`, the
            number of passes; and `loss`, NaN if it is not known, with `has_loss`, which is 1 if it
            is. If a pass is lost there is none of them.
        """
        with in_double():
            ended = [] if self.lost else list(zip(self._passes, self._losses, strict=True))
            passes = [self._of_pass(of_pass) for of_pass, _ in ended if of_pass]
            losses = [loss for of_pass, loss in ended if of_pass]
            last = jnp.full(len(self.running), -1)
            taken = self._stacked([empty_tap(self._parts) for _ in self.running])
            reached = {part: jnp.zeros(len(self.running), jnp.float64) for part in taken}
            for number, of_pass in enumerate(passes):
                for part, sums in of_pass.items():
                    count = sums[..., -1]
                    is_reached = count.reshape(len(self.running), -1).sum(axis=1) > 0
                    shape = [-1] + [1] * (sums.ndim - 1)
                    taken[part] = jnp.where(is_reached.reshape(shape), sums, taken[part])
                    reached[part] += is_reached
                    last = jnp.where(is_reached, number, last)
            ran = jnp.asarray([running.ran for running in self.running], jnp.float64)
            number = jnp.asarray(len(passes), jnp.float64)
            return {
                **taken,
                **_loss_of(losses, last),
                "reached": reached,
                "ran": ran,
                "passes": number,
            }

    def _of_pass(self, collected: list[list[Tap]]) -> dict[str, Tensor]:
        return jax.tree.map(lambda *sums: sum(sums[1:], sums[0]), *map(self._stacked, collected))

    def _stacked(self, taps: list[Tap]) -> dict[str, Tensor]:
        return jax.tree.map(lambda *of_blocks: jnp.stack(of_blocks), *taps)


def _loss_of(losses: Sequence[Tensor | None], last: Tensor) -> dict[str, Tensor]:
    """Returns the loss of the pass that all blocks are recorded of, and whether it is known.

    Args:
        losses: The loss of each pass; `None` if it is not known.
        last: The last pass that reached each block, from 0, or -1; shape `(blocks,)`.
    """
    if not losses:
        return {"loss": jnp.asarray(jnp.nan, jnp.float64), "has_loss": jnp.asarray(0.0)}
    number = jnp.max(last) if len(losses) > 1 else jnp.asarray(0)
    known = jnp.asarray([loss is not None for loss in losses])
    of_passes = jnp.stack(
        [jnp.asarray(jnp.nan if loss is None else loss, jnp.float64) for loss in losses]
    )
    has_loss = (number >= 0) & jnp.all((last == number) | (last == -1)) & known[number]
    return {"loss": of_passes[number], "has_loss": has_loss.astype(jnp.float64)}
