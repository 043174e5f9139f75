"""The branch of each block of a network, made of `BasicBranch` and `BottleneckBranch`."""

from collections.abc import Callable
from dataclasses import dataclass

from reszoo.layers import BasicBranch, BottleneckBranch, Convolution
from reszoo.layers.normalization import Norm, convolution_options
from reszoo.models.stages import BlockSpec


@dataclass(frozen=True)
class Normalization:
    """Layers between the convolutions; `ResNet` explains the fields."""

    norm: Norm = "batch"
    activation: str | Callable = "relu"
    zero_init_last_scale: bool = False
    preactivation: bool = False


BranchChoice = Callable[[BlockSpec, Normalization], BasicBranch | BottleneckBranch]


def basic(block: BlockSpec, normalization: Normalization) -> BasicBranch:
    """Two 3x3 convolutions, the stride on the first."""
    order = normalization.activation, normalization.zero_init_last_scale, normalization.norm
    return BasicBranch(block.filters, block.strides, *order, block.dilations)


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
        inner = Convolution(
            # At least one filter per group, so that narrow networks work.
            max(1, block.filters * self.group_width // 64) * self.groups,
            3,
            strides=block.strides if self.strides_on == 3 else 1,
            groups=self.groups,
            dilation_rate=block.dilations[0],
            name="conv2",
            **convolution_options(normalization.norm),
        )
        order = normalization.activation, normalization.zero_init_last_scale, normalization.norm
        branch = BottleneckBranch(block.filters, block.strides, 4, *order, inner)
        branch.convolutions[-1].use_bias |= self.output_bias
        return branch
