"""A path times a number: constant, or learned."""

from typing import Any

import keras

from reszoo.layers.configured import Configured
from reszoo.layers.shapes import Shape, Tensor


@keras.saving.register_keras_serializable(package="reszoo")
class ConstantScale(Configured):
    """Multiplies a path by a constant; its gradient is multiplied by the same.

    On the shortcut it is the constant scaling of He et al. 2016.

    Args:
        scale: The factor of the path and of its gradient.

    Call arguments:
        x: A tensor of any shape.

    Input shape:
        Any.

    Output shape:
        That of the input.

    Reference:
        He et al. 2016, "Identity mappings in deep residual networks", section 3.1.

    Example:

    >>> float(ConstantScale(0.5)(keras.ops.ones(())))
    0.5
    """

    arguments = ("scale",)

    def __init__(self, scale: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.scale = float(scale)
        self.supports_masking = True

    def call(self, x: Tensor) -> Tensor:
        return x * keras.ops.cast(self.scale, x.dtype)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)


@keras.saving.register_keras_serializable(package="reszoo")
class LearnedScale(Configured):
    """Multiplies a path by one learned number, SkipInit and ReZero.

    Put it last in a branch. From a start at zero, every block begins as its shortcut, so that deep
    networks train without normalization (SkipInit) or faster with it (ReZero).

    Args:
        initial_scale: The factor at the start of training.

    Call arguments:
        x: A tensor of any shape.

    Input shape:
        Any.

    Output shape:
        That of the input.

    Reference:
        De and Smith 2020, "Batch normalization biases residual blocks towards the identity
        function in deep networks", section 4; Bachlechner et al. 2020, "ReZero is all you need",
        equation 1.

    Example:

    >>> float(LearnedScale()(keras.ops.ones(())))
    0.0
    """

    arguments = ("initial_scale",)

    def __init__(self, initial_scale: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.initial_scale = float(initial_scale)
        self.supports_masking = True

    def build(self, input_shape: Shape) -> None:
        initializer = keras.initializers.Constant(self.initial_scale)
        self.scale = self.add_weight(shape=(), initializer=initializer, name="scale")

    def call(self, x: Tensor) -> Tensor:
        return x * self.scale

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return tuple(input_shape)
