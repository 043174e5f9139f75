"""Layers of blocks, as every backend of Keras has to describe them."""

import keras
from keras import layers

from reszoo import ProjectionShortcut, ResidualBlock, StopGradSkip
from reszoo.gradients import instrument
from reszoo.gradients.block_layers import describe_layers
from reszoo.layers import LearnedScale


def rows(model, blocks):
    """Returns (name, kind, shape, parameters, activation) of each layer, by block and path."""
    described = {name: describe_layers(block) for name, block in blocks(model).items()}
    return {
        name: {path: [tuple(row.values()) for row in of_block[path]] for path in ("skip", "branch")}
        | {"activation": of_block["activation"]}
        for name, of_block in described.items()
    }


def residual_blocks(model):
    return {layer.name: layer for layer in model.layers if isinstance(layer, ResidualBlock)}


def assert_layers_are_described():
    inputs = keras.Input((8, 8, 4))
    branch = [
        layers.Conv2D(6, 3, 2, padding="same", activation="relu", name="conv"),
        keras.Sequential([layers.BatchNormalization(name="norm"), layers.ReLU(name="relu")]),
        LearnedScale(name="scale"),
    ]
    shortcut = StopGradSkip(ProjectionShortcut(6, strides=2, norm=None), name="stop")
    outputs = ResidualBlock(branch, shortcut, "gelu", name="block")(inputs)
    assert rows(keras.Model(inputs, outputs), residual_blocks) == {
        "block": {
            "skip": [
                ("conv", "Convolution", [4, 4, 6], 4 * 6 + 6, None),
                ("stop", "StopGradSkip", [4, 4, 6], 0, None),
            ],
            "branch": [
                ("conv", "Conv2D", [4, 4, 6], 9 * 4 * 6 + 6, "relu"),
                ("norm", "BatchNormalization", [4, 4, 6], 4 * 6, None),
                ("relu", "ReLU", [4, 4, 6], 0, None),
                ("scale", "LearnedScale", [4, 4, 6], 1, None),
            ],
            "activation": "gelu",
        }
    }
    inputs = keras.Input((None, 4))
    x = layers.Dense(4, "tanh", name="first")(inputs)
    x = keras.ops.relu(layers.Dense(4, name="second")(x))
    x = layers.Add(name="sum")([inputs, x])
    outputs = layers.Activation("silu")(x)
    described = rows(keras.Model(inputs, outputs), instrument)["sum"]
    assert described["skip"] == []
    assert described["activation"] == "silu"
    *named, operation = described["branch"]
    assert named == [
        ("first", "Dense", [None, 4], 20, "tanh"),
        ("second", "Dense", [None, 4], 20, None),
    ]
    assert operation[1:] == ("Relu", [None, 4], 0, None)
