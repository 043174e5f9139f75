"""Residual networks of convolutions: one description, from which any of them is assembled."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

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
from reszoo.layers.normalization import Norm, convolution_options
from reszoo.layers.shapes import check_positive_integers
from reszoo.models.branch_ends import check_drop_path, end_of_branch
from reszoo.models.branches import (
    Basic,
    MakeConvolution,
    Place,
    cifar_stem,
    deep_stem,
    imagenet_stem,
)
from reszoo.models.gates import GateChoice, gate_choice
from reszoo.models.options import changed
from reszoo.models.shortcuts import ShortcutChoice, shortcut_choice

BranchChoice = Callable[[MakeConvolution, Place], list[Convolution]]

_STEMS = {"imagenet": imagenet_stem, "deep": deep_stem, "cifar": cifar_stem}
BASIC = Basic()
_AXES = {1: "(steps, channels)", 2: "(height, width, channels)", 3: "(depth, height, width, ...)"}
_GLOBAL_AVERAGE = {
    1: keras.layers.GlobalAveragePooling1D,
    2: keras.layers.GlobalAveragePooling2D,
    3: keras.layers.GlobalAveragePooling3D,
}


@dataclass(frozen=True)
class ResNet:
    """A residual network, described; calling it makes the `keras.Model`.

    `ResNet18`, `WideResNet28x10` and the others are instances. A call takes any of the fields
    below as an argument, for that one model: `ResNet18(num_classes=10, norm="group")`. Calling
    makes a functional `keras.Model` from images to logits `(batch, num_classes)`, in float32 also
    under mixed precision. Blocks are `ResidualBlock`s named `stage1_block1` and so on.

    Attributes:
        name: Name of the model.
        description: What it is, in one line.
        blocks: Number of blocks of each stage.
        num_classes: Number of logits; 0 gives the pooled features instead.
        input_shape: `(height, width, channels)` of the images, in pixels; sizes may be `None`.
        stem: `"imagenet"` (7x7 convolution of stride 2, then max pooling), `"deep"` (three 3x3
            convolutions, then max pooling) or `"cifar"` (one 3x3 convolution, for small images).
        width: Filters of the first stage (inner ones, in bottlenecks); every stage doubles them.
        shortcut: The shortcut of every block: `"projection"` (identity, and a projection where
            the shape changes: option B), `"always_projection"` (C), `"zero_pad"` (without
            parameters: A), `"none"` (a plain network), `"stop_gradient"`, `"constant_scale"`,
            `"gated"`, `"dropout"`, or a function of `(input_channels, filters, strides)` that
            returns a Keras layer or `None`.
        zero_init_last_scale: Whether each block's last normalization starts with scale zero.
        norm: `"batch"`, `"sync_batch"`, `"group"` (with weight standardization), `None`, or a
            function that makes a layer, as `reszoo.layers.normalization` takes it.
        activation: The activation everywhere, anything `keras.activations.get` takes.
        gate: How the two paths meet: `None` (added), `"stop_branch_output"`,
            `"stop_branch_input"`, `"stop_skip"`, `"scale_branch"`, `"scale_skip"`, `"half_both"`,
            `"exclusive"`, or a function as `reszoo.models.gates.gate_choice` takes it.
        drop_path: Stochastic depth: share of the examples that drop the last block's branch while
            training; it rises linearly over the blocks (Huang et al. 2016, equation 4).
        branch_scale: Start of a learned number that each branch is multiplied by, or `None`. With
            0.0 it is ReZero; with `norm=None` as well, SkipInit.
        squeeze_excitation: Channels per unit of the squeeze-and-excitation in each branch, or 0.
        output_stride: Largest stride of the feature maps, in pixels: later stages dilate their
            convolutions instead. `None` for the network's own.
        features: Names of stages or blocks (`"stage2"`, `"stage3_block1"`, `"stem"`): the model
            then gives a dictionary of these feature maps instead of logits.
        branch: The convolutions of a block, `Basic()`, `Bottleneck()` or a function like them.
        preactivation: Whether normalization and activation come before each convolution.
        pooled_projection: Whether projections average over pixels instead of skipping them (D).
        stem_width: Filters of the stem; `None` for `width`.
        strides_at: Which block of a stage has the stride, `"first"`, or `"last"` of the stage
            before (as keras.applications' V2).
        spatial_axes: 1 for sequences, 2 for images, 3 for volumes.

    Raises:
        ValueError: If a field is out of range, or a name is unknown.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition"; He et al. 2016, "Identity
        mappings in deep residual networks".

    Example:

    >>> from reszoo import ResNet18
    >>> model = ResNet18(num_classes=10, input_shape=(32, 32, 3), stem="cifar", width=8)
    >>> model.output_shape
    (None, 10)
    """

    name: str
    description: str
    blocks: tuple[int, ...]
    num_classes: int = 1000
    input_shape: tuple[int | None, ...] = (224, 224, 3)
    stem: str | Callable[[MakeConvolution, int], list[keras.layers.Layer]] = "imagenet"
    width: int = 64
    shortcut: str | ShortcutChoice = "projection"
    zero_init_last_scale: bool = False
    norm: Norm = "batch"
    activation: str | Callable = "relu"
    gate: str | GateChoice | None = None
    drop_path: float = 0.0
    branch_scale: float | None = None
    squeeze_excitation: int = 0
    output_stride: int | None = None
    features: tuple[str, ...] = ()
    branch: BranchChoice = BASIC
    preactivation: bool = False
    pooled_projection: bool = False
    stem_width: int | None = None
    strides_at: str = "first"
    spatial_axes: int = 2

    def __call__(
        self,
        num_classes: int | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        stem: str | None = None,
        width: int | None = None,
        shortcut: str | ShortcutChoice | None = None,
        **changes: Any,
    ) -> keras.Model:
        """Makes the model.

        Args:
            num_classes: Number of logits; `None`, here and below, for the description's own.
            input_shape: Shape of one image.
            stem: As the field.
            width: As the field.
            shortcut: As the field.
            **changes: Any other fields of `ResNet`, with their values for this model.

        Returns:
            A functional `keras.Model`.

        Raises:
            ValueError: If there is no such field, or one is out of range.
        """
        first = {"num_classes": num_classes, "input_shape": input_shape, "stem": stem}
        first |= {"width": width, "shortcut": shortcut}
        changes |= {field: value for field, value in first.items() if value is not None}
        described = changed(self, changes)
        described._check()
        return described._model()

    def _check(self):
        if len(self.input_shape) != self.spatial_axes + 1 or self.input_shape[-1] is None:
            raise ValueError(
                f"input_shape of {self.name} is {_AXES[self.spatial_axes]} with a known number of "
                f"channels, for example {(224,) * self.spatial_axes + (3,)}, but got "
                f"{self.input_shape!r}."
            )
        check_positive_integers(self.name, width=self.width)
        if self.num_classes != 0:
            check_positive_integers(self.name, num_classes=self.num_classes)
        if not callable(self.stem) and self.stem not in _STEMS:
            raise ValueError(f'stem is "imagenet" or "cifar" or "deep", but got {self.stem!r}.')
        check_drop_path(self.drop_path)
        if self.zero_init_last_scale and self.preactivation:
            raise ValueError(
                "zero_init_last_scale=True needs a normalization at the end of a branch, and a "
                "pre-activation branch has none. Use branch_scale=0.0, which does the same."
            )

    def _model(self):
        # Keras's default is float32, which would cut the digits of images in float64.
        dtype = keras.config.dtype_policy().variable_dtype
        inputs = keras.Input(self.input_shape, dtype=dtype, name="images")
        stem = Chain(self._stem(), name="stem")
        x = stem(inputs)
        maps = {"stem": x}
        for place in self._places(stem.strides):
            x = self._block(x, place)
            maps |= {place.name: x, place.name.split("_")[0]: x}
        outputs = self._chosen(maps) if self.features else self._head(x)
        return keras.Model(inputs, outputs, name=self.name)

    def _stem(self):
        width = self.stem_width or self.width
        if callable(self.stem):
            return self.stem(self._convolution, width)
        convolutions = _STEMS[self.stem](self._convolution, width)
        if self.preactivation:
            # What follows the last convolution belongs to the first block.
            layers = pre_activation(convolutions, self.norm, self.activation, activated=True)
        else:
            layers = post_activation(convolutions, self.norm, self.activation)
            name = f"activation{len(convolutions)}"
            layers.append(keras.layers.Activation(self.activation, name=name))
        return layers if self.stem == "cifar" else [*layers, MaxPool(name="pool")]

    def _places(self, stride: int) -> Iterator[Place]:
        """Yields where each block stands; `stride` is that of the feature map so far."""
        total, dilation, index = sum(self.blocks), 1, 0
        for stage, count in enumerate(self.blocks, start=1):
            for block in range(1, count + 1):
                index, before, strides = index + 1, dilation, 1
                if self._downsamples(stage, block):
                    strides, dilation = self._stride_or_dilation(stride, dilation)
                    stride *= strides
                yield Place(
                    f"stage{stage}_block{block}",
                    self.width * 2 ** (stage - 1),
                    strides,
                    (before, dilation),
                    self.drop_path * index / total,
                )

    def _downsamples(self, stage, block):
        if self.strides_at == "first":
            return stage > 1 and block == 1
        return stage < len(self.blocks) and block == self.blocks[stage - 1]

    def _stride_or_dilation(self, stride, dilation):
        if self.output_stride is None or stride * 2 <= self.output_stride:
            return 2, dilation
        if stride > self.output_stride:
            raise ValueError(
                f"output_stride={self.output_stride} is smaller than the stride {stride} that "
                f"{self.name} has already in its stem. Give {stride}, {2 * stride} or more."
            )
        return 1, 2 * dilation

    def _block(self, x, place: Place):
        convolutions = self.branch(self._convolution, place)
        filters = convolutions[-1].filters
        activated = self.preactivation and x.shape[-1] != filters
        if activated:
            # Where the shape changes both paths start from the activated input (He et al. 2016).
            x = self._activated(x, f"{place.name}_preactivation")
        choose = shortcut_choice(self.shortcut, self._project)
        return gate_choice(self.gate)(
            self._branch_layers(convolutions, activated, place.drop_path),
            choose(x.shape[-1], filters, place.strides),
            activation=None if self.preactivation else self.activation,
            name=place.name,
        )(x)

    def _branch_layers(self, convolutions, activated, drop_path):
        if self.preactivation:
            layers = pre_activation(convolutions, self.norm, self.activation, activated)
        else:
            layers = post_activation(
                convolutions, self.norm, self.activation, self.zero_init_last_scale
            )
        if self.squeeze_excitation:
            layers.append(SqueezeExcitation(self.squeeze_excitation, name="squeeze_excitation"))
        return [*layers, *end_of_branch(self.branch_scale, drop_path)]

    def _project(self, filters, strides):
        if self.preactivation:
            convolution = self._convolution(filters, 1, strides, name="conv")
            return Chain([convolution], name="projection")
        if not self.pooled_projection:
            return ProjectionShortcut(filters, strides, self.norm, name="projection")
        pool = [AveragePool(strides, strides, name="pool")] if strides > 1 else []
        project = ProjectionShortcut(filters, norm=self.norm, name="after_pool")
        return Chain([*pool, project], name="pooled_projection")

    def _activated(self, x, name):
        activation = keras.layers.Activation(self.activation, name="activation")
        return Chain([*normalization(self.norm, "norm"), activation], name=name)(x)

    def _head(self, x):
        if self.preactivation:
            x = self._activated(x, "postactivation")
        pool = _GLOBAL_AVERAGE[self.spatial_axes](data_format="channels_last", name="pool")
        x = pool(x)
        if self.num_classes == 0:
            return x
        # Logits stay in float32 under mixed precision, for the softmax's sake.
        dtype = keras.backend.result_type(keras.config.dtype_policy().compute_dtype, "float32")
        return keras.layers.Dense(self.num_classes, dtype=dtype, name="logits")(x)

    def _chosen(self, maps):
        unknown = [name for name in self.features if name not in maps]
        if unknown:
            raise ValueError(
                f"{self.name} has no feature maps {unknown}. It has: {', '.join(maps)}."
            )
        return {name: maps[name] for name in self.features}

    @property
    def _convolution(self):
        return functools.partial(Convolution, **convolution_options(self.norm))
