"""Taps of a block: functions that replace its fork, its merge and its activation.

In the forward pass a tap returns its tensors unchanged; in the backward pass it computes sums of
the gradients, and passes them on unchanged.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch

from reszoo.gradients.backend.torch.block_sums import BlockSums, Taken
from reszoo.gradients.backend.torch.passes import Passes
from reszoo.gradients.backend.torch.reductions import Scale, Sum, squares_of_sum_by, with_float64
from reszoo.gradients.found_block import FoundBlock
from reszoo.gradients.measures import FORK, Measure
from reszoo.keras_internals import hand_on_mask
from reszoo.layers import ResidualBlock
from reszoo.layers.recomputation import runs_again, runs_late

# Takes the gradients of the two paths.
Observe = Callable[[torch.Tensor, torch.Tensor], None]


class _Paths(torch.autograd.Function):
    """Observes the gradients of the two paths of a block.

    It takes the beginnings of both: one tensor twice, or the tensors of another function that has
    split it. PyTorch adds their gradients to those of other readers, in the order of a plain step.
    """

    @staticmethod
    def forward(
        ctx: Any, observe: Observe, anchor: torch.Tensor, skip: torch.Tensor, branch: torch.Tensor
    ) -> tuple:
        ctx.observe = observe
        # The branch may work in place, as it may on the copy that a block's own fork makes.
        return skip.view_as(skip), branch.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple:
        ctx.observe(*gradients)
        return None, None, *gradients


@contextlib.contextmanager
def _refusing_transforms() -> Iterator[None]:
    """Context in which the error of an autograd function in `torch.func` is told in our terms."""
    try:
        yield
    except RuntimeError as error:
        if "functorch" not in str(error):
            raise
        raise ValueError(
            "Gradients that torch.func computes cannot be recorded. Compute those of a recorded "
            "step by loss.backward() or torch.autograd.grad."
        ) from error


class BlockTaps:
    """Taps of one block, which add sums of the tensors at its places.

    Args:
        block: The block, whose own `merge` and `activation` are still called.
        position: Its position in the network, from 0.
        sums: The sums of the block.
        passes: The backward passes of the batch.
    """

    def __init__(
        self,
        block: ResidualBlock | FoundBlock,
        position: int,
        sums: BlockSums,
        passes: Passes,
    ):
        # Another recorder's fork, if there is one; a block's own returns its input twice, as here.
        self._own_fork = vars(block).get("fork")
        self._own_merge = block.merge
        self._own_activation = block.activation
        self._position = position
        self._sums = sums
        self._passes = passes

    def replacements(self) -> dict[str, Callable]:
        """Returns the replacements of the block's attributes, by their names."""
        replacements = {"fork": self.fork, "merge": self.merge}
        if self._sums.of_place("activation"):
            replacements["activation"] = self.activation
        return replacements

    def fork(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Replaces `ResidualBlock.fork`, and observes `g_skip` and `g_branch` together."""
        ends = (x, x) if self._own_fork is None else self._own_fork(x)
        self._sums.ran += self._runs_once()
        with _refusing_transforms():
            paths = _Paths.apply(self._observe_fork, self._passes.anchor, *ends)
        return tuple(hand_on_mask(x, path) for path in paths)

    def merge(self, shortcut: torch.Tensor, branch: torch.Tensor) -> torch.Tensor:
        """Replaces `ResidualBlock.merge`, and observes `s(x)`, `f(x)` and `g_y`."""
        y = self._own_merge(shortcut, branch)
        self._observe_forward("forward", shortcut, branch, y)
        if y.requires_grad:
            y.register_hook(self._observe_merge)
        return y

    def activation(self, y: torch.Tensor) -> torch.Tensor:
        """Replaces the block's activation, and observes its output."""
        output: Any = self._own_activation(y)
        self._observe_forward("activation", output)
        return output

    def _observe_fork(self, skip: torch.Tensor, branch: torch.Tensor) -> None:
        of_fork = self._observe_backward("fork", skip, branch)
        if not self._sums.of_place("input"):
            return
        known = next((x.sums for x in of_fork if x.measure is FORK), None)
        squares = None if known is None else squares_of_sum_by(known, skip.dtype)
        if squares is None:
            self._observe_backward("input", skip + branch)
        else:
            self._observe_backward("input", given=[squares])

    def _observe_merge(self, gradient: torch.Tensor) -> None:
        self._observe_backward("merge", gradient)

    def _observe_backward(
        self, place: str, *gradients: torch.Tensor, given: list[Sum] | None = None
    ) -> list[Taken]:
        """Takes the sums at a place, or those that are given, and returns them."""
        measures = self._sums.of_place(place)
        if not measures or not self._sums.is_taken(place, self._passes.turn(self._position)):
            return []
        if given is None:
            taken = [self._taken(measure, gradients) for measure in measures]
        else:
            taken = [Taken(measure, given, self._passes.scale) for measure in measures]
        for sums in taken:
            self._sums.add_backward(sums)
        return taken

    def _runs_once(self) -> bool:
        """Returns whether what runs now is to be counted, and not what runs before or after it.

        In a backward pass only reversible blocks are: others have been counted in the forward pass.
        """
        return not runs_again() and (runs_late() or not self._passes.is_running)

    def _observe_forward(self, place: str, *tensors: torch.Tensor) -> None:
        if self._runs_once():
            for measure in self._sums.of_place(place):
                self._sums.add_forward(self._forward_taken(measure, tensors))

    @torch.no_grad()
    def _forward_taken(self, measure: Measure, tensors: tuple[torch.Tensor, ...]) -> Taken:
        return Taken(measure, measure.formula(*map(with_float64, tensors)))

    @torch.no_grad()
    def _taken(self, measure: Measure, tensors: tuple[torch.Tensor, ...]) -> Taken:
        scale = self._passes.scale
        tensors = tuple(map(with_float64, tensors))
        if measure.unscaled:
            tensors = tuple(x.double() / _beside(x, scale) for x in tensors)
        return Taken(measure, measure.formula(*tensors), scale)


def _beside(x: torch.Tensor, scale: Scale) -> Scale:
    return scale.to(x.device) if isinstance(scale, torch.Tensor) else scale
