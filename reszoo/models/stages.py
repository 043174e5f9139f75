"""The stages of a convolutional network: the filters, stride and dilation of each block."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras

from reszoo.layers import Convolution

MakeConvolution = Callable[..., Convolution]

# (divisor of the width, size of the kernel, stride) of each convolution.
STEMS: dict[str, tuple[tuple[int, int, int], ...]] = {
    "imagenet": ((1, 7, 2),),
    "deep": ((2, 3, 2), (2, 3, 1), (1, 3, 1)),  # He et al. 2019
    "cifar": ((1, 3, 1),),
}


@dataclass(frozen=True)
class BlockSpec:
    """The sizes of one block.

    Attributes:
        name: `stage1_block1` and so on.
        number: Number of the block in the network, from 1.
        filters: Filters of the stage, before a branch's expansion.
        strides: Stride of the block, in pixels.
        dilations: Dilation rates of the block's first 3x3 convolution and of those after it.
    """

    name: str
    number: int
    filters: int
    strides: int = 1
    dilations: tuple[int, int] = (1, 1)

    @property
    def stage(self) -> str:
        """Name of the block's stage, `stage1` and so on."""
        return self.name.split("_")[0]


@dataclass(frozen=True)
class Stages:
    """The stem and the stages; `ResNet` explains the fields."""

    blocks: tuple[int, ...]
    width: int = 64
    stem: str | Callable[[MakeConvolution, int], list[keras.layers.Layer]] = "imagenet"
    stem_width: int | None = None
    strides_at: str = "first"
    output_stride: int | None = None

    def stem_convolutions(self, stem: str, convolution: MakeConvolution) -> list[Convolution]:
        """Returns the convolutions of a stem that has a name.

        Args:
            stem: Name of the stem, a key of `STEMS`.
            convolution: Function that makes one convolution.
        """
        width = self.stem_width or self.width
        return [
            convolution(max(1, width // part), kernel_size, strides, name=f"conv{number}")
            for number, (part, kernel_size, strides) in enumerate(STEMS[stem], start=1)
        ]

    def specs(self, stride: int) -> Iterator[BlockSpec]:
        """Yields the sizes of each block.

        Args:
            stride: Stride of the feature map at the first block's input, in pixels.

        Raises:
            ValueError: If `output_stride` is smaller than `stride`.

        Example:

        >>> [(spec.name, spec.filters, spec.strides) for spec in Stages((1, 1)).specs(stride=4)]
        [('stage1_block1', 64, 1), ('stage2_block1', 128, 2)]
        """
        dilation, number = 1, 0
        for stage, count in enumerate(self.blocks, start=1):
            for block in range(1, count + 1):
                number, before, strides = number + 1, dilation, 1
                if self._downsamples(stage, block):
                    strides, dilation = self._stride_or_dilation(stride, dilation)
                    stride *= strides
                name, filters = f"stage{stage}_block{block}", self.width * 2 ** (stage - 1)
                yield BlockSpec(name, number, filters, strides, (before, dilation))

    def _downsamples(self, stage: int, block: int) -> bool:
        if self.strides_at == "first":
            return stage > 1 and block == 1
        return stage < len(self.blocks) and block == self.blocks[stage - 1]

    def _stride_or_dilation(self, stride: int, dilation: int) -> tuple[int, int]:
        if self.output_stride is None or stride * 2 <= self.output_stride:
            return 2, dilation
        if stride > self.output_stride:
            raise ValueError(
                f"output_stride={self.output_stride} is smaller than the stride {stride} of the "
                f"stem, but it must be {stride}, {2 * stride} or more."
            )
        return 1, 2 * dilation
