"""Residual networks of dense layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from reszoo.layers import Chain, normalization, pre_activation
from reszoo.layers.normalization import Norm
from reszoo.layers.shapes import check_positive_integers
from reszoo.models.branch_ends import check_drop_path, end_of_branch
from reszoo.models.gates import GateChoice, gate_choice
from reszoo.models.options import changed
from reszoo.models.shortcuts import ShortcutChoice, shortcut_choice


@dataclass(frozen=True)
class DenseResNet:
    """A residual network of dense layers, two to a block, in pre-activation order.

    Residual learning is not only for images. `ResidualMLP` is one; a call makes the `keras.Model`
    and takes any of the fields below as an argument, for that one model. It maps examples to logits
    `(batch, num_classes)`. Blocks are named `stage1_block1` and so on.

    Attributes:
        name: Name of the model.
        description: What it is, in one line.
        num_classes: Number of logits; 0 gives the features before them.
        input_shape: Shape of one example; more than one axis is flattened.
        width: Units of every dense layer.
        blocks: Number of blocks.
        shortcut: As in `ResNet`; all but `"gated"` and `"always_projection"`, which convolve.
        norm: As in `ResNet`.
        activation: As in `ResNet`.
        gate: As in `ResNet`; all but `"exclusive"`, which convolves.
        drop_path: As in `ResNet`.
        branch_scale: As in `ResNet`. With 0.0 a block starts as the identity, which is what
            `zero_init_last_scale` is for where a branch ends in a normalization.

    Raises:
        ValueError: If a field is out of range, or a name is unknown.

    Reference:
        He et al. 2016, "Identity mappings in deep residual networks", figure 1(b), with dense
        layers in the place of convolutions.

    Example:

    >>> from reszoo.models import ResidualMLP
    >>> ResidualMLP(input_shape=(8, 8, 1), width=16, drop_path=0.1).output_shape
    (None, 10)
    """

    name: str
    description: str
    num_classes: int = 10
    input_shape: tuple[int, ...] = (784,)
    width: int = 256
    blocks: int = 4
    shortcut: str | ShortcutChoice = "projection"
    norm: Norm = "batch"
    activation: str | Callable = "relu"
    gate: str | GateChoice | None = None
    drop_path: float = 0.0
    branch_scale: float | None = None

    def __call__(self, **changes: Any) -> keras.Model:
        """Makes the model.

        Args:
            **changes: Any fields, with their values for this model.

        Returns:
            A functional `keras.Model`.

        Raises:
            ValueError: If there is no such field, or one is out of range.
        """
        described = changed(self, changes)
        described._check()
        return described._model()

    def _check(self):
        check_positive_integers(self.name, width=self.width)
        check_positive_integers(self.name, blocks=self.blocks)
        if self.num_classes != 0:
            check_positive_integers(self.name, num_classes=self.num_classes)
        check_drop_path(self.drop_path)

    def _model(self):
        dtype = keras.config.dtype_policy().variable_dtype
        inputs = keras.Input(self.input_shape, dtype=dtype, name="examples")
        several_axes = len(self.input_shape) > 1
        x = keras.layers.Flatten(name="flatten")(inputs) if several_axes else inputs
        x = self._dense("stem")(x)
        for block in range(1, self.blocks + 1):
            x = self._block(block)(x)
        x = Chain([*normalization(self.norm, "norm"), self._activation()], name="postactivation")(x)
        if self.num_classes:
            dtype = keras.backend.result_type(keras.config.dtype_policy().compute_dtype, "float32")
            x = keras.layers.Dense(self.num_classes, dtype=dtype, name="logits")(x)
        return keras.Model(inputs, x, name=self.name)

    def _block(self, block):
        dense = pre_activation(
            [self._dense("dense1"), self._dense("dense2")], self.norm, self.activation
        )
        choose = shortcut_choice(self.shortcut, _no_projection)
        return gate_choice(self.gate)(
            [*dense, *end_of_branch(self.branch_scale, self.drop_path * block / self.blocks)],
            choose(self.width, self.width, 1),
            activation=None,
            name=f"stage1_block{block}",
        )

    def _dense(self, name):
        return keras.layers.Dense(self.width, kernel_initializer="he_normal", name=name)

    def _activation(self):
        return keras.layers.Activation(self.activation, name="activation")


ResidualMLP = DenseResNet(
    "residual_mlp",
    "A residual network of dense layers: two to a block, in pre-activation order.",
)


def _no_projection(filters, strides):
    raise ValueError(
        "ResidualMLP keeps its width, so it has no projections. Give another shortcut, for example "
        '"projection" (the identity here), "none" or "stop_gradient".'
    )
