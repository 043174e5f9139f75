"""The layers of a network by their places: which layer directly follows which."""

import dataclasses
import inspect
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from reszoo.keras_internals import nodes_in_order, runs_in_turn, runs_its_graph
from reszoo.layers import Chain
from reszoo.layers.configured import Configured


@dataclasses.dataclass(frozen=True)
class Place:
    """A layer at a place where it is called.

    Attributes:
        name: Names of the layers around it and its own, such as `stage1_block1/branch/norm1`.
        layer: The layer, or another operation of Keras.
        before: The layer whose output is its input, and that nothing else reads; `None` if there is
            none, or it is not known.
        where: The place in words, such as "behind Activation", where `before` is `None`.
        trains: Whether it runs as in training if the network is not told how to. The outermost call
            with an argument `training` decides, as in Keras.
    """

    name: str
    layer: keras.Operation
    before: keras.Operation | None = None
    where: str = ""
    trains: bool = False


def places(layer: keras.Operation) -> Iterator[Place]:
    """Yields the places of all layers within a layer, in the order in which they run.

    Layers are found in functional and sequential models, chains, and the layers of `reszoo` that
    take layers as arguments; those within any other layer are not. What is in a layer that has
    several places is yielded once.

    Args:
        layer: A model or another layer.

    Example:

    >>> chain = Chain([keras.layers.Dense(4, name="dense"), keras.layers.ReLU(name="relu")])
    >>> [(place.name, place.before) for place in places(chain)][0]
    ('dense', None)
    """
    yield from _within(layer, "", None, set())


def _within(
    layer: keras.Operation, prefix: str, told: bool | None, seen: set[tuple[int, bool | None]]
) -> Iterator[Place]:
    if (id(layer), told) in seen:
        return
    seen.add((id(layer), told))
    for name, place, own in _children(layer):
        training = own if told is None else told
        place = dataclasses.replace(place, name=f"{prefix}{name}", trains=bool(training))
        yield place
        yield from _within(place.layer, f"{place.name}/", training, seen)


def is_chain(layer: Any) -> bool:
    """Returns whether a layer applies its `layers` one after the other, as a `Chain` does."""
    kind = type(layer)
    return isinstance(layer, Chain) and (kind.call, kind.build) == (Chain.call, Chain.build)


def layers_given(layer: Any) -> dict[str, Any]:
    """Returns the arguments of a layer of `reszoo` that are layers or lists of layers, by name."""
    if not isinstance(layer, Configured):
        return {}
    arguments = {name: getattr(layer, name) for name in layer.arguments}
    return {name: value for name, value in arguments.items() if layers_of(value)}


def layers_of(value: Any) -> list[keras.layers.Layer]:
    """Returns the layers that an argument consists of; none if it is anything else."""
    given = value if isinstance(value, list | tuple) else [value]
    return list(given) if all(isinstance(one, keras.layers.Layer) for one in given) else []


# The name within the layer, the place, and the argument `training` of the call.
_Child = tuple[str, Place, bool | None]


def _children(layer: Any) -> Iterator[_Child]:
    if runs_its_graph(layer):
        yield from _in_graph(layer)
    elif is_chain(layer) or runs_in_turn(layer):
        yield from _in_turn(layer.layers)
    else:
        for argument, value in layers_given(layer).items():
            for one in layers_of(value):
                name = one.name if isinstance(value, list | tuple) else argument
                yield name, Place(name, one, where="at the start of a path"), None


def _in_turn(layers: Sequence[keras.layers.Layer]) -> Iterator[_Child]:
    before = None
    for layer in layers:
        yield layer.name, Place(layer.name, layer, before, "at the start of a path"), None
        before = layer


def _in_graph(model: keras.Function) -> Iterator[_Child]:
    nodes = list(nodes_in_order(model))
    makers = {id(x): node.operation for node in nodes for x in node.outputs}
    read = [*(x for node in nodes for x in node.input_tensors), *model.outputs]
    readers = Counter(map(id, read))
    for node in nodes:
        layer, (x, *more) = node.operation, node.input_tensors or [None]
        maker = makers.get(id(x))
        if maker is None or more:
            before, where = None, "with several inputs" if more else "behind the model's input"
        elif readers[id(x)] > 1:
            before, where = None, f"behind {type(maker).__name__}, which others read as well"
        else:
            before, where = maker, ""
        yield layer.name, Place(layer.name, layer, before, where), _training_of(node)


def _training_of(node: Any) -> bool | None:
    """Returns whether a call may be told to train; `None` if it is not told."""
    layer, arguments = node.operation, node.arguments
    given = arguments.kwargs.get("training")  # of a layer whose `call` takes none, too
    call = inspect.signature(type(layer).call)
    if "training" in call.parameters:
        bound = call.bind_partial(layer, *arguments.args, **arguments.kwargs)
        given = bound.arguments.get("training")
    if isinstance(given, keras.KerasTensor):  # known at each call only
        return True
    return None if given is None else bool(given)
