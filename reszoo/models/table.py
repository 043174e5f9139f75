"""The convolutional residual networks of the papers, as data."""

import dataclasses
from typing import Any

import keras

from reszoo.layers import BasicBranch, Chain, Convolution, MaxPool, ZeroPadShortcut
from reszoo.layers.shapes import Size
from reszoo.models.branches import Bottleneck, BranchChoice, Normalization, basic
from reszoo.models.resnet import ResNet
from reszoo.models.revnet import RevNet, pooled_zero_pad
from reszoo.models.stages import BlockSpec, MakeConvolution

_DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def _imagenet(depth: int, name: str, description: str, **fields: Any) -> ResNet:
    branch = basic if depth < 50 else Bottleneck()
    return ResNet(name, description, _DEPTHS[depth], **{"branch": branch, **fields})


def _resnet(depth: int) -> ResNet:
    return _imagenet(depth, f"resnet{depth}", f"ResNet-{depth} (v1.5), He et al. 2015")


def _v1(depth: int) -> ResNet:
    about = f"ResNet-{depth} v1, stride on the first 1x1 convolution, He et al. 2015"
    return _imagenet(depth, f"resnet{depth}v1", about, branch=Bottleneck(strides_on=1))


def _v2(depth: int) -> ResNet:
    about = f"ResNet-{depth} v2, full pre-activation, He et al. 2016"
    return _imagenet(depth, f"resnet{depth}v2", about, preactivation=True)


def _keras_v2(depth: int) -> ResNet:
    about = f"ResNet-{depth} v2 as in keras.applications: biases, strides at the stages' ends"
    return _v2(depth).variant(
        name=f"resnet{depth}v2_keras",
        description=about,
        branch=Bottleneck(output_bias=True),
        stem=_keras_v2_stem,
        shortcut=_keras_v2_shortcut,
        strides_at="last",
    )


def _keras_v2_stem(convolution: MakeConvolution, width: int) -> list[keras.layers.Layer]:
    # There is no ReLU before this pooling, so its zero padding can be the largest value.
    first = convolution(width, 7, 2, use_bias=True, name="conv1")
    value = 0.0 if first.padding == "symmetric" else None
    return [first, MaxPool(padding_value=value, padding=first.padding, name="pool")]


def _keras_v2_shortcut(
    input_channels: int, filters: int, strides: Size
) -> keras.layers.Layer | None:
    if input_channels == filters:
        return None if strides == 1 else ZeroPadShortcut(filters, strides, name="subsample")
    return Chain([Convolution(filters, 1, strides, use_bias=True, name="conv")], name="projection")


def _d(depth: int) -> ResNet:
    about = f"ResNet-{depth}-D, deep stem and average-pooled shortcuts, He et al. 2019"
    return _imagenet(depth, f"resnet{depth}d", about, stem="deep", pooled_projection=True)


def _plain(resnet: ResNet) -> ResNet:
    name = resnet.name.replace("resnet", "plain")
    about = f"Plain-{name.removeprefix('plain')}: {resnet.name} without its shortcuts"
    return resnet.variant(name=name, description=about, shortcut="none")


def _for_sequences(resnet: ResNet) -> ResNet:
    about = f"ResNet-{resnet.name[6:]} for sequences: convolutions over one axis"
    axes = {"spatial_axes": 1, "input_shape": (1024, 1)}
    return resnet.variant(name=f"{resnet.name}_1d", description=about, **axes)


def _for_volumes(resnet: ResNet) -> ResNet:
    about = f"ResNet-{resnet.name[6:]} for volumes: convolutions over three axes"
    axes = {"spatial_axes": 3, "input_shape": (64, 64, 64, 1)}
    return resnet.variant(name=f"{resnet.name}_3d", description=about, **axes)


def _cifar(name: str, description: str, blocks_per_stage: int, **fields: Any) -> ResNet:
    return ResNet(
        name,
        description,
        (blocks_per_stage,) * 3,
        **{"num_classes": 10, "input_shape": (32, 32, 3), "stem": "cifar", "width": 16, **fields},
    )


