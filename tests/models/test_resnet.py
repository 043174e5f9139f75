"""ResNets: published parameter counts, names, shapes, and what they refuse."""

import keras
import numpy as np
import pytest

from reszoo import ResidualBlock, StopGradSkip, ZeroPadShortcut
from reszoo.models import ResNet18, ResNet50, create_model, list_models


def trainable_parameters(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def blocks(model):
    return [layer for layer in model.layers if isinstance(layer, ResidualBlock)]


def small(model=ResNet18, **options):
    return model(num_classes=10, input_shape=(16, 16, 3), stem="cifar", width=8, **options)


@pytest.mark.parametrize(("model", "count"), [(ResNet18, 11_689_512), (ResNet50, 25_557_032)])
def test_trainable_parameters_are_torchvisions(model, count):
    assert trainable_parameters(model()) == count


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


def test_create_model_suggests_the_nearest_name():
    assert create_model("resnet18", num_classes=3, width=8).output_shape == (None, 3)
    assert "resnet50" in list_models("resnet5*")
    with pytest.raises(ValueError, match="resnet50"):
        create_model("resnet5")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stem": "imagnet"}, '"imagenet" or "cifar"'),
        ({"shortcut": "identity"}, "'stop_gradient'"),
        ({"width": 0}, "width=0"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"input_shape": (32, 32)}, "height, width, channels"),
    ],
)
def test_bad_arguments_say_what_is_expected(options, message):
    with pytest.raises(ValueError, match=message):
        ResNet18(**options)
