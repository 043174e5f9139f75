"""A layer's weights and the shape of its output, by a symbolic call where necessary."""

import warnings
from collections.abc import Mapping
from typing import Any

import keras

from reszoo.keras_internals import sublayers


def build(layer: keras.layers.Layer, x: keras.KerasTensor) -> None:
    """Builds a layer and all layers in it.

    A layer that has no `build` of its own, or whose `build` leaves layers in it without weights, is
    called symbolically, as Keras does with a model.

    Args:
        layer: The layer, built or not.
        x: Its symbolic input.

    Example:

    >>> dense = keras.layers.Dense(4)
    >>> build(dense, keras.KerasTensor((None, 3)))
    >>> tuple(dense.kernel.shape)
    (3, 4)
    """
    if not layer.built and type(layer).build is not keras.layers.Layer.build:
        layer.build(x.shape)
    if not all(part.built for part in (layer, *sublayers(layer))):
        symbolic_call(layer, x)


def output_of(layer: keras.layers.Layer, x: keras.KerasTensor) -> keras.KerasTensor:
    """Returns the symbolic output of a layer.

    Args:
        layer: The layer. It is called symbolically if it does not define its output's shape.
        x: Its symbolic input.

    Returns:
        A symbolic tensor of the output's shape and dtype.

    Example:

    >>> output_of(keras.layers.Dense(4), keras.KerasTensor((None, 3))).shape
    (None, 4)
    """
    if type(layer).compute_output_shape is not keras.layers.Layer.compute_output_shape:
        try:
            shape = layer.compute_output_shape(x.shape)
            return keras.KerasTensor(tuple(shape), layer.compute_dtype)
        except NotImplementedError:
            pass  # A `keras.Sequential` of layers that do not define their output's shape.
    y = symbolic_call(layer, x)
    if not isinstance(y, keras.KerasTensor):
        raise ValueError(
            f"The layer {layer.name!r} returns {type(y).__name__}, but a layer on a path of a "
            "residual block must return one tensor."
        )
    return y


def deserialized(config: Mapping) -> keras.layers.Layer:
    """Returns the layer that a configuration describes.

    Args:
        config: The result of `keras.saving.serialize_keras_object`.

    Returns:
        The layer. Sublayers that Keras leaves unbuilt are built with the layer that contains it.

    Example:

    >>> deserialized(keras.saving.serialize_keras_object(keras.layers.Dense(4))).units
    4
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`build\\(\\)` was called on layer")
        return keras.saving.deserialize_keras_object(config)


def symbolic_call(layer: keras.layers.Layer, x: Any) -> Any:
    """Returns the symbolic outputs of a layer, which builds all layers that it calls.

    Args:
        layer: Any layer or model, built or not.
        x: Its input, any structure of symbolic tensors.

    Returns:
        Any structure of symbolic tensors; they do not become part of any model.

    Example:

    >>> symbolic_call(keras.layers.Dense(4), keras.KerasTensor((None, 3))).shape
    (None, 4)
    """
    return _Call(layer).compute_output_spec(x)


class _Call(keras.Operation):
    """The call of a layer."""

    def __init__(self, layer: keras.layers.Layer):
        super().__init__()
        self.layer = layer

    def call(self, x: Any) -> Any:
        return self.layer(x)
