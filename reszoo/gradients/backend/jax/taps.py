"""Taps of a block: functions that replace its fork, its merge and its activation.

A tap is one more argument of an identity, zeros in the shape of its sums, which nothing reads in
the forward pass. In the backward pass its gradient is the sums. Gradients of an argument that is
used several times are added, as sums over the calls of a block must be.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import keras

from reszoo.gradients.backend.jax.reductions import in_double
from reszoo.gradients.measures import Measure
from reszoo.keras_internals import hand_on_mask
from reszoo.layers.recomputation import runs_again

Tensor = Any
Tap = dict[str, Tensor]

# Number of calls of a block in one pass whose maxima are kept: these do not add up, so each call
# has a row of its own.
CALLS = 64
# The places of each part of a tap. Sums of the forward pass are kept until the backward pass.
PLACES = {
    "fork": ("fork", "input"),
    "merge": ("merge", "forward"),
    "activation": ("activation",),
}


def parts_of(measures: Iterable[Measure]) -> dict[str, list[Measure]]:
    """Returns the measures whose sums are in each part of a tap, in their order.

    Args:
        measures: The measures that are taken; maxima have a part of their own, `"maxima"`.
    """
    measures = list(measures)
    parts = {
        part: [m for place in places for m in measures if m.place == place and not m.maximum]
        for part, places in PLACES.items()
    }
    return {**parts, "maxima": [m for m in measures if m.maximum]}


def empty_tap(parts: dict[str, list[Measure]]) -> Tap:
    """Returns a tap of zeros; each part, or row of it, ends in a count of backward passes.

    Args:
        parts: The measures of each part.
    """
    with in_double():
        sizes = {part: sum(len(m.powers) for m in of_part) for part, of_part in parts.items()}
        tap = {part: jnp.zeros(size + 1, jnp.float64) for part, size in sizes.items()}
        if sizes["maxima"]:
            tap["maxima"] = jnp.zeros((CALLS, sizes["maxima"] + 1), jnp.float64)
        return tap


@dataclass
class Running:
    """The tap of a block in the function that is being differentiated.

    Attributes:
        tap: The tap; `None` outside of such a function.
        scale: The factor of the loss, times the number of batches of an update.
        forks: Number of calls of the block's fork in that function so far.
        ran: Whether the block ran at all.
    """

    tap: Tap | None = None
    scale: Tensor = 1.0
    forks: int = 0
    ran: bool = False


class BlockTaps:
    """Taps of one block, whose own `fork`, `merge` and `activation` are still called.

    Args:
        block: The block.
        parts: The measures of each part of a tap.
        running: The tap that is used.
    """

    def __init__(
        self, block: keras.layers.Layer, parts: dict[str, list[Measure]], running: Running
    ):
        self.own_fork = block.fork
        self.own_merge = block.merge
        self.own_activation = block.activation
        self.parts = parts
        self.running = running

    def replacements(self) -> dict[str, Callable]:
        """Returns the replacements of the block's attributes, by their names."""
        replacements = {"fork": self.fork, "merge": self.merge}
        if self.parts["activation"]:
            replacements["activation"] = self.activation
        return replacements

    def fork(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Replaces `ResidualBlock.fork`, and observes `g_skip` and `g_branch` together."""
        ends, running = self.own_fork(x), self.running
        if runs_again():  # within a reversible block: it is observed then
            return ends
        running.ran = True
        if running.tap is None:
            return ends
        row, running.forks = running.forks, running.forks + 1

        def sums(gradients: Sequence[Tensor], scale: Tensor) -> Tap:
            taken = {"fork": self._taken("fork", {"fork": gradients, "input": gradients}, scale)}
            if self.parts["maxima"]:
                of_call = self._taken("maxima", {"fork": gradients}, scale)
                rows = jnp.zeros((CALLS, len(of_call)), jnp.float64)
                # Of too many calls none is kept, so that their count shows what is left out.
                taken["maxima"] = rows.at[min(row, CALLS - 1)].set(of_call)
            return taken

        used = ("fork", "maxima") if self.parts["maxima"] else ("fork",)
        paths = _observed(ends, {part: running.tap[part] for part in used}, running.scale, sums)
        return tuple(map(hand_on_mask, ends, paths))

    def merge(self, shortcut: Tensor, branch: Tensor) -> Tensor:
        """Replaces `ResidualBlock.merge`, and observes `s(x)`, `f(x)` and `g_y`."""
        y = self.own_merge(shortcut, branch)
        seen = {"forward": jax.lax.stop_gradient([shortcut, branch, y])}
        return self._with_forward_sums("merge", seen, y)

    def activation(self, y: Tensor) -> Tensor:
        """Replaces the block's activation, and observes its output."""
        y = self.own_activation(y)
        return self._with_forward_sums("activation", {"activation": [jax.lax.stop_gradient(y)]}, y)

    def _with_forward_sums(self, part: str, seen: dict[str, Any], y: Tensor) -> Tensor:
        running = self.running
        if running.tap is None or runs_again():
            return y
        with in_double():
            forward = [_sums(m, seen[m.place]) for m in self.parts[part] if m.place in seen]

        def sums(gradients: Sequence[Tensor], forward: Sequence[Tensor]) -> Tap:
            return {part: self._taken(part, {"merge": gradients}, 1.0, forward)}

        (observed,) = _observed([y], {part: running.tap[part]}, forward, sums)
        return hand_on_mask(y, observed)

    def _taken(
        self,
        part: str,
        seen: dict[str, Sequence[Tensor]],
        scale: Tensor,
        forward: Sequence[Tensor] = (),
    ) -> Tensor:
        """Returns the sums of a part of the tap in the backward pass, and a count of one."""
        measures = [m for m in self.parts[part] if m.place in seen]
        taken = [_sums(measure, seen[measure.place], scale) for measure in measures]
        return jnp.concatenate([*taken, *forward, jnp.ones(1, jnp.float64)])


def _sums(measure: Measure, tensors: Sequence[Tensor], scale: Tensor = 1.0) -> Tensor:
    if measure.unscaled:
        tensors = [x.astype(jnp.float64) / scale for x in tensors]
    return jnp.ravel(measure.formula(*tensors)).astype(jnp.float64)


def _observed(
    tensors: Sequence[Tensor], tap: Tap, kept: Any, sums: Callable[[Any, Any], Tap]
) -> list[Tensor]:
    """Returns the tensors, whose gradients are observed in the backward pass.

    Args:
        tensors: The tensors.
        tap: The parts of the tap whose gradients are the sums.
        kept: Any structure of tensors that are kept for the backward pass.
        sums: Takes the gradients of the tensors, and `kept`; returns the sums.
    """

    @jax.custom_vjp
    def identity(tensors: list[Tensor], tap: Tap, kept: Any) -> list[Tensor]:
        return tensors

    def forward(tensors: list[Tensor], tap: Tap, kept: Any) -> tuple[list[Tensor], Any]:
        # Itself, for a gradient of a gradient: the outer one observes it too.
        return identity(tensors, tap, kept), kept

    def backward(kept: Any, gradients: list[Tensor]) -> tuple[list[Tensor], Tap, Any]:
        with in_double():
            return gradients, sums(gradients, kept), jax.tree.map(jnp.zeros_like, kept)

    identity.defvjp(forward, backward)
    return identity(list(tensors), tap, kept)
