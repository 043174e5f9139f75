"""ResNets assembled from `reszoo.layers`."""

from collections.abc import Callable

import keras

from reszoo.layers import BasicBranch, BottleneckBranch, ResidualBlock
from reszoo.layers.chain import Chain
from reszoo.layers.convolution import Convolution, check_positive_integer
from reszoo.layers.normalization import normalization
from reszoo.layers.pooling import MaxPool
from reszoo.models.shortcuts import ShortcutChoice, shortcut_choice

BOTTLENECK_EXPANSION = 4


def ResNet18(
    num_classes: int = 1000,
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
    stem: str = "imagenet",
    width: int = 64,
    shortcut: str | ShortcutChoice = "projection",
    zero_init_last_scale: bool = False,
    name: str = "resnet18",
) -> keras.Model:
    """ResNet-18: four stages of two basic blocks.

    With the default arguments it has torchvision's 11,689,512 trainable parameters.

    Args:
        num_classes: Number of logits.
        input_shape: `(height, width, channels)` of the images, in pixels; height and width may
            be `None`.
        stem: `"imagenet"` (7x7 convolution of stride 2, then max pooling) or `"cifar"` (one 3x3
            convolution, for small images).
        width: Filters of the first stage; they double at every further stage.
        shortcut: The shortcut of every block: `"projection"` (identity, and a projection where
            the shape changes), `"zero_pad"` (without parameters), `"stop_gradient"` (no gradient
            through any skip), or a function of `(input_channels, filters, strides)` that returns
            a Keras layer or `None`.
        zero_init_last_scale: Whether each block's last normalization starts with scale zero.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)` to logits
        `(batch, num_classes)`, in float32. Blocks are named `stage1_block1` and so on.

    Raises:
        ValueError: If an argument is out of range, or a name is unknown.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition", table 1.

    Example:

    >>> model = ResNet18(num_classes=10, input_shape=(32, 32, 3), stem="cifar", width=8)
    >>> model.output_shape
    (None, 10)
    """

    def branch(filters, strides):
        return BasicBranch(filters, strides, zero_init_last_scale=zero_init_last_scale)

    inputs = keras.Input(_checked_input_shape(input_shape), name="images")
    x = _stem(inputs, stem, width)
    x = _stages(x, (2, 2, 2, 2), [width * 2**i for i in range(4)], branch, shortcut)
    return keras.Model(inputs, _head(x, num_classes), name=name)


def ResNet50(
    num_classes: int = 1000,
    input_shape: tuple[int | None, int | None, int] = (224, 224, 3),
    stem: str = "imagenet",
    width: int = 64,
    shortcut: str | ShortcutChoice = "projection",
    zero_init_last_scale: bool = False,
    name: str = "resnet50",
) -> keras.Model:
    """ResNet-50: four stages of 3, 4, 6 and 3 bottleneck blocks.

    The stride is on the 3x3 convolution ("v1.5"). With the default arguments it has torchvision's
    25,557,032 trainable parameters.

    Args:
        num_classes: Number of logits.
        input_shape: `(height, width, channels)` of the images, in pixels; height and width may
            be `None`.
        stem: `"imagenet"` (7x7 convolution of stride 2, then max pooling) or `"cifar"` (one 3x3
            convolution, for small images).
        width: Inner filters of the first stage, a quarter of its output; they double at every
            further stage.
        shortcut: The shortcut of every block: `"projection"` (identity, and a projection where
            the shape changes), `"zero_pad"` (without parameters), `"stop_gradient"` (no gradient
            through any skip), or a function of `(input_channels, filters, strides)` that returns
            a Keras layer or `None`.
        zero_init_last_scale: Whether each block's last normalization starts with scale zero.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images `(batch, height, width, channels)` to logits
        `(batch, num_classes)`, in float32. Blocks are named `stage1_block1` and so on.

    Raises:
        ValueError: If an argument is out of range, or a name is unknown.

    Reference:
        He et al. 2015, "Deep residual learning for image recognition", table 1.

    Example:

    >>> model = ResNet50(num_classes=10, input_shape=(32, 32, 3), stem="cifar", width=8)
    >>> model.output_shape
    (None, 10)
    """

    def branch(filters, strides):
        return BottleneckBranch(
            filters // BOTTLENECK_EXPANSION, strides, zero_init_last_scale=zero_init_last_scale
        )

    inputs = keras.Input(_checked_input_shape(input_shape), name="images")
    x = _stem(inputs, stem, width)
    filters = [BOTTLENECK_EXPANSION * width * 2**i for i in range(4)]
    x = _stages(x, (3, 4, 6, 3), filters, branch, shortcut)
    return keras.Model(inputs, _head(x, num_classes), name=name)


def _checked_input_shape(input_shape):
    if len(input_shape) != 3 or input_shape[-1] is None:
        raise ValueError(
            f"input_shape is (height, width, channels) with a known number of channels, for "
            f"example (224, 224, 3), but got {input_shape!r}."
        )
    return tuple(input_shape)


def _stem(x, stem, width):
    check_positive_integer(width, "width", "ResNet")
    if stem not in ("imagenet", "cifar"):
        raise ValueError(f'stem is "imagenet" or "cifar", but got {stem!r}.')
    size, strides, pool = (7, 2, [MaxPool(name="pool")]) if stem == "imagenet" else (3, 1, [])
    layers = [
        Convolution(width, size, strides, name="conv1"),
        *normalization("batch", "norm1"),
        keras.layers.ReLU(name="activation1"),
        *pool,
    ]
    return Chain(layers, name="stem")(x)


def _stages(
    x,
    blocks_per_stage: tuple[int, ...],
    filters_per_stage: list[int],
    branch: Callable[[int, int], keras.layers.Layer],
    shortcut: str | ShortcutChoice,
):
    make_shortcut = shortcut_choice(shortcut)
    plan = zip(blocks_per_stage, filters_per_stage, strict=True)
    for stage, (blocks, filters) in enumerate(plan, start=1):
        for block in range(1, blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            x = ResidualBlock(
                branch(filters, strides),
                make_shortcut(x.shape[-1], filters, strides),
                activation="relu",
                name=f"stage{stage}_block{block}",
            )(x)
    return x


def _head(x, num_classes):
    check_positive_integer(num_classes, "num_classes", "ResNet")
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last", name="pool")(x)
    # Logits stay in float32 under mixed precision, for the softmax's sake.
    return keras.layers.Dense(num_classes, dtype="float32", name="logits")(x)
