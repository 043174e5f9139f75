"""Residual networks of dense layers."""

import keras

from reszoo.layers import Chain, ResidualBlock, normalization, pre_activation
from reszoo.layers.convolution import check_positive_integer
from reszoo.layers.normalization import Norm
from reszoo.models.shortcuts import ShortcutChoice, shortcut_choice


def ResidualMLP(
    num_classes: int = 10,
    input_shape: tuple[int, ...] = (784,),
    width: int = 256,
    blocks: int = 4,
    shortcut: str | ShortcutChoice = "projection",
    norm: Norm = "batch",
    name: str = "residual_mlp",
) -> keras.Model:
    """A residual network of dense layers: two to a block, in pre-activation order.

    Residual learning is not only for images. Blocks are named `stage1_block1` and so on.

    Args:
        num_classes: Number of logits; 0 gives the features before them.
        input_shape: Shape of one example; more than one axis is flattened.
        width: Units of every dense layer.
        blocks: Number of blocks.
        shortcut: As in `ResNet`; all but `"gated"` and `"always_projection"`, which convolve.
        norm: As in `ResNet`.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from examples to logits `(batch, num_classes)`.

    Raises:
        ValueError: If an argument is out of range.

    Reference:
        He et al. 2016, "Identity mappings in deep residual networks", figure 1(b), with dense
        layers in the place of convolutions.

    Example:

    >>> ResidualMLP(input_shape=(8, 8, 1), width=16).output_shape
    (None, 10)
    """
    for argument, value in (("width", width), ("blocks", blocks)):
        check_positive_integer(value, argument, "ResidualMLP")
    choose = shortcut_choice(shortcut, _no_projection)
    dtype = keras.config.dtype_policy().variable_dtype
    inputs = keras.Input(input_shape, dtype=dtype, name="examples")
    x = keras.layers.Flatten(name="flatten")(inputs) if len(input_shape) > 1 else inputs
    x = keras.layers.Dense(width, kernel_initializer="he_normal", name="stem")(x)
    for block in range(1, blocks + 1):
        dense = [
            keras.layers.Dense(width, kernel_initializer="he_normal", name=f"dense{i}")
            for i in (1, 2)
        ]
        x = ResidualBlock(
            pre_activation(dense, norm), choose(width, width, 1), name=f"stage1_block{block}"
        )(x)
    activation = keras.layers.Activation("relu", name="activation")
    x = Chain([*normalization(norm, "norm"), activation], name="postactivation")(x)
    if num_classes:
        check_positive_integer(num_classes, "num_classes", "ResidualMLP")
        dtype = keras.backend.result_type(keras.config.dtype_policy().compute_dtype, "float32")
        x = keras.layers.Dense(num_classes, dtype=dtype, name="logits")(x)
    return keras.Model(inputs, x, name=name)


def _no_projection(filters, strides):
    raise ValueError(
        "ResidualMLP keeps its width, so it has no projections. Give another shortcut, for example "
        '"projection" (the identity here), "none" or "stop_gradient".'
    )
