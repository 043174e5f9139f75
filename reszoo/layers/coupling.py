"""Branches that read one half of the channels and write the other."""

from typing import Any

import keras
from keras import ops

from reszoo.layers.configured import Configured
from reszoo.layers.residual_block import Path, as_layer
from reszoo.layers.shapes import Shape, Tensor
from reszoo.layers.symbolic import build, output_of

# The half of the channels that is read, by the half that is written.
_READS = {"first": 1, "second": 0}


@keras.saving.register_keras_serializable(package="reszoo")
class Coupling(Configured):
    """A branch that reads one half of the channels and writes the other, `f(x) = (F(x2), 0)`.

    In a residual block with an identity shortcut, `y = x + f(x)`, the half that the branch reads is
    the same in `x` and `y`. So `f(y) = f(x)`, and the block's input is `x = y - f(y)`, however
    complicated `F` is: it need not have an inverse.

    Args:
        branch: A Keras layer, a list of them, or `None` for the identity: `F`, which takes one half
            of the channels.
        writes: The half that it writes, `"first"` or `"second"`; it reads the other one.

    Call arguments:
        x: A tensor with an even number of channels, which are its last axis.

    Input shape:
        `(..., channels)`.

    Output shape:
        That of `branch`, with twice its channels; half of them are zero.

    Raises:
        ValueError: If `writes` is something else; when built, if the number of channels is odd or
            unknown.

    Reference:
        Dinh et al. 2014, "NICE: Non-linear independent components estimation", section 3.2;
        Gomez et al. 2017, "The reversible residual network", equation 6.

    Example:

    >>> coupling = Coupling([keras.layers.Dense(2, kernel_initializer="ones")], writes="first")
    >>> coupling(keras.ops.convert_to_tensor([[1.0, 2.0, 3.0, 4.0]])).numpy().tolist()
    [[7.0, 7.0, 0.0, 0.0]]
    """

    arguments = ("branch", "writes")

    def __init__(self, branch: Path, writes: str, **kwargs: Any):
        super().__init__(**kwargs)
        if writes not in _READS:
            raise ValueError(f'writes must be "first" or "second", but is {writes!r}.')
        self.branch = as_layer(branch, "branch", self)
        self.writes = writes

    @property
    def strides(self) -> int | tuple[int, ...]:
        """The stride of the branch, in pixels."""
        return getattr(self.branch, "strides", 1)

    def build(self, input_shape: Shape) -> None:
        if not input_shape[-1] or input_shape[-1] % 2:
            raise ValueError(
                f"{self.name!r} splits the channels into two halves, so their number must be even "
                f"and known, but the input has shape {tuple(input_shape)}."
            )
        build(self.branch, self._half(input_shape))

    def call(self, x: Tensor) -> Tensor:
        halves: Any = ops.split(x, 2, axis=-1)
        written = ops.cast(self.branch(halves[_READS[self.writes]]), x.dtype)
        both = [written, ops.zeros_like(written)]
        return ops.concatenate(both if self.writes == "first" else both[::-1], axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        *others, channels = tuple(output_of(self.branch, self._half(input_shape)).shape)
        return (*others, 2 * channels)

    def _half(self, shape: Shape) -> keras.KerasTensor:
        *others, channels = shape
        return keras.KerasTensor((*others, (channels or 0) // 2), self.compute_dtype)
