"""The convolutions of each block and of the stem: where the networks differ in kernels."""

from collections.abc import Callable
from dataclasses import dataclass

from reszoo.layers import Convolution

MakeConvolution = Callable[..., Convolution]


@dataclass(frozen=True)
class Place:
    """Where a block stands in its network.

    Attributes:
        name: `stage1_block1` and so on.
        filters: Filters of the stage, before a branch's expansion.
        strides: Stride of the block, in pixels.
        dilations: Dilation rates of the block's first 3x3 convolution and of those after it.
        drop_path: Share of the examples whose branch is dropped while training.
    """

    name: str
    filters: int
    strides: int = 1
    dilations: tuple[int, int] = (1, 1)
    drop_path: float = 0.0


@dataclass(frozen=True)
class Basic:
    """Two 3x3 convolutions, the stride on the first (He et al. 2015, figure 5 left)."""

    expansion: int = 1

    def __call__(self, convolution: MakeConvolution, place: Place) -> list[Convolution]:
        """Returns the convolutions, first to last."""
        first, second = place.dilations
        filters = place.filters
        return [
            convolution(filters, 3, place.strides, dilation_rate=first, name="conv1"),
            convolution(filters * self.expansion, 3, dilation_rate=second, name="conv2"),
        ]


@dataclass(frozen=True)
class Bottleneck:
    """A 1x1, a 3x3 and a 1x1 convolution (He et al. 2015, figure 5 right).

    Attributes:
        groups: Groups of the 3x3 convolution (ResNeXt's cardinality).
        group_width: Filters of each group of the 3x3 convolution in a stage of 64 filters.
        strides_on: Kernel size of the convolution with the stride: 3 is "v1.5", 1 is "v1".
        expansion: Output channels per filter of the stage.
        output_bias: Whether the last convolution has a bias (keras.applications' V2 has).
    """

    groups: int = 1
    group_width: int = 64
    strides_on: int = 3
    expansion: int = 4
    output_bias: bool = False

    def __call__(self, convolution: MakeConvolution, place: Place) -> list[Convolution]:
        """Returns the convolutions, first to last."""
        # At least one filter a group, so that narrow networks work.
        inner = max(1, place.filters * self.group_width // 64) * self.groups
        first, third = (1, place.strides) if self.strides_on == 3 else (place.strides, 1)
        options = {"groups": self.groups, "dilation_rate": place.dilations[0]}
        bias = {"use_bias": True} if self.output_bias else {}
        return [
            convolution(inner, 1, first, name="conv1"),
            convolution(inner, 3, third, name="conv2", **options),
            convolution(place.filters * self.expansion, 1, name="conv3", **bias),
        ]


def imagenet_stem(convolution: MakeConvolution, width: int) -> list[Convolution]:
    """One 7x7 convolution of stride 2."""
    return [convolution(width, 7, 2, name="conv1")]


def deep_stem(convolution: MakeConvolution, width: int) -> list[Convolution]:
    """Three 3x3 convolutions, the first of stride 2 and half the width (He et al. 2019)."""
    half = max(1, width // 2)
    return [
        convolution(half, 3, 2, name="conv1"),
        convolution(half, 3, name="conv2"),
        convolution(width, 3, name="conv3"),
    ]


def cifar_stem(convolution: MakeConvolution, width: int) -> list[Convolution]:
    """One 3x3 convolution."""
    return [convolution(width, 3, name="conv1")]
