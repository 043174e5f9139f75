"""Search of a model for residual blocks, in graphs of functional models and inside of layers."""

import contextlib
import random
import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from reszoo.gradients import backend
from reszoo.gradients.block_names import name_blocks
from reszoo.gradients.calls import Calls
from reszoo.gradients.first_batch import has_all_weights
from reszoo.gradients.found_block import FoundBlock
from reszoo.gradients.graph import Graph
from reszoo.gradients.located import Located, Unseen, located_in, reason_of_gated
from reszoo.gradients.traced_calls import Trace
from reszoo.keras_internals import is_layer_of_keras, sublayers, symbolic_inputs
from reszoo.layers import ResidualBlock

# Sizes of axes that a functional model leaves open, of which the first that it takes is used.
_OPEN_SIZES = (8, 32, 64, 224)
_BATCH = 2


class Search:
    """The residual blocks of a model, and what was not found of it.

    Args:
        model: The model.
        example_batch: Inputs, or symbolic ones; `None` for those of a functional model.

    Attributes:
        found: The blocks, each with a short and a long name, in the order of the model.

    Raises:
        ValueError: If the model cannot be searched.
    """

    def __init__(self, model: keras.Model, example_batch: Any):
        self.model = model
        self.found: list[tuple[str, str, FoundBlock]] = []
        self._graphs: list[Graph] = []
        self._calls: list[Calls] = []
        self._unseen: dict[tuple[int, str], Unseen] = {}
        self._inputs = _symbolic(example_batch)
        self._has_graph = any(isinstance(x, keras.Function) for x in (model, *sublayers(model)))
        if self._inputs is None and not self._has_graph:
            raise ValueError(
                f"The model {model.name!r} is not a functional model and contains none, so it has "
                "no symbolic inputs to search it with. Give some of its inputs: "
                "instrument(model, example_batch)."
            )
        self._search(model, ())

    def why_no_block(self) -> str:
        """Returns the error for a model without blocks."""
        reason = (
            f"The model {self.model.name!r} has no residual block to record: nowhere are tensors "
            "of one shape added whose paths part at one tensor and pass a gradient each."
        )
        if number := sum(isinstance(part, ResidualBlock) for part in sublayers(self.model)):
            return (
                f"All additions of the model {self.model.name!r} are in its {number} layers of "
                "reszoo.ResidualBlock, which a GradientRecorder without blocks records."
            )
        if not_found := [*self.left_out()]:
            return " ".join([reason, *not_found])
        concatenations = [graph.concatenation for graph in self._graphs if graph.concatenation]
        if not concatenations:
            return f"{reason} There is no gradient of a skip to record."
        return (
            f"{reason} It joins its paths by concatenation, first in {concatenations[0]!r}: there "
            "each path is handed its own part of the gradient, so there is no skip beside a branch "
            "to compare. Only additions can be recorded."
        )

    def left_out(self) -> Iterator[str]:
        """Yields a sentence for each kind of thing that is left out."""
        crossing = [name for part in (*self._graphs, *self._calls) for name in part.left_out]
        if crossing:
            yield (
                f"The paths of {', '.join(crossing)} cross those of another addition from the same "
                "tensor, so they are not recorded."
            )
        if others := [repr(name) for graph in self._graphs for name in graph.unseen]:
            yield (
                f"What {_some(others)} adds is not recorded: only additions are, by +, "
                "keras.ops.add or keras.layers.Add."
            )
        for reason, names in self._gated().items():
            yield f"What {_some(names)} adds is not recorded: {reason}."
        if self._unseen:
            yield _unseen_in_words(list(self._unseen.values()))

    def _gated(self) -> dict[str, list[str]]:
        """Returns the names of additions with a gated shortcut, by the reason."""
        names: dict[str, list[str]] = {}
        for graph in self._graphs:
            for name, found in graph.gated:
                names.setdefault(reason_of_gated(found), []).append(repr(name))
        return names

    def _search(self, layer: Any, path: tuple[str, ...]) -> None:
        """Searches a layer, or the functional models in one that cannot be searched itself."""
        is_root = layer is self.model
        if isinstance(layer, keras.Function) or (is_root and self._inputs is not None):
            self._search_inside(layer, path)
            return
        if is_root:
            self._not_seen(layer, "it is no functional model, and no example_batch was given")
        for child in sublayers(layer, recursive=False):
            self._search(child, (*path, child.name))

    def _search_inside(self, layer: Any, path: tuple[str, ...]) -> None:
        """Searches a layer with known inputs: the graphs in it, and the calls of its layers."""
        traces = self._traces(layer)
        of_graphs = [*self._of_graphs(layer, path, traces)]
        located = self._located(traces)
        if self._has_open_sizes(layer):
            for each in located:
                each.forget_shapes()
        name_blocks(located)
        calls = Calls(layer, located)
        self._calls.append(calls)
        of_calls: list[tuple[int, str, str, FoundBlock]] = [
            (block.sum.addition.result, block.name, "/".join([*path, *block.located.names]), block)
            for block in calls.blocks
        ]
        merged = sorted([*of_graphs, *of_calls], key=lambda entry: entry[0])
        self.found += [(short, long, block) for _, short, long, block in merged]

    def _of_graphs(
        self, layer: Any, path: tuple[str, ...], traces: list[Trace]
    ) -> Iterator[tuple[int, str, str, FoundBlock]]:
        """Yields the blocks of the graphs in a layer: position, short and long name, block."""
        if any(layer is graph.function for graph in self._graphs):
            return
        if not isinstance(layer, keras.Function):
            for child in sublayers(layer, recursive=False):
                yield from self._of_graphs(child, (*path, child.name), traces)
            return
        graph = Graph(layer, traces[0].passes if traces else _reads_values)
        self._graphs.append(graph)
        block_at = {id(block.node): block for block in graph.blocks}
        for node in graph.nodes:
            of_node = (*path, node.operation.name)
            if block := block_at.get(id(node)):
                position = traces[0].position_of(node) if traces else 0
                yield position, block.name, "/".join(of_node), block
            else:
                yield from self._of_graphs(node.operation, of_node, traces)

    def _located(self, traces: list[Trace]) -> list[Located]:
        """Returns what is inside of layers, each once."""
        of_keys: dict[Any, Located] = {}
        for trace in traces:
            found, unseen = located_in(trace, [graph.function for graph in self._graphs])
            for one in unseen:
                self._unseen.setdefault((id(one.layer), one.reason), one)
            for located in found:
                # The later trace is of training, in which a layer may apply more.
                of_keys.setdefault(located.key, located).steps = located.steps
        # What is seen of a layer in one call only, as of the cell of an RNN, is not enough.
        whole = {id(unseen.layer) for unseen in self._unseen.values() if unseen.is_whole}
        return [x for x in of_keys.values() if id(x.layer) not in whole]

    def _has_open_sizes(self, layer: Any) -> bool:
        """Returns whether the sizes of a trace are not those of the model, but chosen for it."""
        is_given = layer is self.model and self._inputs is not None
        inputs = self._inputs if is_given else symbolic_inputs(layer)
        return any(None in x.shape[1:] for x in keras.tree.flatten(inputs))

    def _traces(self, layer: Any) -> list[Trace]:
        """Returns the traces of a layer; none if there is nothing to see inside of layers."""
        opaque = [*_opaque(layer)]
        if opaque and not hasattr(backend.running(), "traced"):
            for part in opaque:
                self._not_seen(part, "only on TensorFlow blocks inside of layers are found so far")
        elif opaque:
            try:
                return _traced(layer, self._inputs if layer is self.model else None)
            except Exception as error:  # of the model's own code
                self._not_seen(layer, f"it cannot be traced: {_first_line(error)}")
        return []

    def _not_seen(self, layer: keras.layers.Layer, reason: str) -> None:
        self._unseen.setdefault((id(layer), reason), Unseen(layer, reason, is_whole=True))


