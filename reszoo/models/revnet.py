"""Reversible residual networks: stages of blocks that couple two halves of the channels."""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from reszoo.layers import (
    AveragePool,
    Chain,
    Coupling,
    ResidualBlock,
    ReversibleBlock,
    ReversibleChain,
    ZeroPadShortcut,
)
from reszoo.layers.configured import Configured
from reszoo.layers.shapes import Shape, Size, Tensor, entries
from reszoo.layers.symbolic import build, output_of
from reszoo.models.branches import Branch, in_order
from reszoo.models.resnet import ResNet
from reszoo.models.shortcuts import shortcut_choice
from reszoo.models.stages import BlockSpec


class RevNet(ResNet):
    """Description of a reversible residual network; calling it makes the `keras.Model`.

    Options are those of `ResNet`. `branch` makes both branches of a block, each for one half of the
    channels, in pre-activation order. Where the shape is the same the shortcut is the identity, and
    where it changes each half has a shortcut of its own. A stage's blocks are in one
    `ReversibleChain`, `stage1_chain` and so on, which keeps one activation for all of them. The
    first step of a block that changes the shape is before the chain, and is stored.

    Blocks are recorded as two each, `stage1_block1_f`, `stage1_block1_g` and so on.

    Args:
        name: As in `ResNet`; so are all others.
        description: One line on the network.
        blocks: Number of blocks of each stage.
        **options: Options of `ResNet`.

    Raises:
        ValueError: If there is no such option; when called, if the width is odd, a gate or `remat`
            is given, or the shortcut is not the identity where the shape is the same.

    Reference:
        Gomez et al. 2017, "The reversible residual network: Backpropagation without storing
        activations", section 3 and appendix.

    Example:

    >>> from reszoo import RevNet38
    >>> RevNet38(width=4, blocks=(1, 1, 1)).output_shape
    (None, 10)
    """

    def __init__(self, name: str, description: str, blocks: tuple[int, ...], **options: Any):
        super().__init__(name, description, blocks, **{"preactivation": True, **options})

    def _check(self) -> None:
        super()._check()
        if any(width % 2 for width in (*self.stages.widths, self.stages.width_of_stem)):
            raise ValueError(
                f"{self.name} splits the channels into two halves, so width must be even, but is "
                f"{self.stages.width}."
            )
        if self.block.gate is not None or not self.normalization.preactivation:
            raise ValueError(
                f"{self.name} takes no gate, and preactivation must be True: the input of a "
                "reversible block must follow from its output."
            )
        if self.block.remat:
            raise ValueError(
                f"{self.name} recomputes the activations of its blocks from their outputs, so "
                "remat must be False."
            )
        if self._shortcut(2, 2, 1) is not None:
            raise ValueError(
                f"The shortcut of {self.name} must be the identity where the shape is the same, "
                f'as "projection" and "zero_pad" are, but is {self.block.shortcut!r}.'
            )

    def _blocks(self, x: Tensor, specs: Sequence[BlockSpec]) -> dict[str, Tensor]:
        # As in the paper, the stem ends in a normalization and an activation.
        x = self._activated(x, "stem_activation")
        maps = {}
        for stage, of_stage in itertools.groupby(specs, key=lambda spec: spec.stage):
            steps = []
            for spec in of_stage:
                if not steps:
                    x, steps = self._first_steps(x, spec)
                else:
                    steps.append(self._reversible_block(spec))
            x = maps[stage] = ReversibleChain(steps, name=f"{stage}_chain")(x)
        return maps

    def _first_steps(self, x: Tensor, spec: BlockSpec) -> tuple[Tensor, list[keras.layers.Layer]]:
        """Applies what of a stage's first block is stored, and returns the steps that are not."""
        half, activated = x.shape[-1] // 2, spec.number == 1
        filters = self._filters(self._half_branch(spec), (*x.shape[:-1], half))
        if spec.strides == 1 and half == filters:
            return x, [self._reversible_block(spec, activated)]
        shortcuts = [self._shortcut(half, filters, spec.strides) for _ in range(2)]
        first = Coupling(self._layers(spec, activated), "first", name="coupling")
        x = ResidualBlock(first, Halves(*shortcuts, name="halves"), name=f"{spec.name}_f")(x)
        unstrided = dataclasses.replace(spec, strides=1)
        second = Coupling(self._layers(unstrided), "second", name="coupling")
        return x, [ResidualBlock(second, name=f"{spec.name}_g")]

    def _reversible_block(self, spec: BlockSpec, activated: bool = False) -> ReversibleBlock:
        branches = self._layers(spec, activated), self._layers(spec)
        return ReversibleBlock(*branches, name=spec.name)

    def _layers(self, spec: BlockSpec, activated: bool = False) -> list[keras.layers.Layer]:
        layers = in_order(self._half_branch(spec), self.normalization, activated)
        return [*layers, *self._end_of_branch(spec.number)]

    def _half_branch(self, spec: BlockSpec) -> Branch:
        half = dataclasses.replace(spec, filters=spec.filters // 2)
        return self.block.branch(half, self.normalization)

    def _shortcut(self, channels: int, filters: int, strides: Size) -> keras.layers.Layer | None:
        return shortcut_choice(self.block.shortcut, self._project)(channels, filters, strides)


@keras.saving.register_keras_serializable(package="reszoo")
class Halves(Configured):
    """Applies a layer to each half of the channels.

    Args:
        first: The layer of the first half.
        second: The layer of the second half.

    Call arguments:
        x: A tensor with an even number of channels, which are its last axis.

    Example:

    >>> halves = Halves(keras.layers.Identity(), keras.layers.Rescaling(2.0))
    >>> halves(ops.ones((1, 4))).numpy().tolist()
    [[1.0, 1.0, 2.0, 2.0]]
    """

    arguments = ("first", "second")

    def __init__(self, first: keras.layers.Layer, second: keras.layers.Layer, **kwargs: Any):
        super().__init__(**kwargs)
        self.first = first
        self.second = second

    def build(self, input_shape: Shape) -> None:
        for layer in (self.first, self.second):
            build(layer, self._half(input_shape))

    def call(self, x: Tensor) -> Tensor:
        halves: Any = ops.split(x, 2, axis=-1)
        return ops.concatenate([self.first(halves[0]), self.second(halves[1])], axis=-1)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        half = output_of(self.first, self._half(input_shape))
        *others, channels = tuple(half.shape)
        return (*others, 2 * channels)

    def _half(self, shape: Shape) -> keras.KerasTensor:
        *others, channels = shape
        return keras.KerasTensor((*others, (channels or 0) // 2), self.compute_dtype)


def pooled_zero_pad(channels: int, filters: int, strides: Size) -> keras.layers.Layer | None:
    """Returns the shortcut of one half in RevNet-38 and 110: average pooling, then zero padding.

    Args:
        channels: Number of channels of the half.
        filters: Number of channels after it.
        strides: Distance of the pixels, along each axis.
    """
    if strides == 1 and channels == filters:
        return None
    has_stride = max(entries(strides)) > 1
    pool = [AveragePool(strides, strides, name="pool")] if has_stride else []
    return Chain([*pool, ZeroPadShortcut(filters, name="zero_pad")], name="pooled_zero_pad")
