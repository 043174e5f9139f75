"""Normalizations by name, with the constants of the papers."""

import functools
import math
from collections.abc import Callable
from typing import Any

import keras

from reszoo.layers.batch_normalization import EPSILON, BatchNormalization
from reszoo.layers.shapes import Shape
from reszoo.layers.stateless import StatelessLayer

Norm = str | Callable[..., keras.layers.Layer] | None


@keras.saving.register_keras_serializable(package="reszoo")
class GroupNorm(StatelessLayer, keras.layers.GroupNormalization):
    """Group normalization with 32 groups, or the greatest common divisor of 32 and the channels.

    Args:
        groups: Number of groups; if it does not divide the number of channels, their greatest
            common divisor is used.
        epsilon: Positive number added to the variance.
        **kwargs: Arguments of `keras.layers.GroupNormalization`.

    Call arguments:
        x: A tensor whose last axis is the channels.

    Input shape:
        `(batch, ..., channels)`.

    Output shape:
        That of the input.

    Reference:
        Wu and He 2018, "Group normalization", section 3.1.

    Example:

    >>> norm = GroupNorm()
    >>> norm.build((None, 8, 8, 48))
    >>> norm.groups
    16
    """

    def __init__(self, groups: int = 32, epsilon: float = EPSILON, **kwargs: Any):
        super().__init__(groups=groups, epsilon=epsilon, **kwargs)

    def build(self, input_shape: Shape) -> None:
        channels = input_shape[-1]
        if channels is None:
            raise ValueError(
                f"GroupNorm must know the channels of its input, but got {input_shape}."
            )
        self.groups = math.gcd(self.groups, channels)
        super().build(input_shape)


NORMS: dict[str, Callable[..., keras.layers.Layer]] = {
    "batch": BatchNormalization,
    "sync_batch": functools.partial(BatchNormalization, synchronized=True),
    "group": GroupNorm,
}


def normalization(
    norm: Norm,
    name: str,
    zero_scale: bool = False,
    dtype: keras.DTypePolicy | str | None = None,
) -> list[keras.layers.Layer]:
    """Returns a normalization over the channels.

    Args:
        norm: `"batch"` (epsilon 1e-5, momentum 0.9), `"sync_batch"` (statistics over all
            replicas), `"group"` (32 groups), `None` for none, or a function that takes `name`,
            `gamma_initializer` and `dtype` and returns a layer, as Keras's normalizations do.
        name: Name of the layer.
        zero_scale: Whether the scale starts at zero instead of one.
        dtype: Dtype policy of the layer.

    Returns:
        One layer, or none.

    Raises:
        ValueError: If there is no such name.

    Example:

    >>> [layer.name for layer in normalization("batch", "norm1")]
    ['norm1']
    """
    if norm is None:
        return []
    if not callable(norm) and norm not in NORMS:
        raise ValueError(
            f"There is no norm {norm!r}. Give one of {', '.join(map(repr, NORMS))}, None, or a "
            "function such as keras.layers.LayerNormalization."
        )
    make = norm if callable(norm) else NORMS[norm]
    scale = "zeros" if zero_scale else "ones"
    return [make(name=name, gamma_initializer=scale, dtype=dtype)]


def norm_to_config(norm: Norm) -> Any:
    """Returns the choice of a normalization in JSON values.

    Args:
        norm: As in `normalization`.

    Returns:
        The name, `None`, or the config of a layer that the function makes.

    Example:

    >>> norm_to_config("batch")
    'batch'
    """
    return keras.saving.serialize_keras_object(norm(name="norm")) if callable(norm) else norm


def norm_from_config(config: str | dict | None) -> Norm:
    """Returns the choice of a normalization from the result of `norm_to_config`.

    Args:
        config: The name, `None`, or the config of a layer.

    Returns:
        The name, `None`, or a function that makes layers of that config.

    Example:

    >>> make = norm_from_config(norm_to_config(keras.layers.LayerNormalization))
    >>> make(name="norm2").name
    'norm2'
    """
    if not isinstance(config, dict):
        return config
    layer = keras.saving.deserialize_keras_object(config)
    return lambda **options: type(layer).from_config({**layer.get_config(), **options})
