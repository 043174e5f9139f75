"""Residual networks of dense layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import keras

from reszoo.layers import Chain, normalization, pre_activation
from reszoo.layers.normalization import Norm
from reszoo.layers.shapes import Size, check_positive_integers
from reszoo.models.gates import GateChoice, gate_choice
from reszoo.models.options import Description, Regularization, logits
from reszoo.models.shortcuts import ShortcutChoice, shortcut_choice


@dataclass(frozen=True)
class Sizes:
    """The sizes of the network; `DenseResNet` explains the fields."""

    num_classes: int = 10
    input_shape: tuple[int, ...] = (784,)
    width: int = 256
    blocks: int = 4


@dataclass(frozen=True)
class DenseBlock:
    """Layers of each block; `DenseResNet` explains the fields."""

    shortcut: str | ShortcutChoice = "projection"
    gate: str | GateChoice | None = None
    norm: Norm = "batch"
    activation: str | Callable = "relu"
    remat: bool = False


class DenseResNet(Description):
    """A residual network of dense layers, two to a block, in pre-activation order.

    Residual learning is not limited to images. `ResidualMLP` is an instance; a call makes the
    `keras.Model`, and takes any of the options below, for that model only. The model maps examples
    to logits `(batch, num_classes)`. Blocks are named `stage1_block1` and so on.

    Args:
        name: Name of the models that it makes.
        description: One line on the network, as `list_models` shows it.
        num_classes: Number of logits; 0 gives the features before them (the first of the group
            `sizes`).
        input_shape: Shape of one example; more than one axis is flattened.
        width: Number of units of every dense layer.
        blocks: Number of blocks, each of two dense layers.
        shortcut: As in `ResNet`, except `"gated"` and `"always_projection"`, which are convolutions
            (the first of the group `block`).
        gate: As in `ResNet`, except `"exclusive"`, which is a convolution.
        norm: As in `ResNet`; so are `activation` and `remat`.
        drop_path: As in `ResNet` (the first of the group `regularization`).
        branch_scale: As in `ResNet`. With 0.0 a block starts as the identity, as with
            `zero_init_last_scale` where a branch ends in a normalization.

    Raises:
        ValueError: If there is no such option; when called, if one is out of range.

    Reference:
        He et al. 2016, "Identity mappings in deep residual networks", figure 1(b), with dense
        layers instead of convolutions.

    Example:

    >>> from reszoo.models import ResidualMLP
    >>> ResidualMLP(input_shape=(8, 8, 1), width=16, drop_path=0.1).output_shape
    (None, 10)
    """

    groups: ClassVar = {
        "sizes": Sizes,
        "block": DenseBlock,
        "regularization": Regularization,
    }
    sizes: Sizes
    block: DenseBlock
    regularization: Regularization

    def _check(self) -> None:
        sizes = self.sizes
        check_positive_integers(self.name, width=sizes.width, blocks=sizes.blocks)
        if sizes.num_classes != 0:
            check_positive_integers(self.name, num_classes=sizes.num_classes)
        self.regularization.check()

    def _model(self) -> keras.Model:
        sizes, dtype = self.sizes, keras.config.dtype_policy().variable_dtype
        inputs = keras.Input(sizes.input_shape, dtype=dtype, name="examples")
        several_axes = len(sizes.input_shape) > 1
        x = keras.layers.Flatten(name="flatten")(inputs) if several_axes else inputs
        x = self._dense("stem")(x)
        for block in range(1, sizes.blocks + 1):
            x = self._block(block)(x)
        activation = keras.layers.Activation(self.block.activation, name="activation")
        norm = normalization(self.block.norm, "norm")
        x = Chain([*norm, activation], name="postactivation")(x)
        outputs = logits(sizes.num_classes)(x) if sizes.num_classes else x
        return keras.Model(inputs, outputs, name=self.name)

    def _block(self, block: int) -> keras.layers.Layer:
        dense = [self._dense("dense1"), self._dense("dense2")]
        layers = pre_activation(dense, self.block.norm, self.block.activation)
        choose = shortcut_choice(self.block.shortcut, _no_projection)
        return gate_choice(self.block.gate, self.block.remat)(
            [*layers, *self.regularization.layers(block, self.sizes.blocks)],
            choose(self.sizes.width, self.sizes.width, 1),
            activation=None,
            name=f"stage1_block{block}",
        )

    def _dense(self, name: str) -> keras.layers.Layer:
        return keras.layers.Dense(self.sizes.width, kernel_initializer="he_normal", name=name)


ResidualMLP = DenseResNet(
    "residual_mlp",
    "A residual network of dense layers: two to a block, in pre-activation order.",
)


def _no_projection(filters: int, strides: Size) -> keras.layers.Layer:
    raise ValueError(
        "ResidualMLP keeps its width, so it has no projections. Give another shortcut, for example "
        '"projection" (the identity here), "none" or "stop_gradient".'
    )
