"""The log says which layers a block applies, wherever the block comes from, and guesses none."""

import keras
import numpy as np
import pytest
from keras import layers

from reszoo import (
    BasicBranch,
    GradientRecorder,
    ProjectionShortcut,
    ResidualBlock,
    ReversibleBlock,
)
from reszoo.gradients import instrument, load_layers
from reszoo.gradients.block_layers import describe_layers
from reszoo.gradients.blocks import find_blocks
from reszoo.layers import ExclusiveGatedBlock, ReversibleChain
from tests.gradients.described import assert_layers_are_described, rows

SIZE = 4


def kinds(described, path="branch"):
    return [row["kind"] for row in described[path]]


def names(described, path="branch"):
    return [row["name"] for row in described[path]]


def parameters_of(described):
    return sum(row["parameters"] for path in ("skip", "branch") for row in described[path])


def test_the_layers_of_blocks_and_of_graphs_are_described():
    assert_layers_are_described()


def test_the_layers_of_a_network_of_keras_are_those_of_its_graph():
    model = keras.applications.ResNet50(weights=None, input_shape=(32, 32, 3))
    blocks = instrument(model)
    assert len(blocks) == 16
    for name, block in blocks.items():
        described, stem = describe_layers(block), name.removesuffix("add")
        numbers = ["0"] if stem.endswith("block1_") else []
        assert names(described, "skip") == [
            f"{stem}{n}_{part}" for n in numbers for part in ("conv", "bn")
        ]
        inner = [f"{stem}{n}_{part}" for n in "123" for part in ("conv", "bn", "relu")]
        assert names(described) == inner[:-1]
        for row in [*described["skip"], *described["branch"]]:
            layer = model.get_layer(row["name"])
            assert (row["kind"], row["parameters"]) == (type(layer).__name__, layer.count_params())
            assert row["shape"] == list(layer.output.shape[1:])
            assert row["activation"] == ("relu" if row["name"].endswith("relu") else None)
        assert described["activation"] == "relu"


def test_a_block_inside_another_is_one_layer_of_it_and_has_its_own():
    inputs = keras.Input((SIZE,))
    inner = ResidualBlock([layers.Dense(SIZE, name="dense")], name="inner")
    outer = ResidualBlock([inner, layers.Dense(SIZE, name="last")], name="outer")
    described = rows(keras.Model(inputs, outer(inputs)), find_blocks)
    assert described["outer"]["branch"] == [
        ("inner", "ResidualBlock", [SIZE], 20, None),
        ("last", "Dense", [SIZE], 20, None),
    ]
    assert described["inner"]["branch"] == [("dense", "Dense", [SIZE], 20, None)]


def test_each_step_of_a_reversible_chain_has_the_layers_of_its_half():
    inputs = keras.Input((4, 4, 2 * SIZE))
    chain = ReversibleChain(
        [ReversibleBlock(BasicBranch(SIZE), BasicBranch(SIZE), name=name) for name in "ab"]
    )
    model = keras.Model(inputs, chain(inputs))
    blocks = find_blocks(model)
    assert list(blocks) == ["a_f", "a_g", "b_f", "b_g"]
    for block in blocks.values():
        described = describe_layers(block)
        assert described["skip"] == []
        assert names(described)[:-1] == ["conv1", "norm1", "activation1", "conv2", "norm2"]
        assert [row["shape"] for row in described["branch"]] == [[4, 4, SIZE]] * 5 + [[4, 4, 8]]
        assert parameters_of(described) == block.count_params()


def test_a_layer_that_is_shared_or_called_twice_stands_wherever_it_is_called():
    shared = layers.Dense(SIZE, name="shared")
    x = inputs = keras.Input((SIZE,))
    for name in "ab":
        x = ResidualBlock([shared, layers.ReLU(name=f"relu_{name}"), shared], name=name)(x)
    x = layers.Add(name="c")([x, shared(shared(x))])
    model = keras.Model(inputs, x)
    found = {**find_blocks(model), **instrument(model)}
    described = {name: names(describe_layers(block)) for name, block in found.items()}
    assert described == {
        "a": ["shared", "relu_a", "shared"],
        "b": ["shared", "relu_b", "shared"],
        "c": ["shared", "shared"],
    }


class Attention(layers.Layer):
    """A transformer's layer: two blocks, the second of which its own code scales."""

    def __init__(self, **options):
        super().__init__(**options)
        self.norm1, self.norm2 = (layers.LayerNormalization(name=f"norm{i}") for i in "12")
        self.attention = layers.MultiHeadAttention(2, 2, name="attention")
        self.dropout = layers.Dropout(0.1, name="dropout")
        dense = [layers.Dense(8, "gelu", name="dense1"), layers.Dense(SIZE, name="dense2")]
        self.mlp = keras.Sequential(dense, name="mlp")

    def call(self, x):
        y = self.norm1(x)
        x = x + self.dropout(self.attention(y, y))
        return x + 0.5 * self.mlp(self.norm2(x))


class Subclassed(keras.Model):
    """A model with no graph."""

    def __init__(self):
        super().__init__()
        self.attention = Attention(name="layer1")

    def call(self, x):
        return self.attention(x)


