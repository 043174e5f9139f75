"""Every residual block of a model is found, and named so that a plot can be read."""

import keras
import pytest

from reszoo import BasicBranch, ProjectionShortcut, ResidualBlock, StopGradSkip
from reszoo.gradients.blocks import describe_blocks, find_blocks
from reszoo.models import ResNet50, create_model


def dense_block(name, branch=None):
    return ResidualBlock([branch or keras.layers.Dense(4)], name=name)


def test_blocks_are_in_the_order_of_the_network():
    names = list(find_blocks(ResNet50(10, (32, 32, 3), "cifar", width=4)))
    assert len(names) == 16
    assert names[0] == "stage1_block1"
    assert names[-1] == "stage4_block3"
    assert names == sorted(names)


def test_blocks_in_nested_models_have_their_parents_names_where_they_must():
    inputs = keras.Input((4,))
    towers = [
        keras.Sequential([keras.Input((4,)), dense_block("block1")], name=name)
        for name in ("left", "right")
    ]
    outputs = keras.layers.Add()([tower(inputs) for tower in towers])
    blocks = find_blocks(keras.Model(inputs, dense_block("block2")(outputs)))
    assert list(blocks) == ["left/block1", "right/block1", "block2"]


def test_a_block_inside_a_branch_knows_its_parent():
    inputs = keras.Input((4,))
    outer = dense_block("outer", dense_block("inner"))
    blocks = find_blocks(keras.Model(inputs, outer(inputs)))
    assert [(b["name"], b["parent"]) for b in describe_blocks(blocks)] == [
        ("outer", None),
        ("inner", "outer"),
    ]


def test_a_block_used_twice_is_found_once():
    inputs = keras.Input((4,))
    block = dense_block("shared")
    assert list(find_blocks(keras.Model(inputs, block(block(inputs))))) == ["shared"]


def test_shortcuts_are_described():
    inputs = keras.Input((8, 8, 4))
    blocks = [
        ResidualBlock(BasicBranch(4), name="a"),
        ResidualBlock(BasicBranch(8, strides=2), ProjectionShortcut(8, strides=2), name="b"),
        ResidualBlock(BasicBranch(8), StopGradSkip(), name="c"),
    ]
    x = inputs
    for block in blocks:
        x = block(x)
    described = describe_blocks(find_blocks(keras.Model(inputs, x)))
    assert [b["shortcut"] for b in described] == ["identity", "projection", "identity"]
    assert [b["strides"] for b in described] == [1, 2, 1]
    assert [b["stops_gradient"] for b in described] == [False, False, True]
    # Two 3x3 convolutions and two normalizations with scale and offset.
    assert described[0]["trainable_weights"] == 2 * (3 * 3 * 4 * 4 + 2 * 4)


@pytest.mark.parametrize(
    ("options", "shortcut"),
    [
        ({"name": "resnet18d"}, "average pool and projection"),
        ({"name": "resnet18v2"}, "projection"),
        ({"name": "resnet18", "gate": "scale_skip"}, "projection and gradient scale"),
        ({"name": "resnet18", "shortcut": "constant_scale"}, "zero pad and constant scale"),
    ],
)
def test_shortcuts_of_several_layers_are_described(options, shortcut):
    model = create_model(**options, width=4, num_classes=3, input_shape=(16, 16, 3), stem="cifar")
    described = describe_blocks(find_blocks(model))
    assert described[2]["shortcut"] == shortcut


def test_a_model_without_blocks_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="plain")
    with pytest.raises(ValueError, match=r"'plain' has no residual block.*reszoo.ResidualBlock"):
        find_blocks(model)
