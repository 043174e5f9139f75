"""Residual blocks in the graph of a functional model: search for them, and runs through their taps.

The graph is that of `keras.Function`: symbolic tensors joined by nodes, each of which is one call
of an operation. Keras keeps it for the life of the model; nothing is added to it here.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from reszoo.keras_internals import (
    RUN_THROUGH_GRAPH,
    is_addition,
    is_concatenation,
    nodes_in_order,
    run_through_graph,
)

Node = Any  # One call of an operation; its class has no public name.
# Operations that, between a merge and the next block, belong to the block.
_ACTIVATIONS = (
    keras.layers.Activation,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ReLU,
)


class GraphBlock:
    """A residual block of a functional model: two paths from one tensor to one addition.

    It has the methods of a `ResidualBlock` that taps replace: `fork`, `merge` and `activation`.

    Args:
        graph: The graph that contains it.
        node: The call of the addition.
        fork: The symbolic tensor from which both paths start.
        shortcut: The symbolic tensor at the end of the shortcut.
        branch: The symbolic tensor at the end of the branch.
    """

    def __init__(
        self,
        graph: "Graph",
        node: Node,
        fork: keras.KerasTensor,
        shortcut: keras.KerasTensor,
        branch: keras.KerasTensor,
    ):
        self.graph = graph
        self.node = node
        self.fork_tensor = fork
        self.shortcut_tensor = shortcut
        self.branch_tensor = branch
        self.shortcut_nodes = graph.nodes_between(fork, shortcut)
        self.branch_nodes = graph.nodes_between(fork, branch)
        self.activation_node = graph.activation_after(node)

    def fork(self, x: Any) -> tuple[Any, Any]:
        """Returns `x` for the shortcut and `x` for the branch."""
        return x, x

    def merge(self, shortcut: Any, branch: Any) -> Any:
        """Returns the sum of the two paths, by the model's own addition."""
        tensors = {id(self.shortcut_tensor): shortcut, id(self.branch_tensor): branch}
        args, kwargs = self.node.arguments.fill_in(tensors)
        return self.node.operation(*args, **kwargs)

    def activation(self, y: Any) -> Any:
        """Returns the activation of the sum, or the sum if an activation is not its only reader."""
        return y if self.activation_node is None else self.activation_node.operation(y)

    @property
    def operations(self) -> list[keras.Operation]:
        """The operations on the two paths."""
        return [node.operation for node in (*self.shortcut_nodes, *self.branch_nodes)]

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The trainable weights of the operations on the two paths."""
        variables = itertools.chain.from_iterable(
            getattr(operation, "trainable_variables", ()) for operation in self.operations
        )
        return list({id(variable): variable for variable in variables}.values())

    @property
    def shortcut_in_words(self) -> str:
        """The shortcut: `"identity"`, `"projection"`, or the names of its operations."""
        operations = [node.operation for node in self.shortcut_nodes]
        if not operations:
            return "identity"
        if any(getattr(operation, "weights", ()) for operation in operations):
            return "projection"
        return ", ".join(type(operation).__name__.lower() for operation in operations)

    @property
    def strides(self) -> int:
        """The factor by which an image shrinks from the fork to the merge."""
        before, after = self.fork_tensor.shape, self.branch_tensor.shape
        sides = range(1, min(len(before), len(after)))
        if len(before) > 2 and keras.config.image_data_format() == "channels_last":
            sides = sides[:-1]
        elif len(before) > 2:
            sides = sides[1:]
        else:
            return 1
        known = [round(before[i] / after[i]) for i in sides if before[i] and after[i]]
        if known:
            return max(1, *known)
        return math.prod(strides_of(node.operation) for node in self.branch_nodes)

    def readers_of_fork(self) -> tuple[set[int], set[int]]:
        """Returns the ids of the nodes that read the fork for the shortcut, and for the branch."""

        def readers(nodes: Iterable[Node], end: keras.KerasTensor) -> set[int]:
            if end is self.fork_tensor:
                return {id(self.node)}
            fork = self.fork_tensor
            return {id(n) for n in nodes if any(x is fork for x in n.input_tensors)}

        return (
            readers(self.shortcut_nodes, self.shortcut_tensor),
            readers(self.branch_nodes, self.branch_tensor),
        )


class Graph:
    """The graph of a functional model, and the residual blocks in it.

    Args:
        function: A functional model. A nested model is one operation in it, with its own graph.

    Attributes:
        blocks: The residual blocks, in the order in which the model reaches their merges.
        left_out: The names of the merges whose paths cross those of another block with the same
            fork.
        concatenation: The name of the first concatenation whose inputs have a common origin, or
            `None`.
    """

    def __init__(self, function: keras.Function):
        self.function = function
        self.nodes = list(nodes_in_order(function))
        outputs = itertools.chain.from_iterable(node.outputs for node in self.nodes)
        self._tensors = [*function.inputs, *outputs]
        self._position = {id(x): i for i, x in enumerate(self._tensors)}
        # The tensors that each depends on, including itself: bit i is the one at position i.
        self._origins = {key: 1 << i for key, i in self._position.items()}
        self._readers = {}
        for node in self.nodes:
            origins = 0
            for x in node.input_tensors:
                self._readers.setdefault(id(x), []).append(node)
                origins |= self._origins[id(x)]
            for y in node.outputs:
                self._origins[id(y)] |= origins
        self.concatenation = self._first_concatenation()
        self.left_out = []
        self.blocks = self._compatible(filter(None, map(self._block_at, self.nodes)))

    def nodes_between(self, start: keras.KerasTensor, end: keras.KerasTensor) -> list:
        """Returns the nodes on the paths from one tensor to another, in the model's order.

        Args:
            start: The symbolic tensor that the first nodes read.
            end: The symbolic tensor that the last node returns.

        Returns:
            The nodes; empty if the tensors are the same or there is no path.
        """
        from_start = 1 << self._position[id(start)]
        return [
            node
            for node in self.nodes
            if any(self._is_between(y, from_start, end) for y in node.outputs)
            and not any(y is start for y in node.outputs)
        ]

    def activation_after(self, node: Node) -> Node | None:
        """Returns the activation's node that is the only reader of a node's output, or `None`."""
        y = node.outputs[0]
        readers = self._readers.get(id(y), [])
        is_output = any(y is output for output in self.function.outputs)
        if len(readers) == 1 and not is_output and isinstance(readers[0].operation, _ACTIVATIONS):
            return readers[0]
        return None

    def run(
        self,
        inputs: Any,
        operation_fn: Callable = lambda operation: operation,
        call_fn: Callable | None = None,
    ) -> Any:
        """Replaces the model's `RUN_THROUGH_GRAPH`, and calls the methods of the blocks."""
        run = functools.partial(run_through_graph, self.function, inputs)
        symbolic = any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten(inputs))
        if symbolic or call_fn is not None:
            return run(operation_fn, call_fn)
        return run(_Run(self, operation_fn).operation)

    def acting(self) -> "Graph | None":
        """Returns the graph whose `run` the model uses now, or `None`."""
        owner = getattr(vars(self.function).get(RUN_THROUGH_GRAPH), "__self__", None)
        return owner if isinstance(owner, Graph) else None

    def _is_between(self, y: keras.KerasTensor, from_start: int, end: keras.KerasTensor) -> bool:
        origins_of_end = self._origins[id(end)]
        return bool(
            self._origins[id(y)] & from_start and origins_of_end >> self._position[id(y)] & 1
        )

    def _common_origin(self, tensors: Sequence[keras.KerasTensor]) -> keras.KerasTensor | None:
        """Returns the nearest tensor that all depend on; `None` if there is none, or several."""
        common = functools.reduce(int.__and__, (self._origins[id(x)] for x in tensors))
        if not common:
            return None
        nearest = self._tensors[common.bit_length() - 1]
        # If there are two, neither depends on the other.
        return nearest if self._origins[id(nearest)] == common else None

    def _block_at(self, node: Node) -> GraphBlock | None:
        """Returns the block that ends in a node, or `None`."""
        ends = node.input_tensors
        if not is_addition(node.operation) or len(ends) != 2 or ends[0] is ends[1]:
            return None
        if ends[0].shape != ends[1].shape:
            return None
        fork = self._common_origin(ends)
        if fork is None or not keras.backend.is_float_dtype(fork.dtype):
            return None
        # The shorter path is the shortcut; the first if both are equally long.
        shortcut, branch = sorted(ends, key=lambda end: len(self.nodes_between(fork, end)))
        return GraphBlock(self, node, fork, shortcut, branch)

    def _compatible(self, blocks: Iterable[GraphBlock]) -> list[GraphBlock]:
        """Returns the blocks whose forks can all be separated at the same time."""
        kept = []
        # The outer of two blocks with the same fork ends later, and its fork is applied first.
        for block in reversed(list(blocks)):
            same_fork = [other for other in kept if other.fork_tensor is block.fork_tensor]
            if any(_cross(block, other) for other in same_fork):
                self.left_out.insert(0, block.node.operation.name)
            else:
                kept.append(block)
        return kept[::-1]

    def _first_concatenation(self) -> str | None:
        for node in self.nodes:
            tensors = node.input_tensors
            joins = is_concatenation(node.operation) and len(tensors) > 1
            if joins and self._common_origin(tensors) is not None:
                return node.operation.name
        return None


