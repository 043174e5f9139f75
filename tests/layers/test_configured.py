"""Configurations of layers: the arguments of their constructors."""

import inspect

import reszoo.layers
from reszoo.layers.configured import Configured


def test_every_layer_keeps_the_arguments_of_its_constructor():
    for layer in vars(reszoo.layers).values():
        if isinstance(layer, type) and issubclass(layer, Configured):
            accepted = set(inspect.signature(layer.__init__).parameters)
            assert set(layer.arguments) == accepted - {"self", "kwargs", "name", "dtype"}, layer