def _opaque(layer: keras.layers.Layer) -> Iterator[keras.layers.Layer]:
    """Yields the layers in a layer that run code of a user, without those inside of them."""
    if not (is_layer_of_keras(layer) or isinstance(layer, keras.Function)):
        yield layer
        return
    for child in sublayers(layer, recursive=False):
        yield from _opaque(child)


def _unseen_in_words(unseen: list[Unseen]) -> str:
    of_reasons: dict[str, list[str]] = {}
    for one in unseen:
        of_reasons.setdefault(one.reason, []).append(repr(one.layer.name))
    number = len({id(one.layer) for one in unseen})
    some = "; ".join(f"{_some(names)} ({why})" for why, names in of_reasons.items())
    what = "What is" if all(one.is_whole for one in unseen) else "Some of what is"
    layers = "1 layer" if number == 1 else f"{number} layers"
    return f"{what} added inside of {layers} cannot be recorded: {some}."


def _some(names: list[str]) -> str:
    return ", ".join([*names[:5], *(["..."] if len(names) > 5 else [])])


def _reads_values(node: Any, x: keras.KerasTensor, y: keras.KerasTensor) -> bool:
    """Returns whether a layer's output depends on the values of an input, and not its shape alone.

    It is called with NaN in that input, if what is in it is not known.

    Args:
        node: The call of the layer in a functional model.
        x: One of its inputs.
        y: One of its outputs.
    """
    if is_layer_of_keras(node.operation) or not isinstance(node.operation, keras.layers.Layer):
        return True
    position = next(i for i, output in enumerate(node.outputs) if output is y)
    for size in _OPEN_SIZES:
        try:
            symbols = _of_known_sizes({str(id(s)): s for s in node.input_tensors}, size)
            tensors = {int(key): keras.ops.zeros(s.shape, s.dtype) for key, s in symbols.items()}
            tensors[id(x)] = tensors[id(x)] + float("nan")
            args, kwargs = node.arguments.fill_in(tensors)
            output = keras.tree.flatten(node.operation(*args, **kwargs))[position]
        except Exception:  # the layer's own code takes no such size
            continue
        return bool(keras.ops.any(keras.ops.isnan(output)))
    return True


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"