def _cifar_resnet(depth: int) -> ResNet:
    about = f"ResNet-{depth} for CIFAR with shortcut A, He et al. 2015"
    return _cifar(f"resnet{depth}", about, (depth - 2) // 6, shortcut="zero_pad")


def _cifar_v2(depth: int, branch: BranchChoice, convolutions: int) -> ResNet:
    about = f"Pre-activation ResNet-{depth} for CIFAR, He et al. 2016"
    fields = {"branch": branch, "preactivation": True}
    return _cifar(f"resnet{depth}v2", about, (depth - 2) // (3 * convolutions), **fields)


def _revnet(depth: int, blocks_per_stage: int, **fields: Any) -> RevNet:
    about = f"RevNet-{depth} for CIFAR, reversible, Gomez et al. 2017"
    cifar = {"num_classes": 10, "input_shape": (32, 32, 3), "stem": "cifar", "width": 32}
    return RevNet(f"revnet{depth}", about, (blocks_per_stage,) * 3, **cifar, **fields)


def _narrow_last_stage(block: BlockSpec, normalization: Normalization) -> BasicBranch:
    """A basic branch; with 112 channels instead of 128 in the last stage of three."""
    narrow = block.filters * 7 // 8 if block.stage == "stage3" else block.filters
    return basic(dataclasses.replace(block, filters=narrow), normalization)


def _wide(depth: int, times: int) -> ResNet:
    about = f"WRN-{depth}-{times} for CIFAR, Zagoruyko and Komodakis 2016"
    fields = {"width": 16 * times, "stem_width": 16, "preactivation": True}
    return _cifar(f"wide_resnet{depth}_{times}", about, (depth - 4) // 6, **fields)


_RESNETS = ResNet18, ResNet34, ResNet50, ResNet101, ResNet152 = tuple(map(_resnet, _DEPTHS))
ResNet50V1, ResNet101V1, ResNet152V1 = map(_v1, (50, 101, 152))
ResNet18V2, ResNet34V2, ResNet50V2, ResNet101V2, ResNet152V2 = map(_v2, (18, 34, 50, 101, 152))
ResNet50V2Keras, ResNet101V2Keras, ResNet152V2Keras = map(_keras_v2, (50, 101, 152))
ResNet18D, ResNet34D, ResNet50D, ResNet101D, ResNet152D = map(_d, (18, 34, 50, 101, 152))

WideResNet50x2, WideResNet101x2 = (
    _imagenet(
        depth,
        f"wide_resnet{depth}_2",
        f"Wide-ResNet-{depth}-2, Zagoruyko and Komodakis 2016",
        branch=Bottleneck(group_width=128),
    )
    for depth in (50, 101)
)
ResNeXt50x32x4d, ResNeXt101x32x8d = (
    _imagenet(
        depth,
        f"resnext{depth}_32x{width}d",
        f"ResNeXt-{depth} 32x{width}d, Xie et al. 2017",
        branch=Bottleneck(groups=32, group_width=width),
    )
    for depth, width in ((50, 4), (101, 8))
)
SEResNet50 = _imagenet(50, "seresnet50", "SE-ResNet-50, Hu et al. 2018", squeeze_excitation=16)

ResNet20, ResNet32, ResNet44, ResNet56, ResNet110 = map(_cifar_resnet, (20, 32, 44, 56, 110))
ResNet110V2 = _cifar_v2(110, basic, 2)
ResNet164V2, ResNet1001V2 = (_cifar_v2(depth, Bottleneck(), 3) for depth in (164, 1001))
RevNet38 = _revnet(38, 3, branch=_narrow_last_stage, shortcut=pooled_zero_pad)
RevNet110 = _revnet(110, 9, shortcut=pooled_zero_pad)
RevNet164 = _revnet(164, 9, branch=Bottleneck())
WideResNet28x10, WideResNet16x8 = _wide(28, 10), _wide(16, 8)

Plain18, Plain34, Plain20, Plain56, Plain110 = map(
    _plain, (ResNet18, ResNet34, ResNet20, ResNet56, ResNet110)
)

ResNet18x1D, ResNet34x1D, ResNet50x1D, ResNet101x1D, ResNet152x1D = map(_for_sequences, _RESNETS)
ResNet18x3D, ResNet34x3D, ResNet50x3D, ResNet101x3D, ResNet152x3D = map(_for_volumes, _RESNETS)

RESNETS: dict[str, ResNet] = {
    resnet.name: resnet for resnet in list(globals().values()) if isinstance(resnet, ResNet)
}
