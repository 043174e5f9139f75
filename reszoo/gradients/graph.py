"""Residual blocks in the graph of a functional model: search for them, and runs through their taps.

The graph is that of `keras.Function`: symbolic tensors joined by nodes, each of which is one call
of an operation. Keras keeps it for the life of the model; nothing is added to it here.
"""

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras

from reszoo.gradients.flow import (
    Addition,
    Flow,
    ResidualSum,
    Tensor,
    Term,
    gated_sums,
    residual_sums,
)
from reszoo.gradients.found_block import (
    FoundBlock,
    PathStep,
    activation_in_words,
    compatible,
    is_nonlinear,
    number_of_kernels,
)
from reszoo.keras_internals import (
    RUN_THROUGH_GRAPH,
    adds_what_it_is_given,
    is_addition,
    is_concatenation,
    is_product,
    is_stack,
    is_subtraction,
    multiplies_tensors,
    nodes_in_order,
    passes_gradients,
    run_through_graph,
)

Node = Any  # One call of an operation; its class has no public name.
# Takes a node, one of its inputs and one of its outputs: whether a gradient flows between them.
Passes = Callable[[Node, keras.KerasTensor, keras.KerasTensor], bool]
# Operations that, between a merge and the next block, belong to the block.
_ACTIVATIONS = (
    keras.layers.Activation,
    keras.layers.ELU,
    keras.layers.LeakyReLU,
    keras.layers.PReLU,
    keras.layers.ReLU,
)


# The scope of additions that are seen in the graph, but not in a recorded run.
_UNSEEN = "unseen"


class GraphBlock(FoundBlock):
    """A residual block of a functional model: two paths from one tensor to one addition.

    Args:
        graph: The graph that contains it.
        found: The sum in which it ends.
    """

    def __init__(self, graph: "Graph", found: ResidualSum):
        super().__init__()
        self.graph = self.found_in = graph
        self.sum = found
        self.node = found.addition.place
        self.key = id(self.node)
        self.name = self.node.operation.name
        self.fork_key = found.fork
        self.fork_tensor = graph.tensors[found.fork]
        self.shortcut_nodes = graph.nodes_between(found.fork, [found.skip.tensor])
        self.branch_nodes = graph.nodes_between(found.fork, [t.tensor for t in found.branch])
        self.activation_node = graph.activation_after(self.node)

    def activation(self, y: Any) -> Any:
        """Returns the activation of the sum, or the sum if an activation is not its only reader."""
        return y if self.activation_node is None else self.activation_node.operation(y)

    @property
    def parts(self) -> list[Any]:
        return [*self.shortcut_nodes, *self.branch_nodes]

    @property
    def places(self) -> list[Any]:
        return [self.node, self.graph.function]

    @property
    def shortcut_operations(self) -> list[keras.Operation]:
        return [node.operation for node in self.shortcut_nodes]

    @property
    def branch_operations(self) -> list[keras.Operation]:
        return [node.operation for node in self.branch_nodes]

    @property
    def steps(self) -> dict[str, list[PathStep]]:
        paths = {"skip": self.shortcut_nodes, "branch": self.branch_nodes}
        return {path: [*map(_step, nodes)] for path, nodes in paths.items()}

    @property
    def activation_in_words(self) -> str | None:
        if self.activation_node is None:
            return None
        operation = self.activation_node.operation
        return activation_in_words(operation) or type(operation).__name__.lower()

    @property
    def shapes(self) -> tuple[tuple, tuple]:
        return self.fork_tensor.shape, self.node.outputs[0].shape

    def readers_of_fork(self) -> tuple[set[int], set[int]]:
        """Returns the ids of the nodes that read the fork for the shortcut, and for the branch."""

        def readers(nodes: Iterable[Node]) -> set[int]:
            fork = self.fork_tensor
            return {id(n) for n in nodes if any(x is fork for x in n.input_tensors)}

        of_shortcut = readers(self.shortcut_nodes)
        if self.sum.has_identity:
            of_shortcut = {id(self.sum.skip.addition.place)}
        return of_shortcut, readers(self.branch_nodes)