def _traced(layer: Any, inputs: Any) -> list[Trace]:
    """Returns the traces of a layer as in inference and as in training.

    Stochastic depth may leave out blocks in training, and other code may have them only there.
    """
    states = random.getstate(), np.random.get_state()
    with warnings.catch_warnings(), contextlib.ExitStack() as at_end:
        warnings.simplefilter("ignore")  # of the model's own code, which training gives too
        at_end.callback(random.setstate, states[0])
        at_end.callback(np.random.set_state, states[1])
        if inputs is not None:
            return _traced_both(layer, inputs)
        error = None
        for size in _OPEN_SIZES:
            try:
                return _traced_both(layer, _of_known_sizes(symbolic_inputs(layer), size))
            except Exception as raised:  # the model's own code takes no such size
                error = error or raised
        raise error  # type: ignore[misc]


def _traced_both(layer: Any, inputs: Any) -> list[Trace]:
    _build(layer, inputs)
    inputs = _of_known_sizes(inputs, _OPEN_SIZES[0])
    return [t for training in (False, True) for t in backend.traced(layer, inputs, training)]


def _build(layer: Any, inputs: Any) -> None:
    """Gives all layers their weights, by a run on zeros if nothing else does."""
    if has_all_weights(layer):
        return
    inputs = _of_known_sizes(inputs, _OPEN_SIZES[0])
    zeros = keras.tree.map_structure(lambda x: keras.ops.zeros(x.shape, x.dtype), inputs)
    layer(zeros, training=False)
    if not has_all_weights(layer):  # some layers are called in training only
        states = [(v, keras.ops.copy(v.value)) for v in layer.non_trainable_variables]
        layer(zeros, training=True)
        for variable, value in states:
            variable.assign(value)


def _symbolic(batch: Any) -> Any:
    """Returns symbolic tensors of the shapes and dtypes of a batch."""
    if batch is None:
        return None

    def symbolic(x: Any) -> keras.KerasTensor:
        if isinstance(x, keras.KerasTensor):
            return x
        x = keras.ops.convert_to_tensor(x)
        return keras.KerasTensor(tuple(x.shape), keras.backend.standardize_dtype(x.dtype))

    return keras.tree.map_structure(symbolic, batch)


def _of_known_sizes(inputs: Any, size: int) -> Any:
    """Returns symbolic tensors with a number for each open size."""

    def known(x: keras.KerasTensor) -> keras.KerasTensor:
        sizes = [size if n is None else n for n in x.shape[1:]]
        return keras.KerasTensor((x.shape[0] or _BATCH, *sizes)[: len(x.shape)], x.dtype)

    return keras.tree.map_structure(known, inputs)
