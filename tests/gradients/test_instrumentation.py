"""Models of `keras.applications` are recorded as they are, and exactly."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import reszoo
from reszoo.gradients import instrument, load
from reszoo.gradients.backend import ModelTaps
from reszoo.gradients.blocks import describe_blocks
from tests.gradients.by_hand import expected_statistics

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
BATCH = 4
# How many blocks each has, and the first and last of their names.
BLOCKS = {
    "ResNet50": (16, "conv2_block1_add", "conv5_block3_add"),
    "ResNet50V2": (16, "conv2_block1_out", "conv5_block3_out"),
    "MobileNetV2": (10, "block_2_add", "block_15_add"),
    "EfficientNetB0": (9, "block2b_add", "block6d_add"),
}
# The layers that read the forks for the branch: the first of the branch of each block.
FIRST_OF_BRANCH = {
    "ResNet50": ("_add", "_1_conv"),
    "ResNet50V2": ("_out", "_preact_bn"),
    "MobileNetV2": ("_add", "_expand"),
    "EfficientNetB0": ("_add", "_expand_conv"),
}


def application(name):
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    options = {"alpha": 0.35} if name == "MobileNetV2" else {}
    return getattr(keras.applications, name)(
        weights=None,
        input_shape=(32, 32, 3),
        classes=3,
        classifier_activation=None,
        **options,
    )


def compiled(model):
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), LOSS, run_eagerly=True)
    return model


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    images = random.normal(size=(2 * BATCH, 32, 32, 3)).astype("float32")
    return images, random.integers(0, 3, 2 * BATCH)


def fit(model, data, *callbacks):
    model.fit(*data, batch_size=BATCH, shuffle=False, verbose=0, callbacks=list(callbacks))


def recorded(log_dir, step):
    table = load(str(log_dir))
    table = table[table.step == step]
    return {
        block: dict(zip(rows.statistic, rows.value, strict=True))
        for block, rows in table.groupby("block", observed=True)
    }


def attributes(model):
    return [sorted(vars(owner)) for owner in (model, model.optimizer, *model.layers)]


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_is_found_and_the_outputs_are_bit_for_bit_the_same(name, data):
    model = compiled(application(name))
    images = data[0][:1]
    plain = model(images).numpy()
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    blocks = instrument(model)
    count, first, last = BLOCKS[name]
    assert len(blocks) == count
    assert (next(iter(blocks)), list(blocks)[-1]) == (first, last)
    assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
    taps = ModelTaps(model, ["forward"], blocks)
    before = attributes(model)
    taps.set_due(0, 0)
    np.testing.assert_array_equal(taps.recorded(model)(images).numpy(), plain)
    forwards = taps.take()[0]["forward_elements"]
    assert (forwards > 0).all()
    assert attributes(model) == before


def path_gradients_by_hand(name, model, blocks, images, labels):
    """Returns the gradients of the paths, of a chain of models that end where blocks do."""
    suffix, first = FIRST_OF_BRANCH[name]
    additions = [model.get_layer(name) for name in blocks]
    forks = [_fork(model, name.removesuffix(suffix), first) for name in blocks]
    starts = [model.input, *(addition.output for addition in additions)]
    between = [
        _segment(start, end) for start, end in zip(starts, [*forks, model.output], strict=True)
    ]
    paths = [_paths(f, a.input) for f, a in zip(forks, additions, strict=True)]
    tensors = {}
    with tf.GradientTape() as tape:
        x = between[0](images)
        for name, (shortcut, branch), onward in zip(blocks, paths, between[1:], strict=True):
            to_skip, to_branch = tf.identity(x), tf.identity(x)
            y = shortcut(to_skip) + branch(to_branch)
            tensors[name] = (to_skip, to_branch, y)
            x = onward(y)
        loss = LOSS(labels, x)
    gradients = tape.gradient(loss, tensors)
    return {name: [g.numpy() for g in of_block] for name, of_block in gradients.items()}


def _fork(model, block, first_of_branch):
    names = [layer.name for layer in model.layers]
    if f"{block}_0_conv" in names:  # whose input is the fork, after a normalization or not
        return model.get_layer(f"{block}_0_conv").input
    return model.get_layer(f"{block}{first_of_branch}").input


def _segment(start, end):
    if start is end:
        return lambda x: x
    segment = keras.Model(start, end)
    return lambda x: segment(x, training=True)


def _paths(fork, ends):
    """Returns the functions of the shortcut and of the branch."""
    names = [end._keras_history.operation.name for end in ends]
    of_shortcut = [
        end is fork or "_0_" in name or "max_pooling" in name
        for end, name in zip(ends, names, strict=True)
    ]
    shortcut = of_shortcut.index(True)
    assert of_shortcut.count(True) == 1
    return _segment(fork, ends[shortcut]), _segment(fork, ends[1 - shortcut])


@pytest.mark.parametrize("name", ["ResNet50", "ResNet50V2", "MobileNetV2"])
def test_norms_are_those_of_a_tape_by_hand(name, data, tmp_path):
    batch = data[0][:BATCH], data[1][:BATCH]
    model = compiled(application(name))
    fit(model, batch, reszoo.GradientRecorder(tmp_path, 1, blocks=instrument(model)))
    found = recorded(tmp_path, 0)
    gradients = path_gradients_by_hand(name, application(name), list(found), *batch)
    for block, of_block in gradients.items():
        for statistic, expected in expected_statistics(*of_block).items():
            # A cosine near zero is a small difference of large products.
            tolerance = 1e-5 if statistic == "skip_branch_cosine" else 0
            assert found[block][statistic] == pytest.approx(expected, rel=1e-5, abs=tolerance), (
                block,
                statistic,
            )


# Not so ResNet50V2, whose normalizations read the fork several times: their gradients are summed
# before the skip's is added, so the last bits differ.
@pytest.mark.parametrize("name", ["ResNet50", "MobileNetV2", "EfficientNetB0"])
def test_training_is_bit_for_bit_the_same_and_leaves_nothing(name, data, tmp_path):
    plain, tapped = compiled(application(name)), compiled(application(name))
    recorder = reszoo.GradientRecorder(tmp_path, 1, blocks=instrument(tapped))
    for model, callbacks in ((plain, []), (tapped, [recorder])):
        keras.utils.set_random_seed(1)
        fit(model, data, *callbacks)
    assert sorted(set(load(str(tmp_path)).step)) == [0, 1]
    for without, with_recorder in zip(plain.get_weights(), tapped.get_weights(), strict=True):
        np.testing.assert_array_equal(with_recorder, without)
    assert attributes(tapped) == attributes(plain)


def test_a_block_has_the_weights_of_both_its_paths(data, tmp_path):
    model = compiled(application("ResNet50"))
    blocks = instrument(model)
    described = {block["name"]: block for block in describe_blocks(blocks)}
    assert [b["shortcut"] for b in described.values()].count("projection") == 4
    assert [b["strides"] for b in described.values()].count(2) == 3
    of_block = described["conv3_block1_add"]
    assert (of_block["shortcut"], of_block["strides"]) == ("projection", 2)
    layers_of_block = [layer for layer in model.layers if layer.name.startswith("conv3_block1_")]
    assert of_block["trainable_weights"] == sum(
        np.prod(weight.shape) for layer in layers_of_block for weight in layer.trainable_weights
    )


def test_a_dense_net_is_refused_for_its_concatenations():
    model = application("DenseNet121")
    with pytest.raises(ValueError, match=r"concatenation, first in 'conv2_block1_concat'"):
        instrument(model)


def test_the_cells_of_a_nas_net_are_no_blocks():
    keras.utils.clear_session()
    model = keras.applications.NASNetMobile((96, 96, 3), weights=None, classes=3)
    with pytest.raises(ValueError, match="has no residual block"):
        instrument(model)


def test_a_model_without_additions_is_refused():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dense(2)(inputs), name="plain")
    with pytest.raises(ValueError, match="'plain' has no residual block"):
        instrument(model)


def test_a_model_without_a_graph_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x + x

    with pytest.raises(ValueError, match="is not a functional model"):
        instrument(Subclassed(name="subclassed"))
    with pytest.raises(ValueError, match=r"instrument takes a Keras model.*'ResNet50'"):
        instrument("ResNet50")


def residual_model():
    inputs = keras.Input((4,))
    return keras.Model(inputs, layers.Add(name="block")([inputs, layers.Dense(4)(inputs)]))


def test_blocks_of_another_model_are_refused(tmp_path):
    model = residual_model()
    model.compile("sgd", "mse")
    x = np.ones((2, 4))
    for blocks, message in ((instrument(residual_model()), "not of the model"), ({}, "empty")):
        recorder = reszoo.GradientRecorder(tmp_path / "log", blocks=blocks)
        with pytest.raises(ValueError, match=message):
            model.fit(x, x, verbose=0, callbacks=[recorder])
    assert not (tmp_path / "log").exists()


def test_a_model_of_keras_hub_is_found():
    keras_hub = pytest.importorskip("keras_hub")
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[2, 2],
        stackwise_num_strides=[1, 2],
        block_type="basic_block",
        image_shape=(16, 16, 3),
    )
    described = describe_blocks(
        instrument(keras_hub.models.ResNetImageClassifier(backbone=backbone, num_classes=3))
    )
    assert [(b["name"], b["shortcut"], b["strides"]) for b in described] == [
        ("stack0_block0_add", "identity", 1),
        ("stack0_block1_add", "identity", 1),
        ("stack1_block0_add", "projection", 2),
        ("stack1_block1_add", "identity", 1),
    ]
