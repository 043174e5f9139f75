"""Layers applied one after the other, as one layer."""

from collections.abc import Sequence
from typing import Any

import keras

from reszoo.layers.configured import Configured
from reszoo.layers.shapes import Shape, Tensor
from reszoo.layers.symbolic import build, output_of


@keras.saving.register_keras_serializable(package="reszoo")
class Chain(Configured):
    """Applies layers one after the other.

    `ResidualBlock` converts a list of layers to a `Chain`. Unlike `keras.Sequential` it is a plain
    layer: it has no input tensors of its own, and its sublayers are built with it.

    Args:
        layers: The layers, first to last. An empty list is the identity.

    Call arguments:
        x: A tensor of the first layer's input shape.

    Input shape:
        That of the first layer.

    Output shape:
        That of the last layer.

    Example:

    >>> chain = Chain([keras.layers.Dense(8, activation="relu"), keras.layers.Dense(4)])
    >>> chain(keras.ops.ones((2, 3))).shape
    TensorShape([2, 4])
    """

    arguments = ("layers",)

    def __init__(self, layers: Sequence[keras.layers.Layer], **kwargs: Any):
        super().__init__(**kwargs)
        for layer in layers:
            if not isinstance(layer, keras.layers.Layer):
                raise ValueError(
                    f"{type(self).__name__} takes Keras layers, but got {layer!r} of type "
                    f"{type(layer).__name__}. Wrap a function in keras.layers.Lambda or write a "
                    "keras.layers.Layer for it."
                )
        self.layers = list(layers)
        self.supports_masking = True
        if not self.trainable:  # it had no layers yet when Keras's constructor froze it
            for layer in layers:
                layer.trainable = False

    def build(self, input_shape: Shape) -> None:
        x = keras.KerasTensor(input_shape, self.compute_dtype)
        for layer in self.layers:
            build(layer, x)
            x = output_of(layer, x)

    def call(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return x

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        x = keras.KerasTensor(input_shape, self.compute_dtype)
        for layer in self.layers:
            x = output_of(layer, x)
        return tuple(x.shape)
