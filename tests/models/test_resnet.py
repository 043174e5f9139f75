"""ResNets: published parameter counts, names, shapes, options, and what they refuse."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from reszoo import ResidualBlock, StopGradSkip, ZeroPadShortcut
from reszoo.layers import Convolution, DropPath, GradientScale, MaxPool, ZeroShortcut
from reszoo.models import (
    ResNet18,
    ResNet18V2,
    ResNet50,
    ResNet50D,
    ResNet50V2,
    ResNet50V2Keras,
    create_model,
    list_models,
)
from reszoo.models.branches import basic
from reszoo.models.table import RESNETS

PARAMETERS = {
    # torchvision
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnext50_32x4d": 25_028_904,
    "resnext101_32x8d": 88_791_336,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet101_2": 126_886_696,
    # Where the stride is changes no parameter.
    "resnet50v1": 25_557_032,
    "resnet101v1": 44_549_160,
    "resnet152v1": 60_192_808,
    # timm (resnetv2_* with batch normalization, resnet*d, seresnet50)
    "resnet18v2": 11_687_720,
    "resnet34v2": 21_795_880,
    "resnet50v2": 25_549_352,
    "resnet101v2": 44_541_480,
    "resnet152v2": 60_185_128,
    "resnet18d": 11_708_744,
    "resnet34d": 21_816_904,
    "resnet50d": 25_576_264,
    "resnet101d": 44_568_392,
    "resnet152d": 60_212_040,
    "seresnet50": 28_088_024,
    # keras.applications (trainable ones of ResNet50V2, ResNet101V2, ResNet152V2)
    "resnet50v2_keras": 25_568_360,
    "resnet101v2_keras": 44_577_896,
    "resnet152v2_keras": 60_236_904,
    # He et al. 2015 with option A, as counted in many reimplementations
    "resnet20": 269_722,
    "resnet32": 464_154,
    "resnet44": 658_586,
    "resnet56": 853_018,
    "resnet110": 1_727_962,
    # osmr/imgclsmob (pre-activation, WRN)
    "resnet110v2": 1_730_522,
    "resnet164v2": 1_703_258,
    "resnet1001v2": 10_327_706,
    "wide_resnet28_10": 36_479_194,
    # Gomez et al. 2017, table 3: 0.46, 1.73 and 1.75 million
    "revnet38": 464_890,
    "revnet110": 1_729_194,
    "revnet164": 1_748_778,
    # Zagoruyko and Komodakis 2016, table 4: 11.0 million
    "wide_resnet16_8": 10_961_370,
    # ResNet-18 and 34 less three projections: 1x1 kernels of 64x128, 128x256, 256x512 and norms
    "plain18": 11_689_512 - 173_824,
    "plain34": 21_797_672 - 173_824,
    "plain20": 269_722,
    "plain56": 853_018,
    "plain110": 1_727_962,
}
# torchvision: layer1 to layer4
PARAMETERS_PER_STAGE = {
    "resnet18": [147_968, 525_568, 2_099_712, 8_393_728],
    "resnet34": [221_952, 1_116_416, 6_822_400, 13_114_368],
    "resnet50": [215_808, 1_219_584, 7_098_368, 14_964_736],
    "resnet101": [215_808, 1_219_584, 26_090_496, 14_964_736],
    "resnet152": [215_808, 2_339_840, 40_613_888, 14_964_736],
    "resnext50_32x4d": [205_824, 1_197_056, 7_022_592, 14_544_896],
    "resnext101_32x8d": [420_864, 2_405_376, 55_160_832, 28_745_728],
    "wide_resnet50_2": [634_368, 3_482_624, 20_736_000, 41_971_712],
    "wide_resnet101_2": [634_368, 3_482_624, 78_739_456, 41_971_712],
}


OF_OTHER_AXES = {f"resnet{depth}_{axes}d" for depth in (18, 34, 50, 101, 152) for axes in (1, 3)}
# The same blocks of other depths.
DEEPER = {name for name in OF_OTHER_AXES if name[6:-3] in ("34", "101", "152")}


def trainable_parameters(layer):
    return sum(math.prod(v.shape) for v in layer.trainable_variables)


def blocks(model):
    return [layer for layer in model.layers if isinstance(layer, ResidualBlock)]


def small(model=ResNet18, **options):
    return model(num_classes=10, input_shape=(16, 16, 3), stem="cifar", width=8, **options)


def images(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.fixture
def _zero_kernels(monkeypatch):
    """Drawing a hundred million random numbers takes a while, and counting needs none of them."""
    monkeypatch.setattr(
        keras.initializers.VarianceScaling,
        "__call__",
        lambda self, shape, dtype=None: tf.zeros(shape, dtype),
    )


@pytest.mark.usefixtures("_zero_kernels")
@pytest.mark.parametrize("name", PARAMETERS)
def test_trainable_parameters_are_the_published_ones(name):
    model = create_model(name)
    assert trainable_parameters(model) == PARAMETERS[name]
    if name in PARAMETERS_PER_STAGE:
        stages = [0, 0, 0, 0]
        for block in blocks(model):
            stages[int(block.name[5]) - 1] += trainable_parameters(block)
        assert stages == PARAMETERS_PER_STAGE[name]


def test_every_model_is_counted():
    assert set(list_models()) - set(PARAMETERS) == {*OF_OTHER_AXES, "residual_mlp"}


def published_kernels(depth):
    """Yields the size, input and output channels of each convolution (He et al. 2015, table 1)."""
    yield 7, 1, 64
    channels = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        inner = 64 * 2**stage
        outer = inner if depth == 34 else 4 * inner
        for _ in range(count):
            if depth == 34:
                yield from ((3, channels, inner), (3, inner, inner))
            else:
                yield from ((1, channels, inner), (3, inner, inner), (1, inner, outer))
            if channels != outer:
                yield 1, channels, outer
            channels = outer


@pytest.mark.usefixtures("_zero_kernels")
@pytest.mark.parametrize("name", ["resnet34_1d", "resnet50_3d"])
def test_sequences_and_volumes_have_the_published_kernels_along_their_axes(name):
    depth, axes = int(name[6:-3]), int(name[-2])
    expected = sum(
        size**axes * channels * filters + 2 * filters
        for size, channels, filters in published_kernels(depth)
    )
    head = (512 if depth == 34 else 2048) * 1000 + 1000
    model = create_model(name)
    assert trainable_parameters(model) == expected + head
    assert model.input_shape[1:] == RESNETS[name].task.input_shape


# Two blocks a stage show every kind of block that a model has.
@pytest.mark.parametrize("name", sorted(set(list_models()) - {"residual_mlp"} - DEEPER))
def test_every_trainable_weight_receives_a_gradient(name):
    axes = RESNETS[name].task.spatial_axes
    shape = {1: (32, 1), 2: (32, 32, 3), 3: (16, 16, 16, 1)}[axes]
    stages = 3 if RESNETS[name].task.input_shape == (32, 32, 3) else 4
    model = create_model(
        name, num_classes=3, input_shape=shape, width=8, blocks=(2,) * stages, stem_width=8
    )
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images(4, *shape), training=True)[:, 0] ** 2)
    gradients = tape.gradient(loss, model.trainable_variables)
    silent = [
        v.path
        for v, gradient in zip(model.trainable_variables, gradients, strict=True)
        if gradient is None or not np.any(gradient)
    ]
    assert not silent


@pytest.mark.parametrize(
    ("model", "per_stage"), [(ResNet18, (2, 2, 2, 2)), (ResNet50, (3, 4, 6, 3))]
)
def test_block_names_say_stage_and_block(model, per_stage):
    assert [block.name for block in blocks(small(model))] == [
        f"stage{stage}_block{block}"
        for stage, count in enumerate(per_stage, start=1)
        for block in range(1, count + 1)
    ]


@pytest.mark.parametrize("model", [ResNet18, ResNet50])
@pytest.mark.parametrize(("stem", "size"), [("imagenet", 7), ("cifar", 28)])
def test_feature_maps_shrink_as_published(model, stem, size):
    model = model(input_shape=(224 if stem == "imagenet" else 28,) * 2 + (3,), stem=stem)
    expected = [size * 8 // 2**i for i in range(4)] if stem == "imagenet" else [28, 14, 7, 4]
    outputs = {block.name[:6]: block.output.shape[1] for block in blocks(model)}
    assert list(outputs.values()) == expected


def test_every_skip_stops_the_gradient_by_one_argument():
    model = small(shortcut="stop_gradient")
    assert all(isinstance(block.shortcut, StopGradSkip) for block in blocks(model))
    projecting = [block.name for block in blocks(model) if block.shortcut.shortcut is not None]
    assert projecting == ["stage2_block1", "stage3_block1", "stage4_block1"]


def test_zero_pad_shortcuts_have_no_parameters():
    model = small(shortcut="zero_pad")
    padded = [block for block in blocks(model) if isinstance(block.shortcut, ZeroPadShortcut)]
    assert [block.name for block in padded] == ["stage2_block1", "stage3_block1", "stage4_block1"]
    assert not any(block.shortcut.weights for block in blocks(model))


def test_a_function_chooses_the_shortcut():
    calls = []

    def choose(input_channels, filters, strides):
        calls.append((input_channels, filters, strides))
        return ZeroPadShortcut(filters, strides)

    small(shortcut=choose)
    assert calls == [
        (8, 8, 1),
        (8, 8, 1),
        (8, 16, 2),
        (16, 16, 1),
        (16, 32, 2),
        (32, 32, 1),
        (32, 64, 2),
        (64, 64, 1),
    ]


def test_zero_init_last_scale_makes_every_identity_block_the_identity():
    model = small(zero_init_last_scale=True)
    block = model.get_layer("stage1_block2")
    x = np.abs(np.random.default_rng(0).normal(size=(2, 16, 16, 8))).astype("float32")
    np.testing.assert_array_equal(block(x, training=True), x)


def test_saves_and_loads(tmp_path):
    model = small(ResNet50, shortcut="stop_gradient")
    x = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype("float32")
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), model(x))


def test_logits_stay_float32_in_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert small().output.dtype == "float32"


def test_float64_keeps_every_digit():
    keras.config.set_dtype_policy("float64")
    model, x = small(), images(2, 16, 16, 3).astype("float64")
    assert model.output.dtype == "float64"
    assert np.abs(model(x + 1e-12) - model(x)).max() > 0


def test_create_model_suggests_the_nearest_name():
    assert create_model("resnet18", num_classes=3, width=8).output_shape == (None, 3)
    assert list(list_models("resnet5*")) == [
        "resnet50",
        "resnet50_1d",
        "resnet50_3d",
        "resnet50d",
        "resnet50v1",
        "resnet50v2",
        "resnet50v2_keras",
        "resnet56",
    ]
    with pytest.raises(ValueError, match="resnet50"):
        create_model("resnet5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "imagnet"}, '"deep" or "cifar"'),
        ({"shortcut": "identity"}, "'stop_gradient'"),
        ({"width": 0}, "width=0"),
        ({"num_classes": -1}, "num_classes=-1"),
        ({"input_shape": (32, 32)}, "height, width, channels.* give spatial_axes=1"),
        ({"input_shape": (8, 32, 32, 1)}, r"give spatial_axes=3\."),
        ({"input_shape": (32,)}, r"but got \(32,\)\.$"),
        ({"input_shape": (32, 32, None)}, r"but got \(32, 32, None\)\.$"),
        ({"spatial_axes": 3}, "depth, height, width, channels.* give spatial_axes=2"),
        ({"spatial_axes": 4}, "must be 1, 2 or 3"),
        ({"width": (8, 8, 8)}, "resnet18 got width=.* one entry for each stage"),
        ({"width": (8, 8, 0, 8)}, "resnet18 got width=0"),
        ({"stage_strides": (1, 2, 2)}, "one entry for each stage"),
        ({"stage_strides": 2}, "one entry for each stage"),
        ({"stage_strides": (1, 2, (1, 2, 2), 2)}, "2 spatial axes"),
        ({"stage_strides": (1, 2, 0, 2)}, "stage_strides=0"),
        ({"padding": "SAME"}, "resnet18 got padding='SAME'"),
    ],
)
def test_bad_arguments_say_what_is_expected(options, message):
    with pytest.raises(ValueError, match=message):
        ResNet18(**options)


def test_unknown_option_suggests_the_nearest():
    with pytest.raises(ValueError, match="drop_path"):
        ResNet18(droppath=0.1)


def test_plain_network_has_no_shortcut_and_the_residual_networks_names():
    model = small(create_plain)
    assert all(isinstance(block.shortcut, ZeroShortcut) for block in blocks(model))
    assert [block.name for block in blocks(model)] == [block.name for block in blocks(small())]
    block = model.get_layer("stage2_block1")
    x = images(2, 16, 16, 8)
    np.testing.assert_array_equal(block(x), tf.nn.relu(block.branch(x)))


def create_plain(**options):
    return create_model("plain18", **options)


def test_zero_classes_gives_pooled_features():
    model = ResNet18(0, (16, 16, 3), stem="cifar", width=8)
    assert model.output_shape == (None, 64)


@pytest.mark.parametrize("model", [ResNet50, ResNet50V2])
def test_features_are_the_stages_outputs(model):
    pyramid = model(
        input_shape=(64, 64, 3), width=8, features=("stem", "stage2", "stage4_block1", "stage4")
    )
    assert {name: map_.shape[1:] for name, map_ in pyramid.output.items()} == {
        "stem": (16, 16, 8),
        "stage2": (8, 8, 64),
        "stage4_block1": (2, 2, 256),
        "stage4": (2, 2, 256),
    }
    with pytest.raises(ValueError, match="stage9"):
        model(features=("stage9",))


@pytest.mark.parametrize("model", [ResNet18, ResNet50, ResNet50D, ResNet50V2])
@pytest.mark.parametrize(("output_stride", "size"), [(8, 8), (16, 4), (32, 2)])
def test_output_stride_keeps_the_feature_maps_large(model, output_stride, size):
    options = {"input_shape": (64, 64, 3), "width": 8, "blocks": (1, 1, 2, 2)}
    features = model(output_stride=output_stride, features=("stage4",), **options)
    assert features.output["stage4"].shape[1:3] == (size, size)
    assert trainable_parameters(model(output_stride=output_stride, **options)) == (
        trainable_parameters(model(**options))
    )


@pytest.mark.parametrize(
    ("stem", "stride"),
    [
        (lambda c, w: [c(w, 7, 2, name="conv1"), layers.MaxPooling2D(3, 2, padding="same")], 4),
        (lambda c, w: [layers.MaxPooling2D(2), layers.Lambda(lambda x: x[:, ::2, ::2])], 4),
        (lambda c, w: [layers.ZeroPadding2D(3), c(w, 7, 2, padding="valid", name="conv1")], 2),
        (lambda c, w: [keras.Sequential([layers.AveragePooling2D(2)]), c(w, 3, name="conv1")], 2),
        (lambda c, w: [layers.Conv2D(w, 4, 4), layers.UpSampling2D(2)], 2),
        (lambda c, w: [], 1),
    ],
)
def test_the_stride_of_any_stem_is_that_of_its_shapes(stem, stride):
    options = {"input_shape": (64, 64, 3), "width": 4, "blocks": (1, 1, 1, 1), "stem": stem}
    features = ("stem", "stage4")
    maps = ResNet18(output_stride=4 * stride, features=features, **options).output
    assert maps["stem"].shape[1] == 64 // stride
    assert maps["stage4"].shape[1:3] == (16 // stride,) * 2
    with pytest.raises(ValueError, match=f"stride {stride} of the stem" if stride > 1 else "must"):
        ResNet18(output_stride=stride // 2, **options)


def test_a_stem_without_a_stride_of_its_own_takes_no_output_stride():
    resized = {
        "input_shape": (64, 64, 3),
        "width": 4,
        "stem": lambda c, w: [layers.Resizing(40, 40)],
    }
    assert ResNet18(**resized).output_shape == (None, 1000)
    with pytest.raises(ValueError, match="The stride of 'stem' is not known"):
        ResNet18(output_stride=8, **resized)


@pytest.mark.parametrize(
    ("stage_strides", "sizes"),
    [
        ((1, (1, 2, 2), (1, 2, 2), 2), [(8, 16, 16), (8, 8, 8), (8, 4, 4), (4, 2, 2)]),
        ((2, 1, (2, 1, 1), (1, 1, 4)), [(4, 8, 8), (4, 8, 8), (2, 8, 8), (2, 8, 2)]),
    ],
)
@pytest.mark.parametrize("model", [ResNet50, ResNet18V2])
def test_strides_of_stages_are_those_given_along_each_axis(model, stage_strides, sizes):
    options = {"spatial_axes": 3, "input_shape": (8, 16, 16, 1), "stem": "cifar", "width": 4}
    options |= {"blocks": (1, 2, 1, 1), "stage_strides": stage_strides}
    stages = ("stage1", "stage2", "stage3", "stage4")
    for strides_at in ("first", "last"):
        maps = model(features=stages, strides_at=strides_at, **options).output
        assert [maps[stage].shape[1:-1] for stage in stages] == sizes


@pytest.mark.parametrize(
    ("model", "options"),
    [
        (ResNet50, {"stem": "cifar", "gate": "exclusive", "norm": "group"}),
        (ResNet50D, {"stem": "deep", "padding": "same", "head_bias": False}),
        (ResNet18, {"stem": "cifar", "shortcut": "zero_pad", "width": (4, 6, 6)}),
    ],
)
def test_a_network_with_strides_for_each_axis_saves_and_loads(model, options, tmp_path):
    strides = (1, (1, 2, 2), (2, 1, 2))
    sizes = {"input_shape": (4, 16, 16, 1), "width": 4, "blocks": (1, 1, 1), "num_classes": 3}
    saved = model(spatial_axes=3, stage_strides=strides, **{**sizes, **options})
    x = images(2, 4, 16, 16, 1)
    saved.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), saved(x))


def test_the_limit_of_the_stride_holds_along_each_axis():
    maps = ResNet18(
        input_shape=(64, 64, 3),
        stem="cifar",
        width=4,
        blocks=(1, 1, 2, 2),
        stage_strides=(1, (1, 2), 2, 2),
        output_stride=4,
        features=("stage4",),
    )
    assert maps.output["stage4"].shape[1:3] == (16, 16)
    rates = [
        [part.dilation_rate for part in maps.get_layer(name).branch.layers[::3]]
        for name in ("stage3_block2", "stage4_block1", "stage4_block2")
    ]
    assert rates == [[1, 1], [1, (1, 2)], [(1, 2), (1, 2)]]


@pytest.mark.parametrize("preactivation", [False, True])
def test_each_stage_can_have_a_width_of_its_own(preactivation):
    model = ResNet18(3, (16, 16, 3), width=(8, 12, 12, 6), preactivation=preactivation)
    widths = [block.output.shape[-1] for block in blocks(model)]
    assert widths == [8, 8, 12, 12, 12, 12, 6, 6]
    assert model.get_layer("stem").output.shape[-1] == 8
    assert model.get_layer("stage3_block1").shortcut.layers[0].strides == 2


def test_a_branch_can_have_layers_after_its_last_normalization():
    def choose(block, normalization):
        return [basic(block, normalization), layers.Dense(block.filters + 1, name="mix")]

    for preactivation in (False, True):
        model = small(branch=choose, preactivation=preactivation)
        names = [layer.name for layer in model.get_layer("stage1_block1").branch.layers]
        assert names[-2:] == (["conv2", "mix"] if preactivation else ["norm2", "mix"])
        assert model.get_layer("stage2_block1").output.shape[-1] == 17
        assert trainable_parameters(model.get_layer("stage2_block1").shortcut) > 0
    with pytest.raises(ValueError, match="Chain takes Keras layers, but got 3"):
        small(branch=lambda block, normalization: [3])


@pytest.mark.parametrize("model", [ResNet18, ResNet50, ResNet50D, ResNet50V2, ResNet50V2Keras])
def test_the_padding_is_that_of_every_layer_with_a_stride(model):
    options = {"num_classes": 3, "input_shape": (33, 64, 3), "width": 4, "blocks": (1, 1)}
    parts = model(padding="same", **options)._flatten_layers()
    strided = [part for part in parts if isinstance(part, Convolution | MaxPool)]
    strided = [part for part in strided if part.strides == 2 and part.name != "conv"]
    assert {part.padding for part in strided} == {"same"}
    assert sum(isinstance(part, MaxPool) for part in strided) == 1


def test_a_head_without_a_bias():
    model = small(head_bias=False)
    assert [v.path for v in model.get_layer("logits").weights] == ["logits/kernel"]


def test_output_stride_below_the_stems_is_refused():
    with pytest.raises(ValueError, match="stride 4"):
        ResNet18(output_stride=2)


def test_drop_path_rises_linearly():
    model = small(drop_path=0.8)
    rates = [
        layer.rate
        for block in blocks(model)
        for layer in block.branch.layers
        if isinstance(layer, DropPath)
    ]
    np.testing.assert_allclose(rates, np.arange(1, 9) / 10)


@pytest.mark.parametrize(("norm", "scale"), [(None, 0.0), ("batch", 0.0)])
def test_branch_scale_zero_starts_every_block_as_its_shortcut(norm, scale):
    block = small(norm=norm, branch_scale=scale).get_layer("stage1_block2")
    x = np.abs(images(2, 16, 16, 8))
    np.testing.assert_array_equal(block(x, training=True), x)


@pytest.mark.parametrize(
    "options",
    [
        {"norm": "sync_batch"},
        {"norm": "group"},
        {"norm": None, "branch_scale": 0.0},
        {"norm": keras.layers.LayerNormalization},
        {"activation": "gelu"},
        {"squeeze_excitation": 4},
        {"drop_path": 0.2},
        {"shortcut": "always_projection"},
        {"shortcut": "constant_scale"},
        {"shortcut": "gated"},
        {"shortcut": "dropout"},
        {"gate": "stop_branch_output"},
        {"gate": "stop_branch_input"},
        {"gate": "stop_skip"},
        {"gate": "scale_branch"},
        {"gate": "half_both"},
        {"gate": "exclusive"},
    ],
    ids=str,
)
@pytest.mark.parametrize("preactivation", [False, True])
def test_options_train_save_and_load(options, preactivation, tmp_path):
    model = small(blocks=(1, 2), preactivation=preactivation, **options)
    x = images(2, 16, 16, 3)
    assert np.isfinite(model(x, training=True)).all()
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "model.keras")(x), model(x))


def gradient_below(gate, block="stage2_block2"):
    """Returns the gradients that reach one block's input, and its branch's first kernel."""
    block = small(gate=gate).get_layer(block)
    x = tf.constant(np.abs(images(2, 8, 8, 16)))
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(block(x) ** 2)
    kernel = next(v for v in block.branch.trainable_variables if v.name == "kernel")
    return block, x, tape.gradient(loss, [x, kernel.value])


def test_gates_stop_the_gradient_where_they_say():
    _, _, (to_input, to_kernel) = gradient_below(None)
    assert np.any(to_input)
    assert np.any(to_kernel)
    _, _, (to_input, to_kernel) = gradient_below("stop_branch_output")
    assert np.any(to_input)
    assert to_kernel is None
    block, x, (to_input, to_kernel) = gradient_below("stop_branch_input")
    assert np.any(to_kernel)
    np.testing.assert_allclose(to_input, 2 * block(x) * np.sign(block(x)), rtol=1e-5, atol=1e-6)


def test_gradient_scale_can_be_set_in_a_compiled_step():
    model = small(gate="scale_skip", blocks=(1, 1))
    gates = [layer for layer in model._flatten_layers() if isinstance(layer, GradientScale)]
    assert len(gates) == 2
    x = tf.constant(images(2, 16, 16, 3))

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(model(x) ** 2)
        return tape.gradient(loss, x)

    through = gradient(x).numpy()
    for gate in gates:
        gate.set_scale(0.0)
    assert np.abs(gradient(x) - through).max() > 1e-3
    assert gradient.experimental_get_tracing_count() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gate": "stop"}, "'stop_skip'"),
        ({"norm": "bach"}, "'batch'"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"zero_init_last_scale": True, "norm": None}, "LearnedScale"),
        ({"zero_init_last_scale": True, "preactivation": True}, "branch_scale=0.0"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)
