"""Layers whose configuration is the arguments of their constructors."""

from typing import Any, ClassVar, Self

import keras

from reszoo.layers.normalization import norm_from_config, norm_to_config
from reszoo.layers.stateless import StatelessLayer
from reszoo.layers.symbolic import deserialized


class Configured(StatelessLayer):
    """A layer whose config is the arguments of its constructor, as scikit-learn's `get_params`.

    Attributes:
        arguments: Names of the constructor's arguments. Each is kept as an attribute of the same
            name: a number, a string, a layer, a list of layers, an `activation` or a `norm`.
    """

    arguments: ClassVar[tuple[str, ...]] = ()

    def get_config(self) -> dict[str, Any]:
        given = {name: _to_config(name, getattr(self, name)) for name in self.arguments}
        return {**super().get_config(), **given}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        given = {name: _from_config(name, config[name]) for name in cls.arguments if name in config}
        return cls(**{**config, **given})


def _to_config(name: str, value: Any) -> Any:
    if name == "activation":
        return keras.activations.serialize(value)
    if name == "norm":
        return norm_to_config(value)
    return keras.saving.serialize_keras_object(value)


def _from_config(name: str, value: Any) -> Any:
    if name == "norm":
        return norm_from_config(value)
    if isinstance(value, list):
        return [_from_config(name, element) for element in value]
    is_layer = isinstance(value, dict) and name != "activation"
    return deserialized(value) if is_layer else value
