"""Trace of a model into a scratch graph: its data flow, with the layers that call each other."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from reszoo.gradients.call_stack import CallKey, CallStack, Place
from reszoo.gradients.flow import Addition, Flow, Tensor
from reszoo.gradients.patching import replace
from reszoo.gradients.traced_calls import Trace, TracedCall
from reszoo.keras_internals import (
    RUN_THROUGH_GRAPH,
    has_gradient,
    kinds_in_called_functions,
    nodes_in_order,
    records_gradients,
    run_through_graph,
    sublayers,
)

_SUMS_OF_A_STACK = ("Sum", "Mean", "Einsum")
_ADDITIONS = ("Add", "AddV2", "AddN", "Sub")
_NONLINEAR = frozenset(
    (
        *("Relu", "Relu6", "Elu", "Selu", "LeakyRelu", "Softplus", "Softsign"),
        *("Sigmoid", "Tanh", "Erf", "Erfc", "Softmax", "LogSoftmax"),
    )
)
# Products of a tensor with a matrix or a filter.
_PRODUCTS = frozenset(
    (
        *("MatMul", "BatchMatMulV2", "Einsum", "DepthwiseConv2dNative"),
        *("Conv2D", "Conv3D", "Conv2DBackpropInput", "Conv3DBackpropInputV2"),
    )
)
_CALLS_A_FUNCTION = ("PartitionedCall", "StatefulPartitionedCall")
_COMPUTED_AGAIN = "it is computed again in the backward pass (remat), or has a gradient of its own"
_IN_A_FUNCTION = (
    "its additions are in a function of their own: a tf.function, a condition or a loop on the "
    "device"
)
_TRACED_BEFORE = "it calls a tf.function that was traced before"


def traced(model: keras.layers.Layer, inputs: Any, training: bool) -> list[Trace]:
    """Returns the trace of a model, and those of the functions that it calls.

    Nothing is computed, and the model is not changed.

    Args:
        model: A built model.
        inputs: Its inputs, any structure of `keras.KerasTensor` of known shapes.
        training: Whether it is traced as in training.

    Returns:
        The trace of the model first. What the others have cannot be recorded.
    """
    tracer = _Tracer(model)
    specs = [tf.TensorSpec(x.shape, x.dtype) for x in keras.tree.flatten(inputs)]

    @tf.autograph.experimental.do_not_convert
    def run(*tensors: tf.Tensor) -> Any:
        tracer.graph = tf.compat.v1.get_default_graph()
        with tracer.in_place(), keras.StatelessScope(collect_losses=True):
            return model(keras.tree.pack_sequence_as(inputs, list(tensors)), training=training)

    tf.function(run, autograph=False).get_concrete_function(*specs)
    return tracer.traces()


class _Call(TracedCall):
    """A call of a layer, with the operations of the graph that it has made.

    Attributes:
        parent: The call that called it, if there is one.
        graph: The graph in which it was made.
        begin: The number of operations in that graph when it began.
        end: The number when it ended.
    """

    parent: Any
    graph: Any = None
    begin = 0
    end = 0


class _Tracer(CallStack):
    """Notes calls, additions and nodes of functional models while a model is traced."""

    def __init__(self, model: keras.layers.Layer):
        super().__init__(model)
        self._model = model
        self.graph: Any = None
        self._calls: list[_Call] = []
        # Of each graph, by the name of the sum.
        self._additions: dict[int, tuple[Any, dict[str, tuple[_Call, Place]]]] = {}
        self._nodes: list[tuple[Any, list[Any], list[Any]]] = []

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Context in which everything is noted."""
        with contextlib.ExitStack() as put_back:
            for replacement in self.replacements():
                put_back.callback(replace(*replacement))
            for part in (self._model, *sublayers(self._model)):
                if isinstance(part, keras.Function):
                    run = functools.partial(self._run, part)
                    put_back.callback(replace(part, RUN_THROUGH_GRAPH, run))
            yield

    def enter(
        self, layer: keras.layers.Layer, key: CallKey | None, args: tuple, kwargs: dict
    ) -> tuple[_Call, tuple, dict]:
        calling: Any = self.top
        call = _Call(layer, calling, key)
        call.graph = tf.compat.v1.get_default_graph()
        call.begin = len(call.graph.get_operations())
        call.passed = keras.tree.flatten((args, kwargs))
        call.unseen = None if records_gradients() else _COMPUTED_AGAIN
        self._calls.append(call)
        return call, args, kwargs

    def arguments(self, frame: _Call, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        frame.arguments = keras.tree.flatten((args, kwargs))
        return args, kwargs

    def leave(self, frame: _Call, key: CallKey | None, outputs: Any) -> Any:
        frame.end = len(frame.graph.get_operations())
        frame.returned = keras.tree.flatten(outputs)
        return outputs

    def add(
        self, frame: _Call, place: Place, operands: Sequence[Any], own: Callable[[Sequence], Any]
    ) -> Any:
        y = own(operands)
        if records_gradients() and tf.is_tensor(y):
            _, of_graph = self._additions.setdefault(id(y.graph), (y.graph, {}))
            of_graph[y.name] = (frame, place)
        return y

    def _run(
        self,
        function: keras.Function,
        inputs: Any,
        operation_fn: Callable = lambda operation: operation,
        call_fn: Callable | None = None,
    ) -> Any:
        """Replaces the run of a functional model through its graph."""
        if call_fn is not None:
            return run_through_graph(function, inputs, operation_fn, call_fn)
        nodes = nodes_in_order(function)

        def noted(operation: keras.Operation) -> Callable:
            node = next(node for node in nodes if node.operation is operation)
            call = operation_fn(operation)

            def call_and_note(*args: Any, **kwargs: Any) -> Any:
                outputs = call(*args, **kwargs)
                self._nodes.append((node, [args, kwargs], keras.tree.flatten(outputs)))
                return outputs

            return call_and_note

        return run_through_graph(function, inputs, noted)

    def traces(self) -> list[Trace]:
        """Returns the trace of each graph, that of the model first."""
        return [self._trace(graph, outer) for graph, outer in self._graphs()]

    def _graphs(self) -> Iterable[tuple[Any, _Call]]:
        """Returns each graph, with the call that its operations are in but for inner calls."""
        graphs = {id(self.graph): (self.graph, _Call(keras.layers.Layer(), None, None))}
        for call in self._calls:
            if call.parent is not None:
                graphs.setdefault(id(call.graph), (call.graph, call.parent))
        for graph, additions in self._additions.values():
            graphs.setdefault(id(graph), (graph, next(iter(additions.values()))[0]))
        return graphs.values()

    def _trace(self, graph: Any, outer: _Call) -> Trace:
        calls = [call for call in self._calls if call.graph is graph]
        operations = graph.get_operations()
        call_of = _call_of_each(operations, calls, outer)
        builder = _Builder(graph, is_outermost=graph is self.graph)
        for operation, call in zip(operations, call_of, strict=True):
            builder.add(operation, call)
        _, noted = self._additions.get(id(graph), (graph, {}))
        builder.add_sums(noted, call_of, operations)
        trace = builder.trace
        trace.calls = calls
        trace.reason = None if graph is self.graph else _IN_A_FUNCTION
        for call in calls:
            call.passed = builder.numbers_of(call.passed)
            call.arguments = builder.numbers_of(call.arguments)
            call.returned = builder.numbers_of(call.returned)
        for node, read, given in self._nodes:
            self._add_node(trace, builder, node, read, given)
        trace.unseen = list(self._not_traced(operations, call_of))
        return trace

    def _add_node(
        self, trace: Trace, builder: "_Builder", node: Any, read: list[Any], given: list[Any]
    ) -> None:
        symbols = keras.tree.flatten((node.arguments.args, node.arguments.kwargs))
        values = keras.tree.flatten(tuple(read))
        if not any(builder.is_here(value) for value in [*values, *given]):
            return
        numbers = zip(symbols, builder.numbers_of(values), strict=True)
        inputs = {id(x): n for x, n in numbers if isinstance(x, keras.KerasTensor)}
        outputs = {id(y): n for y, n in zip(node.outputs, builder.numbers_of(given), strict=True)}
        trace.nodes.setdefault(id(node), []).append((inputs, outputs))

    def _not_traced(
        self, operations: Iterable[Any], call_of: Iterable[_Call]
    ) -> Iterable[tuple[keras.layers.Layer, str]]:
        """Yields the layers that call functions whose layers were not seen to be called."""
        inner = {id(c.parent) for c in self._calls if c.parent and c.graph is not c.parent.graph}
        for graph, additions in self._additions.values():
            inner |= {id(frame) for frame, _ in additions.values() if frame.graph is not graph}
        for operation, call in zip(operations, call_of, strict=True):
            calls_one = operation.type in _CALLS_A_FUNCTION and id(call) not in inner
            if calls_one and _adds_and_multiplies(operation):
                yield call.layer, _TRACED_BEFORE


class _Builder:
    """Makes the flow of the operations of a graph.

    Args:
        graph: The graph.
        is_outermost: Whether it is the model's own: then what it captures are weights.
    """

    def __init__(self, graph: Any, is_outermost: bool):
        self.trace = Trace(Flow(), [], [])
        captured = {x.name for x in graph.internal_captures} if is_outermost else set()
        self._graph = graph
        self._data = {x.name for x in graph.inputs} - captured
        self._weights: set[str] = set()
        self._numbers: dict[str, int] = {}

    def add(self, operation: Any, call: _Call) -> None:
        """Adds the results of an operation.

        Args:
            operation: The operation.
            call: The call of a layer that it is in.
        """
        names = [x.name for x in operation.inputs]
        is_data = any(name in self._data for name in names)
        weights = any(name in self._weights for name in names)
        for y in operation.outputs:
            if is_data:
                self._data.add(y.name)
            elif weights or operation.type == "ReadVariableOp":
                self._weights.add(y.name)
            if _carries_gradients(y) and (y.name in self._data or y.name in self._weights):
                self._add_tensor(operation, call, y, names, weights)

    def _add_tensor(
        self, operation: Any, call: _Call, y: tf.Tensor, names: Iterable[str], weights: bool
    ) -> None:
        sources = dict.fromkeys(self._numbers[name] for name in names if name in self._numbers)
        if sources and not has_gradient(operation):
            sources = {}
        shape = None if y.shape.rank is None else tuple(y.shape)
        is_nonlinear = operation.type in _NONLINEAR
        kernels = int(_has_kernel(operation, weights))
        weights |= bool(kernels)
        self._numbers[y.name] = self.trace.flow.add(
            Tensor(tuple(sources), shape, is_nonlinear, weights, kernels, y.name in self._data)
        )
        self.trace.call_of.append(call)
        self.trace.kinds.append(operation.type)
        if operation.type == "Mul":
            self.trace.flow.products.add(self._numbers[y.name])
        if operation.type == "ConcatV2":
            self.trace.flow.concatenations[self._numbers[y.name]] = tuple(sources)

    def add_sums(
        self, noted: dict[str, tuple], call_of: Sequence[_Call], operations: Iterable[Any]
    ) -> None:
        """Adds the additions.

        Args:
            noted: Of each that was seen, by the name of its result, the call and the place.
            call_of: The call of each operation.
            operations: The operations.
        """
        for operation, call in zip(operations, call_of, strict=True):
            name = operation.outputs[0].name if _operands(operation) else None
            if name not in self._numbers:
                continue
            frame, place = noted.get(name, (call, None))
            self.trace.flow.additions.append(
                Addition(
                    (frame, place),
                    tuple(self.numbers_of(_operands(operation))),
                    self._numbers[name],
                    operation.type == "Sub",
                    scope=id(frame),
                )
            )

    def is_here(self, x: Any) -> bool:
        """Returns whether a value is a tensor of this graph.

        Args:
            x: Any value.
        """
        return tf.is_tensor(x) and getattr(x, "graph", None) is self._graph

    def numbers_of(self, values: Iterable[Any]) -> list[int | None]:
        """Returns the numbers of values in the flow, `None` for those that are not in it.

        Args:
            values: Tensors and other values.
        """
        return [self._numbers.get(x.name) if self.is_here(x) else None for x in values]


def _call_of_each(operations: Sequence[Any], calls: Iterable[_Call], root: _Call) -> list[_Call]:
    """Returns the innermost call of each operation."""
    call_of = [root] * len(operations)
    for call in calls:  # the outer ones first
        call_of[call.begin : call.end] = [call] * (call.end - call.begin)
    return call_of


def _carries_gradients(y: tf.Tensor) -> bool:
    """Returns whether gradients flow through a tensor; a variant is a list, as of a loop."""
    return y.dtype.is_floating or y.dtype.is_complex or y.dtype == tf.variant


def _operands(operation: Any) -> Sequence[tf.Tensor]:
    """Returns the tensors that an operation adds or subtracts; none if it does not."""
    if operation.type in _ADDITIONS:
        return operation.inputs
    if operation.type in _SUMS_OF_A_STACK and operation.inputs[0].op.type == "Pack":
        return operation.inputs[0].op.inputs
    return ()


def _has_kernel(operation: Any, has_weights: bool) -> bool:
    """Returns whether an operation, or a function that it calls, multiplies by weights.

    Args:
        operation: The operation.
        has_weights: Whether it reads weights. To a function a variable is handed instead.
    """
    if operation.type in _PRODUCTS:
        return has_weights
    has_variables = any(x.dtype == tf.resource for x in operation.inputs)
    return has_variables and bool(kinds_in_called_functions(operation) & _PRODUCTS)


def _adds_and_multiplies(operation: Any) -> bool:
    """Returns whether the function that an operation calls has an addition and a product."""
    kinds = kinds_in_called_functions(operation)
    return "AddV2" in kinds and bool(kinds & _PRODUCTS)
