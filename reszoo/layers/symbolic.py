"""A layer's weights and the shape of its output, by a symbolic call where necessary."""

import warnings
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import keras

from reszoo.keras_internals import sublayers

# Pixels that strides are found from: a size and a distance, which every usual stride divides.
_PROBE_SIZE = _DISTANCE = 5040


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
    if not _is_built(layer):
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


def strides_of(layer: keras.layers.Layer, x: keras.KerasTensor) -> tuple[Any, ...]:
    """Returns the stride of a layer along each spatial axis, in pixels.

    It is found from shapes: of `distance` more pixels of the input the output has `distance /
    stride` more, however the layer pads.

    Args:
        layer: The layer, built for the input.
        x: Its symbolic input, channels last.

    Returns:
        One number for each axis between the batch and the channels; below 1 where there are more
        pixels in the output than in the input.

    Raises:
        ValueError: If the output has other axes than the input, or a size that does not depend on
            the input's, or the layer takes inputs of one size alone.

    Example:

    >>> pool = keras.layers.MaxPooling2D(3, (2, 1), padding="same")
    >>> strides_of(pool, keras.KerasTensor((None, 224, 224, 3)))
    (2, 1)
    """
    try:
        pairs = _gains(layer, x)
    except Exception:  # a layer can raise any for a size that it does not take
        pairs = []
    pairs = pairs or _sizes(layer, x)
    candidates = [_strides_between(*pair) for pair in pairs]
    if not candidates or not all(len(found) == 1 for found in candidates):
        raise ValueError(
            f"The stride of {layer.name!r} is not known: its output for inputs of shape "
            f"{tuple(x.shape)} is of shape {tuple(output_of(layer, x).shape)}, and does not grow "
            "with them along each axis."
        )
    return tuple(found[0] for found in candidates)


def _gains(layer: keras.layers.Layer, x: keras.KerasTensor) -> list[tuple[int, int]]:
    """Returns, for each axis, how much larger two inputs and their outputs are than each other."""
    batch, *spatial, channels = x.shape
    sizes = [size or _PROBE_SIZE for size in spatial]
    shapes = [(batch, *[size + more for size in sizes], channels) for more in (0, _DISTANCE)]
    small, large = (
        tuple(output_of(layer, keras.KerasTensor(shape, x.dtype)).shape) for shape in shapes
    )
    if len(small) != len(x.shape):
        return []
    gains = [b - a for a, b in zip(small[1:-1], large[1:-1], strict=True)]
    return [(_DISTANCE, gain) for gain in gains] if all(gain > 0 for gain in gains) else []


def _sizes(layer: keras.layers.Layer, x: keras.KerasTensor) -> list[tuple[int, int]]:
    """Returns the sizes of the input and the output of each axis; none if they are not known."""
    sizes = tuple(x.shape[1:-1]), tuple(output_of(layer, x).shape[1:-1])
    if len(sizes[0]) != len(sizes[1]) or not all((*sizes[0], *sizes[1])):
        return []
    return list(zip(*sizes, strict=True))


def _strides_between(size: int, strided: int) -> list[int | Fraction]:
    """Returns the strides that lead from one size to another."""
    if strided > size:
        return [Fraction(1, strided // size)] if strided % size == 0 else []
    near = range(max(1, size // strided - 1), size // strided + 2)
    return [stride for stride in near if strided in (size // stride, -(-size // stride))]


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
        if keras.backend.backend() != "jax" or not _is_built(self.layer):
            return self.layer(x)
        # While `fit` runs on JAX, variables have no value; nothing is computed of these.
        of_variables = [(v, keras.ops.zeros(v.shape, v.dtype)) for v in self.layer.variables]
        with keras.StatelessScope(of_variables):
            return self.layer(x)


def _is_built(layer: keras.layers.Layer) -> bool:
    return all(part.built for part in (layer, *sublayers(layer)))
