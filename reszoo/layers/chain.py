"""Layers applied one after the other, as one layer."""

import math
from collections.abc import Sequence

import keras


@keras.saving.register_keras_serializable(package="reszoo")
class Chain(keras.layers.Layer):
    """Applies layers one after the other.

    `ResidualBlock` makes one of a list of layers. Unlike `keras.Sequential` it is a plain layer: it
    has no inputs of its own, and its sublayers are built with it.

    Args:
        layers: The layers, first to last. An empty list is the identity.
        name: Name of the layer.
        dtype: Dtype or dtype policy of the layer itself; the given layers keep their own.

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

    def __init__(self, layers: Sequence[keras.layers.Layer], *, name=None, dtype=None, **kwargs):
        super().__init__(name=name, dtype=dtype, **kwargs)
        for layer in layers:
            if not isinstance(layer, keras.layers.Layer):
                raise ValueError(
                    f"{type(self).__name__} takes Keras layers, but got {layer!r} of type "
                    f"{type(layer).__name__}. Wrap a function in keras.layers.Lambda or write a "
                    "keras.layers.Layer for it."
                )
        self.layers = list(layers)
        self.supports_masking = True
        if not self.trainable:  # its layers were not there when Keras's constructor froze it
            for layer in layers:
                layer.trainable = False

    @property
    def strides(self) -> int:
        """The stride of the whole chain, in pixels: the product of its layers' strides."""
        strides = [getattr(layer, "strides", 1) for layer in self.layers]
        return math.prod(stride for stride in strides if isinstance(stride, int))

    def build(self, input_shape):
        shape = input_shape
        for layer in self.layers:
            if not layer.built:
                layer.build(shape)
            shape = layer.compute_output_shape(shape)

    def call(self, x):
        for layer in self.layers:
            x = layer(x)
        return x

    def compute_output_shape(self, input_shape):
        shape = input_shape
        for layer in self.layers:
            shape = layer.compute_output_shape(shape)
        return tuple(shape)

    def get_config(self):
        layers = [keras.saving.serialize_keras_object(layer) for layer in self.layers]
        return {**super().get_config(), "layers": layers}

    @classmethod
    def from_config(cls, config):
        layers = [keras.saving.deserialize_keras_object(layer) for layer in config.pop("layers")]
        return cls(layers, **config)