def functional(tokens):
    inputs = keras.Input((tokens, SIZE))
    return keras.Model(inputs, Attention(name="layer1")(inputs))


@pytest.mark.parametrize("tokens", [3, None])
def test_layers_inside_of_a_layer_are_described_with_shapes_that_are_the_models(tokens):
    described = rows(functional(tokens), instrument)
    shape, wide = ([3, SIZE], [3, 8]) if tokens else (None, None)
    attention = layers.MultiHeadAttention(2, 2)
    attention.build((None, 3, SIZE), (None, 3, SIZE))
    assert described["layer1/attention"]["branch"] == [
        ("norm1", "LayerNormalization", shape, 8, None),
        ("attention", "MultiHeadAttention", shape, attention.count_params(), None),
        ("dropout", "Dropout", shape, 0, None),
    ]
    assert described["layer1/feedforward"]["branch"] == [
        ("norm2", "LayerNormalization", shape, 8, None),
        ("dense1", "Dense", wide, SIZE * 8 + 8, "gelu"),
        ("dense2", "Dense", shape, 8 * SIZE + SIZE, None),
        (None, "Mul", None, None, None),
    ]
    assert described["layer1/attention"]["skip"] == []


def test_layers_of_a_subclassed_model_are_described_for_its_example_batch():
    model = Subclassed()
    described = rows(model, lambda model: instrument(model, np.ones((2, 3, SIZE), "float32")))
    assert [row[:3] for row in described["layer1/attention"]["branch"]] == [
        ("norm1", "LayerNormalization", [3, SIZE]),
        ("attention", "MultiHeadAttention", [3, SIZE]),
        ("dropout", "Dropout", [3, SIZE]),
    ]


def test_both_paths_of_an_exclusive_gate_end_in_it():
    block = ExclusiveGatedBlock(BasicBranch(6, 2), shortcut=ProjectionShortcut(6, 2), name="gated")
    block(keras.ops.ones((1, 8, 8, SIZE)))
    described = describe_layers(block)
    gate = ("gate", "Gate", [4, 4, 6], block.gate.count_params(), None)
    for path, first in (("skip", "conv"), ("branch", "conv1")):
        assert described[path][0]["name"] == first
        assert tuple(described[path][-1].values()) == gate


class OwnCall(ResidualBlock):
    """A block that applies something else than its paths."""

    def call(self, x):
        return super().call(keras.ops.tanh(x))


class OwnChain(keras.Sequential):
    """Layers that are not applied one after the other."""

    def call(self, x):
        return self.layers[0](x) + self.layers[1](x)


def test_what_is_not_known_is_not_guessed():
    x = keras.ops.ones((2, SIZE))
    own = OwnCall([layers.Dense(SIZE)])
    own(x)
    assert describe_layers(own) is None
    parallel = OwnChain([layers.Dense(SIZE), layers.Dense(SIZE)], name="parallel")
    block = ResidualBlock([parallel, layers.Dense(SIZE, name="dense")])
    block(x)
    assert kinds(describe_layers(block)) == ["OwnChain", "Dense"]
    never_built = describe_layers(ResidualBlock([layers.Dense(SIZE, name="dense")]))["branch"]
    assert [tuple(row.values()) for row in never_built] == [("dense", "Dense", None, None, None)]


def test_a_shape_is_the_same_whatever_the_batch():
    described = []
    for batch in (2, 3):
        block = ResidualBlock([layers.Dense(SIZE, name="dense")])
        block(keras.ops.ones((batch, SIZE)))
        described.append(describe_layers(block))
    assert described[0] == described[1]


class MeanOfAll(layers.Layer):
    """One number for the whole batch."""

    def call(self, x):
        return keras.ops.mean(x)


def test_a_shape_is_not_known_without_an_axis_of_examples_and_none_for_a_number_of_each():
    inputs = keras.Input((None, SIZE))
    x = layers.Dense(SIZE, name="dense")(inputs)
    y = layers.Lambda(lambda y: keras.ops.mean(y, (1, 2)), name="of_each")(x)
    x = x * MeanOfAll(name="of_all")(x) * keras.ops.reshape(y, (-1, 1, 1))
    model = keras.Model(inputs, layers.Add(name="sum")([inputs, x]))
    described = describe_layers(instrument(model)["sum"])["branch"]
    shapes = {row["name"]: row["shape"] for row in described}
    assert shapes["dense"] == [None, SIZE]
    assert shapes["of_all"] is None
    assert shapes["of_each"] == []


def test_a_recorded_training_has_its_layers_in_the_log(tmp_path):
    inputs = keras.Input((SIZE,))
    block = ResidualBlock([layers.Dense(SIZE, "relu", name="dense")], name="block")
    model = keras.Model(inputs, block(inputs))
    model.compile("sgd", "mse")
    x = np.ones((4, SIZE), "float32")
    model.fit(x, x, verbose=0, callbacks=[GradientRecorder(tmp_path, every_steps=1)])
    (row,) = load_layers(str(tmp_path)).itertuples(index=False)
    assert tuple(row) == ("block", "branch", "dense", "Dense", (SIZE,), 20, "relu")
