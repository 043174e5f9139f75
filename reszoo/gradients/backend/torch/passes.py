"""Backward passes of a training step."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from reszoo.gradients.backend.torch import reductions
from reszoo.gradients.backend.torch.reductions import Scale, Sum
from reszoo.gradients.found_block import FoundBlock
from reszoo.layers import ResidualBlock


@dataclass(frozen=True, order=True)
class Turn:
    """Claim of a pass to be the one that is recorded of a block; of two the greater is recorded.

    Attributes:
        trains: Whether the pass can differentiate with respect to weights of the block.
        number: Number of the pass within the batch, from 1.
    """

    trains: bool
    number: int


class Passes:
    """Backward passes of a batch.

    A pass is a call of `Tensor.backward`, `torch.autograd.backward` or `torch.autograd.grad`; calls
    within it, to compute activations again, are parts of it.

    Args:
        blocks: The blocks, in the order of the network.

    Attributes:
        anchor: A scalar that every fork takes too. Without it no gradient would come back to a
            block that is the first one, or that has only frozen layers before it.
        number: Number of passes of the batch so far.
        losses: The loss of each of them, with its scale; `None` if it is not known.
        scales: The factor of the loss in each of them.
        is_running: Whether a pass is made now.
    """

    def __init__(self, blocks: Sequence[ResidualBlock | FoundBlock]):
        self._weights = [{id(v.value) for v in block.trainable_variables} for block in blocks]
        self._inputs: set[int] = set()
        self.anchor = torch.zeros((), requires_grad=True)
        self.number = 0
        self.losses: list[Sum | None] = []
        self.scales: list[Scale] = []
        self.is_running = False

    def begin_batch(self) -> None:
        """Counts from 0 again."""
        self.number, self.losses, self.scales = 0, [], []

    def turn(self, position: int) -> Turn:
        """Returns the claim of the running pass.

        Args:
            position: Position of the block in the network, from 0.
        """
        own = self._weights[position]
        return Turn(bool(own & self._inputs) if self._inputs else bool(own), self.number)

    @property
    def scale(self) -> Scale:
        """Factor of the loss in the gradients of the running pass."""
        return self.scales[-1] if self.scales else 1.0  # a pass that is not counted

    def counted(self, run_backward: Callable, scale: Callable[[], Any]) -> Callable:
        """Returns the replacement of PyTorch's function that makes a pass.

        Args:
            run_backward: The function that is replaced.
            scale: Returns the factor of the loss.
        """

        def run(
            outputs: Any,
            gradients: Any,
            retain_graph: bool,
            create_graph: bool,
            inputs: Sequence[Any],
            allow_unreachable: bool,
            accumulate_grad: bool,
        ) -> Any:
            def original(inputs: Sequence[Any], allow_unreachable: bool) -> Any:
                options = (retain_graph, create_graph, inputs, allow_unreachable, accumulate_grad)
                return run_backward(outputs, gradients, *options)

            if self.is_running:
                return original(inputs, allow_unreachable)
            self.number += 1
            self.losses.append(_differentiated(outputs, gradients))
            self.scales.append(kept(scale()))
            self._inputs = set(map(id, inputs))
            self.is_running = True
            try:
                if not inputs:
                    return original(inputs, allow_unreachable)
                # Otherwise a pass to these inputs alone would end before the first forks.
                found = original((*inputs, self.anchor), True)
            finally:
                self.is_running = False
            return None if found is None else _without_last(found, allow_unreachable)

        return run


def kept(scale: Scale) -> Scale:
    """Returns a factor as it is now, which an optimizer may change in place.

    Args:
        scale: A scalar.
    """
    if isinstance(scale, torch.Tensor):
        return reductions.with_float64(scale.detach()).clone()
    return float(scale)


def _differentiated(
    outputs: Sequence[torch.Tensor], gradients: Sequence[torch.Tensor | None]
) -> Sum | None:
    """Returns the loss that a pass starts from, with its scale; `None` if that is not known.

    Args:
        outputs: The tensors that the pass starts from.
        gradients: The gradient that each begins with.
    """
    # The gradient from a tensor on is not that of the tensor's own sum.
    if any(x.numel() != 1 or x.is_complex() for x in outputs):
        return None
    with torch.no_grad():
        total = sum(
            _double(x) * (1.0 if factor is None else _double(factor))
            for x, factor in zip(outputs, gradients, strict=True)
        )
        total = torch.as_tensor(total).reshape(())
        return total if reductions.adds_there(total) else total.item()


def _double(x: torch.Tensor) -> torch.Tensor:
    return reductions.with_float64(x.detach()).double()


def _without_last(gradients: Sequence[Any], allow_unreachable: bool) -> tuple:
    """Returns the gradients of the inputs that were asked for.

    Raises:
        RuntimeError: As PyTorch, if an input that must be reached is not.
    """
    *found, _ = gradients
    if not allow_unreachable and any(gradient is None for gradient in found):
        raise RuntimeError(
            "One of the differentiated Tensors appears to not have been used in the graph. Set "
            "allow_unused=True if this is the desired behavior."
        )
    return tuple(found)
