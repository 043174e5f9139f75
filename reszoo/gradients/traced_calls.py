"""Calls of layers and the data flow in them, as one trace of a model finds them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras

from reszoo.gradients.call_stack import CallKey, Frame
from reszoo.gradients.flow import Flow


class TracedCall(Frame):
    """One call of a layer in a trace; tensors are known by their numbers in the flow.

    Attributes:
        passed: The tensors that it is called with, `None` for other values.
        arguments: Those that its own `call` gets, after a conversion of their dtype.
        returned: The tensors that it returns.
        unseen: The reason for which a recorded run cannot see the gradients in it, if there is one.
    """

    def __init__(self, layer: keras.layers.Layer, parent: "TracedCall | None", key: CallKey | None):
        super().__init__(layer, parent, key)
        self.passed: list[Any] = []
        self.arguments: list[Any] = []
        self.returned: list[Any] = []
        self.unseen: str | None = None

    def lineage(self) -> list["TracedCall"]:
        """Returns the calls that it is in, the outermost first, and itself."""
        frame: Any = self
        around = []
        while frame is not None:
            around.append(frame)
            frame = frame.parent
        return around[::-1]

    def below(self, inner: "TracedCall") -> "TracedCall | None":
        """Returns the call that it makes itself and that is, or contains, another.

        Args:
            inner: A call in it, or itself.
        """
        around = inner.lineage()
        position = around.index(self) + 1
        return around[position] if position < len(around) else None


def innermost_around(calls: Sequence[TracedCall]) -> TracedCall | None:
    """Returns the innermost call that contains all of some calls, or `None`.

    Args:
        calls: The calls.
    """
    innermost = None
    for of_depth in zip(*(call.lineage() for call in calls), strict=False):
        if any(call is not of_depth[0] for call in of_depth):
            break
        innermost = of_depth[0]
    return innermost


@dataclass
class Trace:
    """The data flow of one run of a model, and the calls of layers in it.

    Attributes:
        flow: The flow; the place of an addition is its call and its place in that.
        call_of: The call that computes each tensor of the flow.
        kinds: The kind of operation that computes each tensor.
        calls: The calls, in the order in which they begin.
        nodes: Of each node of a functional model the tensors that it read and returned.
        unseen: Layers with sums that are not in the trace, and why; what is in it is searched.
        reason: The reason for which nothing of it can be recorded, if there is one.
    """

    flow: Flow
    call_of: list[TracedCall]
    kinds: list[str]
    calls: Sequence[TracedCall] = ()
    nodes: dict[int, list[tuple[dict[int, int | None], dict[int, int | None]]]] = field(
        default_factory=dict
    )
    unseen: list[tuple[keras.layers.Layer, str]] = field(default_factory=list)
    reason: str | None = None

    def position_of(self, node: Any) -> int:
        """Returns the number of the first tensor that a functional model's node returns.

        Args:
            node: The node; 0 if it did not run.
        """
        returned = [n for _, given in self.nodes.get(id(node), []) for n in given.values()]
        return min((n for n in returned if n is not None), default=0)

    def passes(self, node: Any, x: keras.KerasTensor, y: keras.KerasTensor) -> bool:
        """Returns whether a gradient flows from an input of a functional model's node to an output.

        Args:
            node: The node.
            x: One of its inputs.
            y: One of its outputs.
        """
        runs = self.nodes.get(id(node), [])
        return not runs or any(self._flows(read[id(x)], given[id(y)]) for read, given in runs)

    def _flows(self, start: int | None, end: int | None) -> bool:
        return start is not None and end is not None and self.flow.depends(end, start)

    def readers(self, tensor: int, among: set[int]) -> Iterator[int]:
        """Yields the tensors that are computed from another.

        Args:
            tensor: The number of that tensor.
            among: The numbers that are yielded.
        """
        return (number for number in self.flow.tensors[tensor].readers if number in among)
