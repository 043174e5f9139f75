"""Residual networks of convolutions, all assembled from the same kind of description."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import keras

from reszoo.layers import (
    AveragePool,
    Chain,
    Convolution,
    MaxPool,
    ProjectionShortcut,
    SqueezeExcitation,
    normalization,
    post_activation,
    pre_activation,
)
from reszoo.layers.convolution import convolution_before
from reszoo.layers.shapes import (
    SPATIAL_AXES,
    Shape,
    Size,
    Tensor,
    check_padding,
    check_positive_integers,
    entries,
)
from reszoo.layers.symbolic import output_of, strides_of
from reszoo.models.branches import Branch, BranchChoice, Normalization, basic, in_order
from reszoo.models.gates import GateChoice, gate_choice
from reszoo.models.options import Description, Regularization, logits
from reszoo.models.shortcuts import ShortcutChoice, shortcut_choice
from reszoo.models.stages import STEMS, BlockSpec, Stages

_GLOBAL_AVERAGE = {
    1: keras.layers.GlobalAveragePooling1D,
    2: keras.layers.GlobalAveragePooling2D,
    3: keras.layers.GlobalAveragePooling3D,
}


@dataclass(frozen=True)
class Task:
    """Input and output; `ResNet` explains the fields."""

    num_classes: int = 1000
    input_shape: tuple[int | None, ...] = (224, 224, 3)
    spatial_axes: int = 2
    features: tuple[str, ...] = ()
    head_bias: bool = True

    def check(self, owner: str) -> None:
        """Checks the shape of the input and the number of classes.

        Args:
            owner: The model that errors name.

        Raises:
            ValueError: If the shape has another number of axes, or a number is out of range.
        """
        axes, shape = self.spatial_axes, self.input_shape
        if axes not in SPATIAL_AXES:
            raise ValueError(f"{owner} got spatial_axes={axes!r}, but it must be 1, 2 or 3.")
        if len(shape) != axes + 1 or shape[-1] is None:
            given = SPATIAL_AXES.get(len(shape) - 1)
            cure = f" For ({given}, channels) give spatial_axes={len(shape) - 1}." if given else ""
            raise ValueError(
                f"input_shape of {owner} must be ({SPATIAL_AXES[axes]}, channels) with a known "
                f"number of channels, for example {(32,) * axes + (3,)}, but got {shape!r}."
                + cure
                * (len(shape) != axes + 1)
            )
        if self.num_classes != 0:
            check_positive_integers(owner, num_classes=self.num_classes)


@dataclass(frozen=True)
class Block:
    """The two paths of each block and how they meet; `ResNet` explains the fields."""

    branch: BranchChoice = basic
    shortcut: str | ShortcutChoice = "projection"
    gate: str | GateChoice | None = None
    pooled_projection: bool = False
    squeeze_excitation: int = 0
    padding: str = "symmetric"
    remat: bool = False


class ResNet(Description):
    """Description of a residual network; calling it makes the `keras.Model`.

    `ResNet18`, `WideResNet28x10` and the others are instances. A call takes any of the options
    below, for that model only: `ResNet18(num_classes=10, norm="group")`. It makes a functional
    `keras.Model` from images to logits `(batch, num_classes)`, in float32 also under mixed
    precision. Blocks are `ResidualBlock`s named `stage1_block1` and so on.

    The options are kept in five groups: `task`, the input and the output; `stages`, `block` and
    `normalization`, the architecture; and `regularization`.

    Args:
        name: Name of the models that it makes.
        description: One line on the network, as `list_models` shows it.
        blocks: Number of blocks of each stage (the first of the group `stages`).
        width: Filters of the first stage (inner ones, in bottlenecks), which every stage doubles;
            or a tuple of the filters of each stage.
        stem: `"imagenet"` (7x7 convolution of stride 2, then max pooling), `"deep"` (three 3x3
            convolutions, then max pooling), `"cifar"` (one 3x3 convolution, for small images), or a
            function of a maker of convolutions and the stem's filters that returns layers.
        stem_width: Filters of the stem; `None` for those of the first stage.
        stage_strides: Stride of each stage in pixels, a number along every axis or a tuple of one
            for each, as `(1, (1, 2, 2), (1, 2, 2), 2)`; `None` for 2 in all but one.
        strides_at: The block of a stage that has its stride, `"first"`, where the first stage has
            none by default, or `"last"`, where the last has none (as keras.applications' V2).
        output_stride: Largest stride of the feature maps, in pixels; stages after it dilate their
            convolutions instead. `None` for no limit.
        branch: The branch of every block (the first of the group `block`):
            `reszoo.models.branches.basic`, a `Bottleneck()` of the same file, or another function
            of a `BlockSpec` and a `Normalization` that returns a layer or a list of layers.
        shortcut: The shortcut of every block: `"projection"` (identity, and a projection where
            the shape changes: option B), `"always_projection"` (C), `"zero_pad"` (without
            parameters: A), `"none"` (a plain network), `"stop_gradient"`, `"constant_scale"`,
            `"gated"`, `"dropout"`, or a function of `(input_channels, filters, strides)` that
            returns a Keras layer or `None`.
        gate: The gate on the two paths, forward or backward: `None` (no gate),
            `"stop_branch_output"`, `"stop_branch_input"`, `"stop_skip"` (kept for configurations of
            earlier versions; with the default shortcut the same as `shortcut="stop_gradient"`),
            `"scale_branch"`, `"scale_skip"`, `"half_both"`, `"exclusive"`, or a function as
            `reszoo.models.gates.gate_choice` takes it.
        pooled_projection: Whether projections average over pixels instead of skipping them (D).
        squeeze_excitation: Channels per unit of the squeeze-and-excitation in each branch, or 0
            for none.
        padding: Padding of convolutions and poolings with a stride: `"symmetric"` (torchvision),
            `"same"` (TensorFlow and Caffe, which pad at the end) or `"valid"` (none). Weights fit
            whichever is chosen, and only the one that they were trained with gives their outputs.
        remat: Whether each block's paths are run again in the backward pass, so that of a block
            only its input is kept for it: less memory, more time, the same gradients.
        norm: `"batch"`, `"sync_batch"`, `"group"` (with weight standardization), `None`, or a
            function that makes a layer, as `reszoo.layers.normalization` takes it (the first of
            the group `normalization`).
        activation: The activation everywhere, anything `keras.activations.get` takes.
        zero_init_last_scale: Whether the scale of each block's last normalization starts at zero.
        preactivation: Whether normalization and activation come before each convolution.
        drop_path: Stochastic depth: share of the examples that drop the last block's branch while
            training; it rises linearly over the blocks (Huang et al. 2016, equation 4). The first
            of the group `regularization`.
        branch_scale: Start of a learned factor of each branch, or `None` for none. With 0.0 it is
            ReZero; with `norm=None` as well, SkipInit.
        num_classes: Number of logits; 0 gives the pooled features instead (the first of the group
            `task`).
        input_shape: `(height, width, channels)` of the images, in pixels; sizes may be `None`.
        spatial_axes: 1 for sequences, 2 for images, 3 for volumes.
        features: Names of stages or blocks (`"stage2"`, `"stage3_block1"`, `"stem"`): the model
            then gives a dictionary of these feature maps instead of logits.
        head_bias: Whether the logits have a bias.

    Raises:
        ValueError: If there is no such option; when called, if one is out of range.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition"; He et al. 2016, "Identity
        mappings in deep residual networks".

    Example:

    >>> from reszoo import ResNet18
    >>> model = ResNet18(num_classes=10, input_shape=(32, 32, 3), stem="cifar", width=8)
    >>> model.output_shape
    (None, 10)
    """

    groups: ClassVar = {
        "task": Task,
        "stages": Stages,
        "block": Block,
        "normalization": Normalization,
        "regularization": Regularization,
    }
    task: Task
    stages: Stages
    block: Block
    normalization: Normalization
    regularization: Regularization

    def __init__(self, name: str, description: str, blocks: tuple[int, ...], **options: Any):
        super().__init__(name, description, blocks=blocks, **options)

    def __call__(
        self,
        num_classes: int | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        stem: str | None = None,
        width: int | tuple[int, ...] | None = None,
        shortcut: str | ShortcutChoice | None = None,
        **changes: Any,
    ) -> keras.Model:
        """Makes a model of the network.

        Args:
            num_classes: Number of logits; `None`, here and below, for the description's own.
            input_shape: `(height, width, channels)` of the images, in pixels.
            stem: `"imagenet"`, `"deep"` or `"cifar"`, as in `ResNet`.
            width: Filters of the first stage, or of each, as in `ResNet`.
            shortcut: The shortcut of every block, as in `ResNet`.
            **changes: Any other options of `ResNet`, with their values for this model.

        Returns:
            A functional `keras.Model`.

        Raises:
            ValueError: If there is no such option, or one is out of range.
        """
        first = {"num_classes": num_classes, "input_shape": input_shape, "stem": stem}
        first |= {"width": width, "shortcut": shortcut}
        changes |= {option: value for option, value in first.items() if value is not None}
        return super().__call__(**changes)

    def _check(self) -> None:
        self.task.check(self.name)
        self.stages.check(self.name, self.task.spatial_axes)
        check_padding(self.name, self.block.padding)
        stem = self.stages.stem
        if not callable(stem) and stem not in STEMS:
            raise ValueError(f'stem must be "imagenet", "deep" or "cifar", but got {stem!r}.')
        self.regularization.check()
        if self.normalization.zero_init_last_scale and self.normalization.preactivation:
            raise ValueError(
                "zero_init_last_scale=True needs a normalization at the end of a branch, and a "
                "pre-activation branch has none. Use branch_scale=0.0, which does the same."
            )

    def _model(self) -> keras.Model:
        # Keras's default is float32, which would round images in float64.
        dtype = keras.config.dtype_policy().variable_dtype
        inputs = keras.Input(self.task.input_shape, dtype=dtype, name="images")
        stem = Chain(self._stem(), name="stem")
        x = stem(inputs)
        specs = list(self.stages.specs(self._stem_strides(stem, inputs), self.block.padding))
        maps = {"stem": x, **self._blocks(x, specs)}
        x = maps[specs[-1].stage] if specs else x
        outputs = self._chosen(maps) if self.task.features else self._head(x)
        return keras.Model(inputs, outputs, name=self.name)

    def _stem_strides(self, stem: Chain, inputs: Tensor) -> tuple[int | Fraction, ...]:
        if self.stages.output_stride is None:
            return (1,) * self.task.spatial_axes  # no block depends on it
        return strides_of(stem, keras.KerasTensor(inputs.shape, inputs.dtype))

    def _blocks(self, x: Tensor, specs: Sequence[BlockSpec]) -> dict[str, Tensor]:
        """Returns the feature maps of blocks and stages, by their names."""
        maps = {}
        for spec in specs:
            x = self._block(x, spec)
            maps |= {spec.name: x, spec.stage: x}
        return maps

    def _stem(self) -> list[keras.layers.Layer]:
        stem, norm, activation = self.stages.stem, self.normalization.norm, self._activation
        if callable(stem):
            return stem(self._convolution, self.stages.width_of_stem)
        convolutions = self.stages.stem_convolutions(stem, self._convolution)
        if self.normalization.preactivation:
            # The normalization and activation after the last convolution belong to the first block.
            layers = pre_activation(
                convolutions, norm, self.normalization.activation, activated=True
            )
        else:
            layers = post_activation(convolutions, norm, self.normalization.activation)
            layers.append(activation(f"activation{len(convolutions)}"))
        return layers if stem == "cifar" else [*layers, self._stem_pool()]

    def _stem_pool(self) -> MaxPool:
        return MaxPool(padding=self.block.padding, name="pool")

    def _block(self, x: Tensor, spec: BlockSpec) -> Tensor:
        branch = self.block.branch(spec, self.normalization)
        filters, preactivation = self._filters(branch, x.shape), self.normalization.preactivation
        activated = preactivation and x.shape[-1] != filters
        if activated:
            # Where the shape changes both paths start from the activated input (He et al. 2016).
            x = self._activated(x, f"{spec.name}_preactivation")
        layers = in_order(branch, self.normalization, activated)
        choose = shortcut_choice(self.block.shortcut, self._project)
        return gate_choice(self.block.gate, self.block.remat)(
            [*layers, *self._end_of_branch(spec.number)],
            choose(x.shape[-1], filters, spec.strides),
            activation=None if preactivation else self.normalization.activation,
            name=spec.name,
        )(x)

    def _filters(self, branch: Branch, shape: Shape) -> int:
        """Returns the number of channels that a branch makes of an input."""
        x = keras.KerasTensor(shape, keras.config.dtype_policy().compute_dtype)
        post_activation = dataclasses.replace(self.normalization, preactivation=False)
        return output_of(Chain(in_order(branch, post_activation)), x).shape[-1]

    def _end_of_branch(self, block: int) -> list[keras.layers.Layer]:
        layers = self.regularization.layers(block, sum(self.stages.blocks))
        if not self.block.squeeze_excitation:
            return layers
        squeeze = SqueezeExcitation(self.block.squeeze_excitation, name="squeeze_excitation")
        return [squeeze, *layers]

    def _project(self, filters: int, strides: Size) -> keras.layers.Layer:
        norm = self.normalization.norm
        if self.normalization.preactivation:
            convolution = self._convolution(filters, 1, strides, name="conv")
            return Chain([convolution], name="projection")
        if not self.block.pooled_projection:
            return ProjectionShortcut(filters, strides, norm, name="projection")
        padding = "valid" if self.block.padding == "valid" else "same"
        has_stride = max(entries(strides)) > 1
        pool = [AveragePool(strides, strides, padding, name="pool")] if has_stride else []
        project = ProjectionShortcut(filters, norm=norm, name="after_pool")
        return Chain([*pool, project], name="pooled_projection")

    def _activated(self, x: Tensor, name: str) -> Tensor:
        layers = [*normalization(self.normalization.norm, "norm"), self._activation("activation")]
        return Chain(layers, name=name)(x)

    def _head(self, x: Tensor) -> Tensor:
        if self.normalization.preactivation:
            x = self._activated(x, "postactivation")
        pool = _GLOBAL_AVERAGE[self.task.spatial_axes]
        x = pool(data_format="channels_last", name="pool")(x)
        task = self.task
        return logits(task.num_classes, task.head_bias)(x) if task.num_classes else x

    def _chosen(self, maps: dict[str, Tensor]) -> dict[str, Tensor]:
        unknown = [name for name in self.task.features if name not in maps]
        if unknown:
            raise ValueError(
                f"{self.name} has no feature maps {unknown}. It has: {', '.join(maps)}."
            )
        return {name: maps[name] for name in self.task.features}

    def _activation(self, name: str) -> keras.layers.Layer:
        return keras.layers.Activation(self.normalization.activation, name=name)

    @property
    def _convolution(self) -> Callable[..., Convolution]:
        return functools.partial(
            convolution_before(self.normalization.norm), padding=self.block.padding
        )
