"""Networks that others built and trained, rebuilt in the zoo, give the outputs of plain Keras."""

import re

import keras
import numpy as np
from keras import layers

from reszoo.layers import AveragePool, Chain, ZeroPadShortcut
from reszoo.models import ResNet, ResNet50, load_weights
from reszoo.models.branches import basic
from tests.models.references import randomize, relative_errors


def normalized(x, filters, size, strides, name, padding="same"):
    """Returns a convolution and a batch normalization of `x`."""
    options = {"padding": padding, "use_bias": False, "name": name}
    x = layers.Conv2D(filters, size, strides, **options)(x)
    return layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)


def thin_resnet50(inputs, width, blocks):
    """A narrow ResNet-50 as of TensorFlow: all layers with a stride are padded at the end."""
    x = layers.ReLU()(normalized(inputs, width, 7, 2, "conv1"))
    x = layers.MaxPooling2D(3, 2, padding="same")(x)
    for stage, count in enumerate(blocks):
        for block in range(count):
            name = f"res{stage + 2}{chr(ord('a') + block)}_branch"
            strides, filters = 2 if stage and not block else 1, width * 2**stage
            y = layers.ReLU()(normalized(x, filters, 1, 1, f"{name}2a"))
            y = layers.ReLU()(normalized(y, filters, 3, strides, f"{name}2b"))
            y = normalized(y, 4 * filters, 1, 1, f"{name}2c")
            x = x if block else normalized(x, 4 * filters, 1, strides, f"{name}1")
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(5, name="fc")(x))


def name_in_caffe(name):
    """Returns the name that Caffe's ResNets have for a weight."""
    block = re.match(r"stage(\d)_block(\d)/(branch|shortcut)/(conv|norm)(\d?)/(.*)", name)
    if block:
        stage, number, path, kind, place, leaf = block.groups()
        end = "1" if path == "shortcut" else f"2{'abc'[int(place) - 1]}"
        bn = "_bn" if kind == "norm" else ""
        return f"res{int(stage) + 1}{'abcdef'[int(number) - 1]}_branch{end}{bn}/{leaf}"
    name = re.sub("^logits", "fc", name)
    return re.sub(r"^stem/(conv|norm)1", lambda m: "conv1" + "_bn" * (m[1] == "norm"), name)


def assert_same_outputs(ours, theirs, size):
    x = np.random.default_rng(0).normal(size=(2, *size)).astype("float32")
    assert np.all(relative_errors(ours(x), theirs(x)) < 1e-4)


def test_a_thin_resnet_50_that_pads_at_the_end():
    size = (64, 47, 3)
    theirs = thin_resnet50(keras.Input(size), 8, (3, 4, 6, 3))
    randomize(theirs)
    ours = ResNet50(5, size, width=8, padding="same")
    assert load_weights(ours, theirs, name_in_caffe) == []
    assert_same_outputs(ours, theirs, size)


def test_weights_fit_any_padding_and_give_the_outputs_of_one():
    options = {"num_classes": 5, "input_shape": (64, 64, 3), "width": 8, "blocks": (1, 1)}
    theirs = thin_resnet50(keras.Input((64, 64, 3)), 8, (1, 1))
    randomize(theirs)
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("float32")
    errors = {}
    for padding in ("same", "symmetric"):
        ours = ResNet50(padding=padding, **options)
        assert load_weights(ours, theirs, name_in_caffe) == []
        errors[padding] = relative_errors(ours(x), theirs(x)).max()
    assert errors["same"] < 1e-4
    assert errors["symmetric"] > 1e-2


def face_net(inputs):
    """A net of 29 convolutions, as dlib's for faces: no padding where there is a stride.

    Where a branch's map is smaller than its shortcut's, zeros are appended to it.
    """
    x = layers.ReLU()(normalized(inputs, 8, 7, 2, "conv1", "valid"))
    x = layers.MaxPooling2D(3, 2)(x)
    for stage, count in enumerate((3, 4, 3, 3, 1)):
        for block in range(count):
            name, filters = f"level{stage}_{block}", (8, 16, 32, 64, 64)[stage]
            strides = 2 if stage and not block else 1
            padding = "same" if strides == 1 else "valid"
            y = layers.ReLU()(normalized(x, filters, 3, strides, f"{name}a", padding))
            y = normalized(y, filters, 3, 1, f"{name}b")
            if strides == 2:
                x = layers.AveragePooling2D(2)(x)
                missing = [a - b for a, b in zip(x.shape[1:3], y.shape[1:3], strict=True)]
                y = layers.ZeroPadding2D([(0, more) for more in missing])(y)
                x = keras.ops.pad(x, [(0, 0)] * 3 + [(0, filters - x.shape[-1])])
            x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(16, use_bias=False, name="fc")(x))


def pooled_zero_pad(channels, filters, strides):
    if strides == 1:
        return None
    pool = AveragePool(2, 2, padding="valid", name="pool")
    return Chain([pool, ZeroPadShortcut(filters, name="zero_pad")])


def with_zeros(block, normalization):
    """An even map loses one pixel more in a convolution of 3x3 pixels than in a pooling of 2x2."""
    even = block.name in ("stage4_block1", "stage5_block1")
    zeros = [layers.ZeroPadding2D([(0, 1), (0, 1)], name="zeros")] if even else []
    return [basic(block, normalization), *zeros]


def test_a_net_of_29_convolutions_with_pooled_shortcuts_and_widths_that_do_not_double():
    face = ResNet(
        "face",
        "A net for faces of 150x150 pixels",
        (3, 4, 3, 3, 1),
        width=(8, 16, 32, 64, 64),
        branch=with_zeros,
        shortcut=pooled_zero_pad,
        padding="valid",
        num_classes=16,
        head_bias=False,
        input_shape=(150, 150, 3),
    )
    ours, theirs = face(), face_net(keras.Input((150, 150, 3)))
    assert ours.get_layer("stage5_block1").output.shape == (None, 2, 2, 64)
    randomize(theirs)

    def name_in_face_net(name):
        block = re.match(r"stage(\d)_block(\d)/branch/(conv|norm)(\d)/(.*)", name)
        if block is None:
            return name_in_caffe(name)
        stage, number, kind, place, leaf = block.groups()
        bn = "_bn" if kind == "norm" else ""
        return f"level{int(stage) - 1}_{int(number) - 1}{'ab'[int(place) - 1]}{bn}/{leaf}"

    assert load_weights(ours, theirs, name_in_face_net) == []
    assert_same_outputs(ours, theirs, (150, 150, 3))