def acting_block(block: Any) -> Any:
    """Returns the block that is used in a run of its model now: another search may have found it.

    Args:
        block: A block that was found in a graph, or a layer.
    """
    graph = block.graph.acting() if isinstance(block, GraphBlock) else None
    if graph is None:
        return block
    return next(other for other in graph.blocks if other.node is block.node)


class _Run:
    """One run of a graph, in which each block's `fork`, `merge` and `activation` are called.

    Args:
        graph: The graph to run.
        operation_fn: Takes an operation and returns the function that Keras calls instead of it.
    """

    def __init__(self, graph: Graph, operation_fn: Callable):
        self._operation_fn = operation_fn
        self._nodes = iter(graph.nodes)
        self._merges = {id(block.node): block for block in graph.blocks}
        self._activations = {
            id(block.activation_node): block for block in graph.blocks if block.activation_node
        }
        self._forks = {}
        for block in reversed(graph.blocks):
            self._forks.setdefault(id(block.fork_tensor), []).append(block)
        self._versions = {}

    def operation(self, operation: keras.Operation) -> Callable:
        """Returns the function to call for the next node. Keras requests them in its node order."""
        node = next(node for node in self._nodes if node.operation is operation)
        call = self._operation_fn(operation)
        reads_a_fork = any(id(x) in self._forks for x in node.input_tensors)
        if reads_a_fork or id(node) in self._merges or id(node) in self._activations:
            return functools.partial(self._call, node, call)
        return call

    def _call(self, node: Node, call: Callable, *args: Any, **kwargs: Any) -> Any:
        symbols = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
        values = keras.tree.flatten((args, kwargs))
        tensors = {
            id(x): self._read(node, x, value)
            for x, value in zip(symbols, values, strict=True)
            if isinstance(x, keras.KerasTensor)
        }
        if block := self._merges.get(id(node)):
            ends = (block.shortcut_tensor, block.branch_tensor)
            y = block.merge(*(tensors[id(end)] for end in ends))
            return block.activation(y) if block.activation_node is None else y
        if block := self._activations.get(id(node)):
            return block.activation(*tensors.values())
        args, kwargs = node.arguments.fill_in(tensors)
        return call(*args, **kwargs)

    def _read(self, node: Node, x: keras.KerasTensor, value: Any) -> Any:
        """Returns a tensor's value as a node reads it: for the shortcut, the branch or neither."""
        if id(x) in self._forks and id(x) not in self._versions:
            self._versions[id(x)] = _forked(self._forks[id(x)], value)
        return self._versions.get(id(x), {}).get(id(node), value)


def _forked(blocks: Iterable[GraphBlock], value: Any) -> dict:
    """Returns the value that each node on a path from a fork reads, by the node's id.

    Args:
        blocks: The blocks that fork there, outer ones first.
        value: The value of the tensor at the fork.
    """
    versions = {}
    for block in blocks:
        for_shortcut, for_branch = block.readers_of_fork()
        shared = versions.get(next(iter(for_branch)), value)
        shortcut, branch = block.fork(shared)
        versions |= dict.fromkeys(for_shortcut, shortcut) | dict.fromkeys(for_branch, branch)
    return versions


def _cross(block: GraphBlock, later: GraphBlock) -> bool:
    """Returns whether a later block's paths separate the nodes that read a block's fork."""
    readers = set.union(*block.readers_of_fork())
    parts = [readers & of_path for of_path in later.readers_of_fork()]
    return any(parts) and readers not in parts


def strides_of(operation: keras.Operation) -> int:
    """Returns the stride of an operation, in pixels: the largest, if it has one for each axis.

    Args:
        operation: An operation, or any layer; 1 if it has none.
    """
    strides = getattr(operation, "strides", 1)
    return max(strides) if isinstance(strides, tuple | list) else strides
