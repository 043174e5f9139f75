"""The branch of each block of a network, made of `BasicBranch` and `BottleneckBranch`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import keras

from reszoo.layers import BasicBranch, BottleneckBranch, pre_activation
from reszoo.layers.branches import PostActivationBranch
from reszoo.layers.convolution import convolution_before
from reszoo.layers.normalization import Norm
from reszoo.layers.shapes import entries
from reszoo.models.stages import BlockSpec


@dataclass(frozen=True)
class Normalization:
    """Layers between the convolutions; `ResNet` explains the fields."""

    norm: Norm = "batch"
    activation: str | Callable = "relu"
    zero_init_last_scale: bool = False
    preactivation: bool = False


Branch = keras.layers.Layer | Sequence[keras.layers.Layer]
BranchChoice = Callable[[BlockSpec, Normalization], Branch]


def basic(block: BlockSpec, normalization: Normalization) -> BasicBranch:
    """Two 3x3 convolutions, the stride on the first."""
    order = normalization.activation, normalization.zero_init_last_scale, normalization.norm
    return BasicBranch(block.filters, block.strides, *order, block.dilations, block.padding)


@dataclass(frozen=True)
class Bottleneck:
    """A 1x1, a 3x3 and a 1x1 convolution.

    Attributes:
        groups: Groups of the 3x3 convolution (ResNeXt's cardinality).
        group_width: Filters of each group of the 3x3 convolution in a stage of 64 filters.
        strides_on: Kernel size of the convolution with the stride: 3 is "v1.5", 1 is "v1".
        output_bias: Whether the last convolution has a bias, as in keras.applications' V2.
    """

    groups: int = 1
    group_width: int = 64
    strides_on: int = 3
    output_bias: bool = False

    def __call__(self, block: BlockSpec, normalization: Normalization) -> BottleneckBranch:
        """Returns the branch of a block, with the block's filters, stride and dilation."""
        strides = block.strides if self.strides_on == 3 else 1
        inner = convolution_before(normalization.norm)(
            # At least one filter per group, so that narrow networks work.
            max(1, block.filters * self.group_width // 64) * self.groups,
            3,
            strides=strides,
            groups=self.groups,
            dilation_rate=block.dilations[0],
            padding=block.padding if max(entries(strides)) > 1 else "symmetric",
            name="conv2",
        )
        order = normalization.activation, normalization.zero_init_last_scale, normalization.norm
        branch = BottleneckBranch(block.filters, block.strides, 4, *order, inner)
        branch.convolutions[-1].use_bias |= self.output_bias
        return branch


def in_order(
    branch: Branch, normalization: Normalization, activated: bool = False
) -> list[keras.layers.Layer]:
    """Returns the layers of a branch, in the order of the network.

    Args:
        branch: What a `BranchChoice` returns. The convolutions of `BasicBranch` and
            `BottleneckBranch` are put into pre-activation order where the network has it; other
            layers stay as they are.
        normalization: The layers between the convolutions.
        activated: Whether the input is normalized and activated already.

    Example:

    >>> branch = [BasicBranch(8), keras.layers.ZeroPadding2D(name="pad")]
    >>> [layer.name for layer in in_order(branch, Normalization(preactivation=True), True)]
    ['conv1', 'norm2', 'activation2', 'conv2', 'pad']
    """
    norm, activation = normalization.norm, normalization.activation
    layers = []
    for part in branch if isinstance(branch, list | tuple) else [branch]:
        if not isinstance(part, PostActivationBranch):
            layers.append(part)
        elif normalization.preactivation:
            layers += pre_activation(part.convolutions, norm, activation, activated and not layers)
        else:
            layers += part.layers
    return layers
