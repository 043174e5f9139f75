"""Copies of a network in which layers are left out, or have another configuration."""

import tempfile
from collections.abc import Collection, Mapping
from typing import Any

import keras

from reszoo.keras_internals import (
    input_like,
    run_through_graph,
    runs_in_turn,
    runs_its_graph,
    sublayers,
    symbolic_inputs,
)
from reszoo.layers import Chain
from reszoo.models.places import is_chain, layers_given, layers_of, places


class Copy:
    """A copy of a network, with other variables; calling it gives the copy of any layer.

    Layers that are shared within the network are shared within its copy.

    Args:
        without: Layers to leave out, by `id`; each must have one place in a model or a chain.
        changed: Entries of the configuration to change, by the `id` of the layer.
    """

    def __init__(self, without: Collection[int], changed: Mapping[int, Mapping[str, Any]]):
        self._without = without
        self._changed = changed
        self._copies: dict[int, Any] = {}
        self._pairs: list[tuple[keras.layers.Layer, keras.layers.Layer]] = []

    def __call__(self, layer: keras.Operation) -> Any:
        """Returns the copy of a layer, of a model or of another operation."""
        if id(layer) not in self._copies:
            self._copies[id(layer)] = self._copied(layer)
        return self._copies[id(layer)]

    def copy_values(self) -> None:
        """Copies the values of all weights, but for those of layers that are changed.

        Raises:
            ValueError: If the copy of a layer has other weights.
        """
        for layer, copy in self._pairs:
            try:
                for one, other in zip(_own_layers(layer), _own_layers(copy), strict=True):
                    _copy_values(one, other)
            except Exception as error:  # a layer can raise any for weights that do not fit
                raise ValueError(_no_copy(layer, error)) from error

    def _copied(self, layer: Any) -> Any:
        if not isinstance(layer, keras.layers.Layer):
            return _copied_operation(layer)
        if isinstance(layer, keras.layers.Lambda):
            return layer  # it has no weights, and a configuration would lose its function's globals
        if runs_its_graph(layer):
            return self._copied_graph(layer)
        if runs_in_turn(layer):
            parts = [input_like(layer.inputs[0]), *self._copied_list(layer.layers)]
            return _with_state(keras.Sequential(parts, name=layer.name), layer)
        if is_chain(layer) and self._is_touched(layer):
            # Its class would make the layers that are left out again.
            return Chain(self._copied_list(layer.layers), **_base_config(layer))
        return self._copied_by_config(layer)

    def _copied_list(self, layers: list[Any]) -> list[Any]:
        return [self(layer) for layer in layers if id(layer) not in self._without]

    def _copied_graph(self, model: Any) -> keras.Model:
        def operation_fn(operation: keras.Operation) -> Any:
            return _only_tensor if id(operation) in self._without else self(operation)

        inputs = keras.tree.map_structure(input_like, symbolic_inputs(model))
        outputs = run_through_graph(model, inputs, operation_fn)
        return _with_state(keras.Model(inputs, outputs, name=model.name), model)

    def _copied_by_config(self, layer: keras.layers.Layer) -> keras.layers.Layer:
        given = {
            name: self(value) if isinstance(value, keras.layers.Layer) else [*map(self, value)]
            for name, value in layers_given(layer).items()
        }
        changes = self._changed.get(id(layer), {})
        try:
            copy = type(layer).from_config({**layer.get_config(), **given, **changes})
        except Exception as error:  # a layer can raise any for a configuration
            raise ValueError(_no_copy(layer, error)) from error
        if not changes:
            self._pairs.append((layer, copy))
        return copy

    def _is_touched(self, layer: keras.layers.Layer) -> bool:
        inside = {id(place.layer) for place in places(layer)}
        return not inside.isdisjoint({*self._without, *self._changed})


def _own_layers(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """Returns a layer and those in it, but for the ones that it is given as arguments."""
    given = [one for value in layers_given(layer).values() for one in layers_of(value)]
    inside = {id(part) for one in given for part in (one, *sublayers(one))}
    return [layer, *(part for part in sublayers(layer) if id(part) not in inside)]


def _copy_values(layer: keras.layers.Layer, copy: keras.layers.Layer) -> None:
    store: dict[str, Any] = {}
    layer.save_own_variables(store)
    copy.load_own_variables(store)
    if hasattr(layer, "save_assets"):  # such as a vocabulary
        with tempfile.TemporaryDirectory() as directory:
            layer.save_assets(directory)
            copy.load_assets(directory)


def _copied_operation(operation: keras.Operation) -> keras.Operation:
    try:
        return type(operation).from_config(operation.get_config())
    except Exception:  # it has no configuration, nor any state that two models must not share
        return operation


def _only_tensor(*args: Any, **kwargs: Any) -> Any:
    given = keras.tree.flatten((args, kwargs))
    return next(x for x in given if isinstance(x, keras.KerasTensor))


def _with_state(copy: keras.Model, model: keras.Model) -> keras.Model:
    if not model.trainable:
        copy.trainable = False
    return copy


def _base_config(layer: keras.layers.Layer) -> dict[str, Any]:
    return {"name": layer.name, "trainable": layer.trainable, "dtype": layer.dtype_policy}


def _no_copy(layer: keras.layers.Layer, error: Exception) -> str:
    reason = str(error).strip().split("\n")[0]
    return (
        f"The layer {layer.name!r} of type {type(layer).__name__} must be copied by its "
        f"configuration, which failed ({type(error).__name__}: {reason}). Its get_config must "
        "return all arguments of its constructor."
    )