class Graph:
    """The graph of a functional model, and the residual blocks in it.

    Args:
        function: A functional model. A nested model is one operation in it, with its own graph.
        passes: Tells whether a gradient flows through the call of a layer whose inside is not
            known; by default it does.

    Attributes:
        owner: The functional model.
        blocks: The residual blocks, in the order in which the model reaches their merges.
        left_out: The names of the merges whose paths cross those of another block with the same
            fork.
        unseen: The names of what adds the paths of a block in a way that cannot be recorded.
        gated: The names of the additions of a branch and a gated shortcut that are not recorded,
            each with its sum.
        concatenation: The name of the first concatenation whose inputs have a common origin, or
            `None`.
    """

    def __init__(self, function: keras.Function, passes: Passes = lambda *_: True):
        self.function = self.owner = function
        self.nodes = list(nodes_in_order(function))
        self._passes = passes
        outputs = itertools.chain.from_iterable(node.outputs for node in self.nodes)
        self.tensors = [*function.inputs, *outputs]
        self._number = {id(x): i for i, x in enumerate(self.tensors)}
        self._readers = {}
        self._given_by = {id(y): node for node in self.nodes for y in node.outputs}
        self.flow = self._flow()
        self.concatenation = self._first_concatenation()
        seen, unseen = [], []
        for found in residual_sums(self.flow):
            (unseen if any(map(_is_unseen, found.terms)) else seen).append(found)
        self.unseen = [_name(found.addition) for found in unseen if self._is_plain(found)]
        self.gated = [(_name(each.addition), each) for each in gated_sums(self.flow)]
        self.blocks, self.left_out = compatible(GraphBlock(self, found) for found in seen)

    def nodes_between(self, start: int, ends: Iterable[int]) -> list:
        """Returns the nodes on the paths from one tensor to others, in the model's order.

        Args:
            start: The number of the symbolic tensor that the first nodes read.
            ends: The numbers of the symbolic tensors that the last nodes return.
        """
        inner = {number for end in ends for number in self.flow.between(start, end)}
        return [
            node for node in self.nodes if any(self._number[id(y)] in inner for y in node.outputs)
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

    def replacements(self) -> list[tuple[Any, str, Callable]]:
        """Returns what is replaced for a run that calls the blocks: owner, attribute, value."""
        return [(self.function, RUN_THROUGH_GRAPH, self.run)]

    def _flow(self) -> Flow:
        """Returns the flow of gradients between the symbolic tensors, with the same numbers."""
        flow = Flow()
        for x in self.function.inputs:
            flow.add(Tensor((), x.shape))
        for node in self.nodes:
            for x in node.input_tensors:
                self._readers.setdefault(id(x), []).append(node)
            weights = bool(getattr(node.operation, "weights", ()))
            for y in node.outputs:
                sources = tuple(dict.fromkeys(self._sources(node, y)))
                kernels = number_of_kernels(node.operation)
                flow.add(Tensor(sources, y.shape, is_nonlinear(node.operation), weights, kernels))
            self._add_sum(flow, node)
        return flow

    def _sources(self, node: Node, y: keras.KerasTensor) -> Iterator[int]:
        """Yields the numbers of the tensors from which gradients flow into an output of a node."""
        if not keras.backend.is_float_dtype(y.dtype) or not passes_gradients(node.operation):
            return
        for x in node.input_tensors:
            if keras.backend.is_float_dtype(x.dtype) and self._passes(node, x, y):
                yield self._number[id(x)]

    def _add_sum(self, flow: Flow, node: Node) -> None:
        """Adds a node to the flow's additions, concatenations or products, if it is one."""
        operands = tuple(self._number[id(x)] for x in node.input_tensors)
        if is_concatenation(node.operation):
            flow.concatenations[self._number[id(node.outputs[0])]] = operands
        if is_product(node.operation):
            flow.products.add(self._number[id(node.outputs[0])])
        subtracts = is_subtraction(node.operation)
        if (subtracts or is_addition(node.operation)) and len(operands) > 1:
            result = self._number[id(node.outputs[0])]
            flow.additions.append(Addition(node, operands, result, subtracts))
        elif len(operands := self._added_otherwise(node)) > 1:
            result = self._number[id(node.outputs[0])]
            flow.additions.append(Addition(node, operands, result, scope=_UNSEEN))

    def _added_otherwise(self, node: Node) -> tuple[int, ...]:
        """Returns the tensors that a node adds without an addition of two; none if it does not."""
        stacks = [self._given_by.get(id(x)) for x in node.input_tensors]
        stack = next((other for other in stacks if other and is_stack(other.operation)), None)
        adds = adds_what_it_is_given(node.operation)
        if stack is not None and (adds or multiplies_tensors(node.operation)):
            return tuple(self._number[id(x)] for x in stack.input_tensors)
        return tuple(self._number[id(x)] for x in node.input_tensors) if adds else ()

    def _is_plain(self, found: ResidualSum) -> bool:
        """Returns whether a shortcut has no weights, so that a mean of two models is no block."""
        path = self.flow.between(found.fork, found.skip.tensor)
        return found.has_identity or not any(self.flow.tensors[n].has_weights for n in path)

    def _first_concatenation(self) -> str | None:
        for node in self.nodes:
            numbers = [self._number[id(x)] for x in node.input_tensors]
            if is_concatenation(node.operation) and len(numbers) > 1:
                origins = [self.flow.tensors[number].origins for number in numbers]
                if functools.reduce(int.__and__, origins):
                    return node.operation.name
        return None


def _step(node: Node) -> PathStep:
    read, given = ([x.shape for x in xs] for xs in (node.input_tensors, node.outputs))
    known = [shapes[0] if len(shapes) == 1 else None for shapes in (read, given)]
    return PathStep(node.operation, (), *known)


class _Run:
    """One run of a graph, in which each block's `fork`, `merge` and `activation` are called.

    Args:
        graph: The graph to run.
        operation_fn: Takes an operation and returns the function that Keras calls instead of it.
    """

    def __init__(self, graph: Graph, operation_fn: Callable):
        self._operation_fn = operation_fn
        self._nodes = iter(graph.nodes)
        self._sums = {}
        for block in graph.blocks:
            for node in {id(t.addition.place): t.addition.place for t in block.sum.terms}.values():
                self._sums.setdefault(id(node), []).append(block)
        self._activations = {
            id(block.activation_node): block for block in graph.blocks if block.activation_node
        }
        self._forks = {}
        for block in reversed(graph.blocks):
            self._forks.setdefault(id(block.fork_tensor), []).append(block)
        self._versions = {}
        self._terms = {}

    def operation(self, operation: keras.Operation) -> Callable:
        """Returns the function to call for the next node. Keras requests them in its node order."""
        node = next(node for node in self._nodes if node.operation is operation)
        call = self._operation_fn(operation)
        reads_a_fork = any(id(x) in self._forks for x in node.input_tensors)
        if reads_a_fork or id(node) in self._sums or id(node) in self._activations:
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
        args, kwargs = node.arguments.fill_in(tensors)
        if blocks := self._sums.get(id(node)):
            return self._add(node, blocks, tensors, functools.partial(call, *args, **kwargs))
        if block := self._activations.get(id(node)):
            return block.activation(*tensors.values())
        return call(*args, **kwargs)

    def _add(self, node: Node, blocks: Iterable[GraphBlock], tensors: dict, own: Callable) -> Any:
        """Returns the sum of a node, by `merge` of the block that ends there."""
        for block in blocks:
            for term in block.sum.terms:
                if term.addition.place is node:
                    value = tensors[id(node.input_tensors[term.position])]
                    self._terms.setdefault(id(block), {})[term] = value
        ending = next((block for block in blocks if block.node is node), None)
        if ending is None:
            return own()
        y = ending.add(own, self._terms.pop(id(ending)))
        return ending.activation(y) if ending.activation_node is None else y

    def _read(self, node: Node, x: keras.KerasTensor, value: Any) -> Any:
        """Returns a tensor's value as a node reads it: for the shortcut, the branch or neither."""
        if id(x) in self._forks and id(x) not in self._versions:
            self._versions[id(x)] = _forked(self._forks[id(x)], value)
        return self._versions.get(id(x), {}).get(id(node), value)


def _is_unseen(term: Term) -> bool:
    return term.addition.scope == _UNSEEN


def _name(addition: Addition) -> str:
    return addition.place.operation.name


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
