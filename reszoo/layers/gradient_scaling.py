"""Layers that change only the gradient, for any place on either path."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from reszoo.layers.shapes import Shape, Tensor
from reszoo.layers.stateless import StatelessLayer


@keras.saving.register_keras_serializable(package="reszoo")
class StopGradient(StatelessLayer):
    """The identity forward, zero backward.

    Last in a branch it gives `y = x + sg(f(x))`: the branch learns nothing. First in a branch it
    gives `y = x + f(sg(x))`: the branch learns, and the layers before the block learn through the
    skip alone. For the skip there is `StopGradSkip`.

    Call arguments:
        x: A tensor of any shape.

    Input shape:
        Any.

    Output shape:
        That of the input.

    Example:

    >>> from reszoo import BasicBranch, ResidualBlock
    >>> block = ResidualBlock([StopGradient(), BasicBranch(8)])
    >>> block(keras.ops.ones((1, 4, 4, 8))).shape
    TensorShape([1, 4, 4, 8])
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x: Tensor) -> Tensor:
        return ops.stop_gradient(x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)


@keras.saving.register_keras_serializable(package="reszoo")
class GradientScale(StatelessLayer):
    """The identity forward; backward the gradient times a factor that can be set while training.

    1 lets the gradient pass, 0 stops it. The factor is a non-trainable variable, so that a change
    takes effect at once in a compiled training step.

    Args:
        scale: Factor of the gradient, in [0, 1].

    Call arguments:
        x: A tensor of any shape.

    Input shape:
        Any.

    Output shape:
        That of the input.

    Raises:
        ValueError: If `scale` is not in [0, 1].

    Example:

    >>> gate = GradientScale(1.0)
    >>> gate.set_scale(0.25)
    >>> float(gate.scale)
    0.25
    """

    def __init__(self, scale: float = 1.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(_checked_scale(scale)),
            trainable=False,
            autocast=False,
            name="scale",
        )
        self.supports_masking = True

    def set_scale(self, scale: float) -> None:
        """Sets the factor of the gradient from now on.

        Args:
            scale: A number in [0, 1].

        Raises:
            ValueError: If it is not in [0, 1].
        """
        self.scale.assign(_checked_scale(scale))

    def call(self, x: Tensor) -> Tensor:
        return _scale_gradient(x, ops.convert_to_tensor(self.scale))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": float(self.scale)}


@ops.custom_gradient
def _scale_gradient(x: Tensor, scale: Tensor) -> tuple[Tensor, Callable]:
    def gradient(*arguments: Tensor, upstream: Tensor = None) -> tuple[Tensor, Tensor]:
        if upstream is None:
            (upstream,) = arguments
        return upstream * ops.cast(scale, upstream.dtype), ops.zeros_like(scale)

    return ops.copy(x), gradient


def _checked_scale(scale: float) -> float:
    if not 0.0 <= scale <= 1.0:
        raise ValueError(f"GradientScale takes a scale in [0, 1], but got {scale!r}.")
    return float(scale)
