"""The stages of a convolutional network: the filters, stride and dilation of each block."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import keras

from reszoo.layers import Convolution
from reszoo.layers.shapes import Size, check_positive_integers, joined, per_axis, size_of

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
        strides: Stride of the block in pixels, along every axis, or one for each.
        dilations: Dilation rates of the block's first 3x3 convolution and of those after it.
        padding: Padding of a convolution with a stride, as in `Convolution`.
    """

    name: str
    number: int
    filters: int
    strides: Size = 1
    dilations: tuple[Size, Size] = (1, 1)
    padding: str = "symmetric"

    @property
    def stage(self) -> str:
        """Name of the block's stage, `stage1` and so on."""
        return self.name.split("_")[0]


@dataclass(frozen=True)
class Stages:
    """The stem and the stages; `ResNet` explains the fields."""

    blocks: tuple[int, ...]
    width: int | tuple[int, ...] = 64
    stem: str | Callable[[MakeConvolution, int], list[keras.layers.Layer]] = "imagenet"
    stem_width: int | None = None
    stage_strides: tuple[Size, ...] | None = None
    strides_at: str = "first"
    output_stride: int | None = None

    def check(self, owner: str, axes: int) -> None:
        """Checks the sizes.

        Args:
            owner: The model that errors name.
            axes: Number of spatial axes.

        Raises:
            ValueError: If a size is not a positive integer, or there are not as many as stages.
        """
        if isinstance(self.width, tuple | list):
            self._check_number(owner, "width", self.width)
            for width in self.width:
                check_positive_integers(owner, width=width)
        else:
            check_positive_integers(owner, width=self.width)
        if self.stage_strides is not None:
            self._check_number(owner, "stage_strides", self.stage_strides)
            for strides in self.stage_strides:
                size = size_of(owner, "an entry of stage_strides", strides)
                per_axis(owner, "an entry of stage_strides", size, axes)

    def _check_number(self, owner: str, option: str, values: Sequence) -> None:
        if not isinstance(values, tuple | list) or len(values) != len(self.blocks):
            raise ValueError(
                f"{owner} got {option}={values} for {len(self.blocks)} stages of {self.blocks} "
                "blocks, but there must be one entry for each stage."
            )

    @property
    def widths(self) -> tuple[int, ...]:
        """Filters of each stage."""
        if isinstance(self.width, tuple | list):
            return tuple(self.width)
        return tuple(self.width * 2**stage for stage in range(len(self.blocks)))

    @property
    def width_of_stem(self) -> int:
        """Filters of the stem."""
        return self.stem_width or Stages((1,), self.width).widths[0]

    def stem_convolutions(self, stem: str, convolution: MakeConvolution) -> list[Convolution]:
        """Returns the convolutions of a stem that has a name.

        Args:
            stem: Name of the stem, a key of `STEMS`.
            convolution: Function that makes one convolution.
        """
        convolutions = []
        for number, (part, kernel_size, strides) in enumerate(STEMS[stem], start=1):
            filters = max(1, self.width_of_stem // part)
            keeps_size = {"padding": "symmetric"} if strides == 1 else {}
            convolutions.append(
                convolution(filters, kernel_size, strides, name=f"conv{number}", **keeps_size)
            )
        return convolutions

    def specs(
        self, stem_strides: Sequence[int | Fraction], padding: str = "symmetric"
    ) -> Iterator[BlockSpec]:
        """Yields the sizes of each block.

        Args:
            stem_strides: Stride along each axis of the feature map at the first block's input, in
                pixels.
            padding: Padding of a convolution with a stride.

        Raises:
            ValueError: If `output_stride` is smaller than a stride of the stem.

        Example:

        >>> specs = Stages((1, 1)).specs(stem_strides=(4, 4))
        >>> [(spec.name, spec.filters, spec.strides) for spec in specs]
        [('stage1_block1', 64, 1), ('stage2_block1', 128, 2)]
        """
        axes, number = len(stem_strides), 0
        reached, dilations = tuple(stem_strides), (1,) * axes
        stages = zip(self.blocks, self.widths, self._strides_of_stages(axes), strict=True)
        for stage, (count, filters, of_stage) in enumerate(stages, start=1):
            for block in range(1, count + 1):
                number, before, strides = number + 1, dilations, (1,) * axes
                if block == (1 if self.strides_at == "first" else count):
                    strides = self._within_limit(reached, of_stage)
                    reached = tuple(map(math.prod, zip(reached, strides, strict=True)))
                    kept = zip(of_stage, strides, before, strict=True)
                    dilations = tuple(rate * step // taken for step, taken, rate in kept)
                name, rates = f"stage{stage}_block{block}", (joined(before), joined(dilations))
                yield BlockSpec(name, number, filters, joined(strides), rates, padding)

    def _strides_of_stages(self, axes: int) -> list[tuple[int, ...]]:
        strides = self.stage_strides
        if strides is None:
            rest = (2,) * (len(self.blocks) - 1)
            strides = (1, *rest) if self.strides_at == "first" else (*rest, 1)
            strides = strides[: len(self.blocks)]
        sizes = [size_of("ResNet", "stage_strides", size) for size in strides]
        return [per_axis("ResNet", "stage_strides", size, axes) for size in sizes]

    def _within_limit(
        self, reached: Sequence[int | Fraction], strides: Sequence[int]
    ) -> tuple[int, ...]:
        """Returns the strides, with 1 along each axis where they would exceed `output_stride`."""
        limit = self.output_stride
        if limit is None:
            return tuple(strides)
        if max(reached) > limit:
            raise ValueError(
                f"output_stride={limit} is smaller than the stride {max(reached)} of the stem, but "
                f"it must be {max(reached)}, {2 * max(reached)} or more."
            )
        pairs = zip(reached, strides, strict=True)
        return tuple(step if so_far * step <= limit else 1 for so_far, step in pairs)
