"""The gates of He et al. 2016: factors of the paths, computed by a 1x1 convolution."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from reszoo.layers.configured import Configured
from reszoo.layers.convolution import Convolution
from reszoo.layers.residual_block import Path, ResidualBlock
from reszoo.layers.shapes import Shape, Size, Tensor, check_positive_integers, joined, size_of
from reszoo.layers.symbolic import build, output_of, strides_of


@keras.saving.register_keras_serializable(package="reszoo")
class Gate(Configured):
    """A number in (0, 1) for each pixel and channel, `g(x) = sigmoid(W x + b)`.

    Args:
        filters: Number of output channels.
        strides: Stride of the 1x1 convolution in pixels, along every spatial axis, or a tuple of
            one for each.
        initial_bias: The bias `b` at the start; a negative one closes the gate.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        `(batch, height, width, channels)`, or the same with one or three spatial axes.

    Output shape:
        `(batch, ceil(height / strides), ceil(width / strides), filters)`.

    Reference:
        He et al. 2016, "Identity mappings in deep residual networks", section 3.1.

    Example:

    >>> Gate(4)(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 8, 8, 4])
    """

    arguments = ("filters", "strides", "initial_bias")

    def __init__(self, filters: int, strides: Size = 1, initial_bias: float = 0.0, **kwargs: Any):
        super().__init__(**kwargs)
        check_positive_integers(type(self).__name__, filters=filters)
        self.filters = filters
        self.strides = size_of(type(self).__name__, "strides", strides)
        self.initial_bias = float(initial_bias)
        self.conv = Convolution(filters, 1, strides, name="conv", dtype=self.dtype_policy)
        self.conv.trainable = self.trainable

    def build(self, input_shape: Shape) -> None:
        self.conv.build(input_shape)
        initializer = keras.initializers.Constant(self.initial_bias)
        self.bias = self.add_weight(shape=(self.filters,), initializer=initializer, name="bias")

    def call(self, x: Tensor) -> Tensor:
        return ops.sigmoid(self.conv(x) + self.bias)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.conv.compute_output_shape(input_shape)


@keras.saving.register_keras_serializable(package="reszoo")
class GatedShortcut(Configured):
    """Shortcut-only gating, `(1 - g(x)) s(x)`; the branch is not changed.

    Args:
        gate: The gate `g`, a `Gate` with as many filters and the same strides as the branch.
        shortcut: The shortcut `s`, a Keras layer; `None` is the identity.

    Call arguments:
        x: A tensor of shape `(batch, height, width, channels)`.

    Input shape:
        That of `shortcut`.

    Output shape:
        That of `shortcut`.

    Raises:
        ValueError: If the gate is no layer; when built, if it ends in another shape than the
            shortcut.

    Reference:
        He et al. 2016, "Identity mappings in deep residual networks", section 3.1 and figure 2(d).

    Example:

    >>> GatedShortcut(Gate(3, initial_bias=-6.0))(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 8, 8, 3])
    """

    arguments = ("gate", "shortcut")

    def __init__(self, gate: Gate, shortcut: keras.layers.Layer | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if not isinstance(gate, keras.layers.Layer):
            raise ValueError(
                f"GatedShortcut takes a Keras layer such as Gate(64) as gate, but got {gate!r}."
            )
        self.gate = gate
        self.shortcut = keras.layers.Identity() if shortcut is None else shortcut

    def build(self, input_shape: Shape) -> None:
        x = keras.KerasTensor(input_shape, self.compute_dtype)
        for path in (self.gate, self.shortcut):
            build(path, x)
        _check_gate(self.name, self.gate, self.shortcut, x)

    def call(self, x: Tensor) -> Tensor:
        return (1.0 - self.gate(x)) * self.shortcut(x)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        x = keras.KerasTensor(input_shape, self.compute_dtype)
        return tuple(output_of(self.shortcut, x).shape)


@keras.saving.register_keras_serializable(package="reszoo")
class ExclusiveGatedBlock(ResidualBlock):
    """Exclusive gating, `y = activation((1 - g(x)) s(x) + g(x) f(x))`.

    The factors of the two paths add up to 1, as in highway networks. Each path computes its gate
    from its own side of the fork, so that the gradient through a gate counts for the path that it
    gates.

    Args:
        branch: As in `ResidualBlock`; so are `shortcut`, `activation` and `remat`.
        gate: The gate `g`, a `Gate` with as many filters and the same strides as the branch; `None`
            for such a one with an initial bias of -6, made when the block is built.

    Call arguments:
        x: A tensor that both paths take.

    Input shape:
        Any that both paths take.

    Output shape:
        That of both paths.

    Raises:
        ValueError: When built, if the gate or the shortcut ends in another shape than the branch.

    Reference:
        He et al. 2016, "Identity mappings in deep residual networks", section 3.1 and figure 2(c);
        Srivastava et al. 2015, "Highway networks".

    Example:

    >>> from reszoo import BasicBranch
    >>> block = ExclusiveGatedBlock(BasicBranch(3), Gate(3, initial_bias=-6.0))
    >>> block(keras.ops.ones((1, 8, 8, 3))).shape
    TensorShape([1, 8, 8, 3])
    """

    arguments = (*ResidualBlock.arguments, "gate")

    def __init__(
        self,
        branch: Path,
        gate: Gate | None = None,
        shortcut: Path = None,
        activation: str | Callable | None = None,
        remat: bool = False,
        **kwargs: Any,
    ):
        super().__init__(branch, shortcut, activation, remat, **kwargs)
        self.gate: Any = gate

    def build(self, input_shape: Shape) -> None:
        super().build(input_shape)
        x = self._input(input_shape)
        if self.gate is None:
            filters, strides = output_of(self.branch, x).shape[-1], strides_of(self.branch, x)
            dtype = self.dtype_policy
            self.gate = Gate(filters, joined(strides), -6.0, name="gate", dtype=dtype)
            self.gate.trainable = self.trainable
        build(self.gate, x)
        _check_gate(self.name, self.gate, self.branch, x)

    def paths(self, to_shortcut: Tensor, to_branch: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the ends of the two paths, which are added, given their beginnings."""
        shortcut = (1.0 - self.gate(to_shortcut)) * self.shortcut(to_shortcut)
        return shortcut, self.gate(to_branch) * self.branch(to_branch)


def _check_gate(
    owner: str, gate: keras.layers.Layer, gated: keras.layers.Layer, x: keras.KerasTensor
) -> None:
    """Raises an error if a gate's output cannot be multiplied by that of the path that it gates."""
    factor, path = (tuple(output_of(layer, x).shape) for layer in (gate, gated))
    if len(factor) < 2 and None not in factor:  # a number, or one for each channel
        factor = (1,) * (len(path) - len(factor)) + factor
    if len(factor) == len(path) and all(
        a in (1, b, None) or b is None for a, b in zip(factor, path, strict=True)
    ):
        return
    raise ValueError(
        f"The gate of {owner!r} must have the filters and strides of the path that it gates, but "
        f"for an input of shape {tuple(x.shape)} it ends in shape {factor} and {gated.name!r} in "
        f"shape {path}."
    )
