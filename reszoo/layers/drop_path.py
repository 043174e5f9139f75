"""Stochastic depth."""

from typing import Any

import keras

from reszoo.layers.shapes import Shape


@keras.saving.register_keras_serializable(package="reszoo")
class DropPath(keras.layers.Dropout):
    """Drops the whole branch of some examples while training: stochastic depth.

    The branches kept are scaled by `1 / (1 - rate)`. Put it last in a branch.

    Args:
        rate: Share of the examples whose branch is dropped, in [0, 1].
        seed: Seed of the random choice.

    Call arguments:
        x: A tensor whose first axis is the examples.
        training: Whether branches are dropped.

    Input shape:
        `(batch, ...)`.

    Output shape:
        That of the input.

    Raises:
        ValueError: If `rate` is not in [0, 1].

    Reference:
        Huang et al. 2016, "Deep networks with stochastic depth", section 3.

    Example:

    >>> DropPath(0.5)(keras.ops.ones((4, 8, 8, 16)), training=False).shape
    TensorShape([4, 8, 8, 16])
    """

    def __init__(self, rate: float, seed: int | None = None, **kwargs: Any):
        super().__init__(rate, seed=seed, **kwargs)

    def build(self, input_shape: Shape) -> None:
        self.noise_shape = (None, *[1] * (len(input_shape) - 1))

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        del config["noise_shape"]
        return config
