"""Blocks found in graphs of every form are those that a person would find, and are seen exactly."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import reszoo
from reszoo import ResidualBlock
from reszoo.gradients import instrument, load
from reszoo.gradients.blocks import describe_blocks
from reszoo.gradients.graph import Graph
from tests.gradients.devices import two_devices

SIZE = 4


def recorded(model, x, y, tmp_path, blocks=None, compile_options=None, **options):
    """Returns block to statistic to value, of one step of `fit`."""
    model.compile("sgd", "mse", **{"run_eagerly": True, **(compile_options or {})})
    recorder = reszoo.GradientRecorder(tmp_path, 1, blocks=blocks or instrument(model), **options)
    model.fit(x, y, batch_size=len(x), verbose=0, callbacks=[recorder])
    found = {}
    for row in load(str(tmp_path)).itertuples():
        found.setdefault(row.block, {})[row.statistic] = row.value
    return found


def norms(tape, loss, **tensors):
    gradients = tape.gradient(loss, tensors)
    return {name: np.linalg.norm(gradient) for name, gradient in gradients.items()}


def copies(x):
    return tf.identity(x), tf.identity(x)


def assert_path_norms(statistics, skip, branch, output):
    assert statistics["skip_gradient_norm"] == pytest.approx(skip, rel=1e-5)
    assert statistics["branch_gradient_norm"] == pytest.approx(branch, rel=1e-5)
    assert statistics["output_gradient_norm"] == pytest.approx(output, rel=1e-5)


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    return [random.normal(size=(8, SIZE)).astype("float32") for _ in range(2)]


def dense(**options):
    return layers.Dense(SIZE, **options)


def mean_squares(y, prediction):
    return tf.reduce_mean(tf.square(y - prediction))


def test_additions_of_every_kind_are_found():
    x = inputs = keras.Input((SIZE,))
    x = layers.Add(name="layer")([x, dense()(x)])
    x = layers.add([dense()(x), x], name="function")
    x = keras.ops.add(x, dense()(x))
    x = x + dense()(dense()(x))
    names = list(instrument(keras.Model(inputs, x)))
    assert names[:2] == ["layer", "function"]
    assert len(names) == 4


# Sums of one block each, of `x` and two functions of it; and the same on a tape by hand, of two
# versions of `x`, for the skip and for the branch.
SUMS = {
    "three terms in one layer": (
        lambda x, f, g: layers.Add()([x, f(x), g(x)]),
        lambda skip, branch, f, g: skip + f(branch) + g(branch),
    ),
    "parallel branches": (
        lambda x, f, g: x + g(n := f(x)) + dense_of(g, n),
        lambda skip, branch, f, g: skip + g(n := f(branch)) + dense_of(g, n),
    ),
    "parallel branches, x last": (
        lambda x, f, g: g(n := f(x)) + dense_of(g, n) + x,
        lambda skip, branch, f, g: g(n := f(branch)) + dense_of(g, n) + skip,
    ),
    "a difference": (
        lambda x, f, g: layers.Subtract()([x, g(f(x))]),
        lambda skip, branch, f, g: skip - g(f(branch)),
    ),
    "a scaled skip": (
        lambda x, f, g: 0.7 * x + g(f(x)),
        lambda skip, branch, f, g: 0.7 * skip + g(f(branch)),
    ),
    "a projection with an activation": (
        lambda x, f, g: dense_of(g, x) + layers.Activation("tanh")(f(x)),
        lambda skip, branch, f, g: dense_of(g, branch) + tf.tanh(f(skip)),
    ),
}


def dense_of(layer, x):
    """Returns another function of `x`, with the weights of a layer."""
    return layer(layer(x))


@pytest.mark.parametrize("kind", SUMS)
def test_a_sum_of_any_form_is_one_block_and_seen_exactly(kind, data, tmp_path):
    of_model, by_hand = SUMS[kind]
    first, f, g = dense(activation="tanh"), dense(activation="tanh"), dense(activation="relu")
    inputs = keras.Input((SIZE,))
    x = first(inputs)
    model = keras.Model(inputs, of_model(x, f, g))
    assert len(instrument(model)) == 1
    with tf.GradientTape() as tape:
        skip, branch = copies(first(data[0]))
        y = by_hand(skip, branch, f, g)
        loss = mean_squares(data[1], y)
    expected = norms(tape, loss, skip=skip, branch=branch, output=y)
    of_skip = {"a scaled skip": lambda: 0.7 * skip}
    of_skip["a projection with an activation"] = lambda: tf.tanh(f(skip))
    skip_output = of_skip.get(kind, lambda: skip)()
    sizes = [np.sqrt(np.mean(np.square(z))) for z in (skip_output, y - skip_output, y)]
    (found,) = recorded(model, *data, tmp_path, statistics=["paths", "forward"]).values()
    assert_path_norms(found, **expected)
    names = ["skip_output_rms", "branch_output_rms", "sum_rms"]
    np.testing.assert_allclose([found[name] for name in names], sizes, rtol=1e-5)


def test_sums_that_are_no_blocks_are_not_found():
    x = inputs = keras.Input((SIZE,))
    cell = layers.Concatenate()([x + dense()(x), layers.Add()([x, dense()(x)])])
    x = dense()(cell)
    error = dense()(x) - x
    two_branches = layers.Add()([dense(activation="relu")(x), dense(activation="tanh")(x)])
    no_gradient = x + dense()(keras.ops.stop_gradient(x))
    of_the_shape = x + dense()(keras.ops.zeros_like(x))
    outputs = [error, two_branches, no_gradient, of_the_shape]
    x = layers.Add(name="residual")([x, dense()(x)])
    assert list(instrument(keras.Model(inputs, [*outputs, x]))) == ["residual"]


OTHER_SUMS = {
    "an average": (lambda x, f, g: layers.Average(name="sum")([x, f(x)]), "only additions"),
    "a sum of a stack": (
        lambda x, f, g: keras.ops.sum(keras.ops.stack([f(x), x]), 0),
        "only additions",
    ),
    "a mean of a stack": (
        lambda x, f, g: keras.ops.mean(keras.ops.stack([x, f(x)]), 0),
        "only additions",
    ),
    "a product with a stack": (
        lambda x, f, g: keras.ops.einsum("kbc,k->bc", keras.ops.stack([x, f(x)]), np.ones(2)),
        "only additions",
    ),
    "a highway": (lambda x, f, g: (gate := f(x)) * g(x) + (1 - gate) * x, "share a gate"),
}


@pytest.mark.parametrize("kind", OTHER_SUMS)
def test_a_block_that_is_not_recorded_is_named(kind):
    inputs = keras.Input((SIZE,))
    x = layers.Add(name="residual")([inputs, dense()(inputs)])
    of_model, reason = OTHER_SUMS[kind]
    x = of_model(x, dense(activation="sigmoid"), dense(activation="relu"))
    with pytest.warns(UserWarning, match=f"is not recorded: .*{reason}"):
        assert list(instrument(keras.Model(inputs, x))) == ["residual"]


GATED_SUMS = {
    "one gate": (lambda h, x, gate, f: (g := gate(h)) * h + (1 - g) * f(h), "Exclusive"),
    "a part of it": (lambda h, x, gate, f: gate(y := dense()(h)) * h + f(y), "Exclusive"),
    "a step of a GRU": (
        lambda h, x, gate, f: (g := gate(h + x)) * h + (1 - g) * f(x + h * h),
        "read another tensor and share a gate",
    ),
    "a minimal one": (
        lambda h, x, gate, f: (g := gate(h + x)) * h + (1 - g) * f(h),
        "read another tensor and share a gate",
    ),
    "two gates": (lambda h, x, gate, f: gate(h + x) * h + f(h + x), "read another tensor, as"),
}


@pytest.mark.parametrize("kind", GATED_SUMS)
def test_a_cure_for_a_gated_sum_is_named_only_where_it_is_one(kind):
    inputs = keras.Input((SIZE,)), keras.Input((SIZE,))
    of_both, reason = GATED_SUMS[kind]
    h = of_both(dense()(inputs[0]), inputs[1], dense(activation="sigmoid"), dense())
    model = keras.Model(inputs, layers.Add(name="residual")([h, dense()(h)]))
    with pytest.warns(UserWarning, match=f"is not recorded: .*{reason}") as warned:
        assert "residual" in instrument(model)
    assert ("Exclusive" in str(warned[0].message)) == (reason == "Exclusive")


def test_neither_gates_nor_cells_nor_means_of_models_are_named():
    def conv(x, size=1):
        return layers.Conv2D(SIZE, size, padding="same", activation="relu")(x)

    x = inputs = keras.Input((4, 4, SIZE))
    x = x * keras.ops.sigmoid(conv(keras.ops.mean(x, (1, 2), keepdims=True)))  # of SENet
    x = layers.Add()([conv(x), conv(conv(x), 3), conv(conv(conv(x), 3), 3)])  # of Inception
    x = conv(x) + conv(conv(x), 3) + conv(conv(conv(x), 3), 3)
    x = conv(conv(x), 3) + conv(conv(x, 3)) + conv(x)
    x = conv(x) * keras.ops.sigmoid(conv(x)) + conv(x) * keras.ops.sigmoid(conv(x))
    x = layers.Average()([conv(x), conv(conv(x))])
    x = keras.ops.max(keras.ops.stack([x, conv(x)]), 0)
    x = layers.Add(name="residual")([x, conv(x)])
    assert list(instrument(keras.Model(inputs, x))) == ["residual"]


def test_a_skip_around_a_block_that_it_is_added_to_is_another_block():
    inputs = keras.Input((SIZE,))
    x = dense()(inputs)
    inner = layers.Add(name="inner")([x, dense()(x)])
    model = keras.Model(inputs, layers.Add(name="outer")([inner, inputs]))
    described = describe_blocks(instrument(model))
    assert [(b["name"], b["parent"], b["shortcut"]) for b in described] == [
        ("inner", "outer", "identity"),
        ("outer", None, "identity"),
    ]


def test_a_branch_may_read_what_is_earlier_than_the_fork():
    inputs = keras.Input((3, SIZE))
    embedding = dense()(layers.GlobalAveragePooling1D()(inputs))
    memory = dense()(inputs) * layers.Reshape((1, SIZE))(embedding)
    x = dense()(memory)
    attention = layers.MultiHeadAttention(1, SIZE)
    x = layers.Add(name="cross_attention")([x, attention(x, memory)])
    y = dense()(x) + layers.Reshape((1, SIZE))(embedding)
    x = layers.Add(name="conditioned")([dense()(x), dense()(y)])
    assert list(instrument(keras.Model(inputs, x))) == ["cross_attention", "conditioned"]


def test_additions_that_join_no_two_paths_are_not_found():
    first, second, tokens = (
        keras.Input((SIZE,)),
        keras.Input((SIZE,)),
        keras.Input((), dtype="int32"),
    )
    of_tokens = layers.Add(name="embeddings")(
        [layers.Embedding(5, SIZE)(tokens), layers.Embedding(5, SIZE)(tokens)]
    )
    two_towers = layers.Add(name="two_towers")([dense()(first), dense()(second)])
    doubled = layers.Add(name="doubled")([two_towers, two_towers])
    broadcast = layers.Dense(1)(doubled) + doubled
    outputs = layers.Add(name="residual")([broadcast, dense()(broadcast)]) + of_tokens
    assert list(instrument(keras.Model([first, second, tokens], outputs))) == ["residual"]


def test_a_shortcut_is_the_shorter_path():
    inputs = keras.Input((8, 8, 2))
    branch = layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
    branch = layers.Conv2D(4, 3, padding="same")(layers.ReLU()(branch))
    x = layers.Add(name="projection")([branch, layers.Conv2D(4, 1, strides=2)(inputs)])
    branch = layers.Conv2D(4, 3, strides=2, padding="same")(layers.ReLU()(x))
    x = layers.Add(name="pooled")([branch, layers.MaxPooling2D(1, 2)(x)])
    described = describe_blocks(instrument(keras.Model(inputs, x)))
    assert [(b["name"], b["shortcut"], b["strides"]) for b in described] == [
        ("projection", "projection", 2),
        ("pooled", "maxpooling2d", 2),
    ]
    weights = (9 * 2 * 4 + 4) + (9 * 4 * 4 + 4) + (2 * 4 + 4)
    assert described[0]["trainable_weights"] == weights


def test_strides_are_those_of_the_layers_where_the_image_size_is_open():
    inputs = keras.Input((None, None, 2))
    branch = layers.Conv2D(4, 3, strides=2, padding="same")(inputs)
    branch = layers.Conv2D(4, 3, padding="same")(branch)
    x = layers.Add()([branch, layers.Conv2D(4, 1, strides=2)(inputs)])
    assert describe_blocks(instrument(keras.Model(inputs, x)))[0]["strides"] == 2


def test_another_reader_of_the_fork_counts_to_neither_path(data, tmp_path):
    inputs = keras.Input((SIZE,))
    trunk, branch, head = dense(), dense(activation="tanh"), dense()
    x = trunk(inputs)
    y = layers.Add(name="block")([x, branch(x)])
    model = keras.Model(inputs, y * head(x))
    with tf.GradientTape() as tape:
        x = trunk(data[0])
        skip, to_branch = copies(x)
        y = skip + branch(to_branch)
        loss = mean_squares(data[1], y * head(x))
    expected = norms(tape, loss, skip=skip, branch=to_branch, output=y)
    with tf.GradientTape() as tape:
        loss = mean_squares(data[1], model(data[0]))
    kernel = trunk.kernel.numpy() - 0.01 * tape.gradient(loss, trunk.kernel.value).numpy()
    assert_path_norms(recorded(model, *data, tmp_path)["block"], **expected)
    # It gets its gradient all the same.
    np.testing.assert_allclose(trunk.kernel.numpy(), kernel, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("compile_options", [{}, {"run_eagerly": False, "jit_compile": True}])
def test_a_skip_around_a_block_from_the_same_fork(data, tmp_path, compile_options):
    inputs = keras.Input((SIZE,))
    first, inner, outer = dense(), dense(activation="tanh"), dense(activation="tanh")
    x = first(inputs)
    y = layers.Add(name="inner")([x, inner(x)])
    model = keras.Model(inputs, layers.Add(name="outer")([x, outer(y)]))
    with tf.GradientTape(persistent=True) as tape:
        outer_skip, outer_branch = copies(first(data[0]))
        skip, branch = copies(outer_branch)
        between = skip + inner(branch)
        y = outer_skip + outer(between)
        loss = mean_squares(data[1], y)
    expected = {
        "inner": norms(tape, loss, skip=skip, branch=branch, output=between),
        "outer": norms(tape, loss, skip=outer_skip, branch=outer_branch, output=y),
    }
    found = recorded(model, *data, tmp_path, compile_options=compile_options)
    for name in ("inner", "outer"):
        assert_path_norms(found[name], **expected[name])
    parents = {b["name"]: b["parent"] for b in describe_blocks(instrument(model))}
    assert parents == {"inner": "outer", "outer": None}


def test_paths_that_cross_are_left_out_with_a_warning():
    inputs = keras.Input((SIZE,))
    shared = dense()(dense()(inputs))
    y = layers.Add(name="crossed")([inputs, shared])
    z = layers.Add(name="crossing")([dense()(inputs), shared])
    model = keras.Model(inputs, [dense()(y), z])
    with pytest.warns(UserWarning, match="The paths of crossed cross those of another"):
        assert list(instrument(model)) == ["crossing"]


def test_a_nested_model_called_twice_adds_up_both_calls(data, tmp_path):
    inputs = keras.Input((SIZE,))
    branch = dense(activation="tanh")
    nested = keras.Model(inputs, layers.Add(name="block")([inputs, branch(inputs)]), name="nested")
    inputs = keras.Input((SIZE,))
    model = keras.Model(inputs, nested(nested(inputs)))
    with tf.GradientTape() as tape:
        skip1, branch1 = copies(tf.constant(data[0]))
        tape.watch([skip1, branch1])
        y1 = skip1 + branch(branch1)
        skip2, branch2 = copies(y1)
        y2 = skip2 + branch(branch2)
        loss = mean_squares(data[1], y2)
    gradients = tape.gradient(loss, [[skip1, skip2], [branch1, branch2], [y1, y2]])
    expected = [np.linalg.norm(np.concatenate(of_calls)) for of_calls in gradients]
    found = recorded(model, *data, tmp_path)
    assert list(found) == ["block"]
    assert_path_norms(found["block"], *expected)


def test_names_that_occur_twice_are_led_by_their_models():
    def tower(name):
        inputs = keras.Input((SIZE,))
        return keras.Model(inputs, layers.Add(name="block")([inputs, dense()(inputs)]), name=name)

    inputs = keras.Input((SIZE,))
    y = tower("left")(inputs) * keras.Sequential([tower("right")], name="chain")(inputs)
    addition = layers.Add(name="shared")
    y = addition([y, dense()(y)])
    y = addition([y, dense()(y)])
    names = list(instrument(keras.Model(inputs, y)))
    assert sorted(names[:2]) == ["chain/right/block", "left/block"]
    assert names[2:] == ["shared.1", "shared.2"]


def test_blocks_of_layers_and_of_the_graph_can_be_recorded_together(data, tmp_path):
    inputs = keras.Input((SIZE,))
    block = ResidualBlock([dense(activation="tanh")], name="layer")
    model = keras.Model(inputs, layers.Add(name="addition")([inputs, block(inputs)]))
    blocks = {"layer": block, **instrument(model)}
    assert [b["parent"] for b in describe_blocks(blocks)] == ["addition", None]
    found = recorded(model, *data, tmp_path, blocks=blocks)
    # What leaves the inner block is what comes back through the outer one's branch.
    assert found["layer"]["input_gradient_norm"] == pytest.approx(
        found["addition"]["branch_gradient_norm"], rel=1e-6
    )


@pytest.mark.parametrize("activation", [layers.ReLU(), None])
def test_what_leaves_a_block_is_seen_after_its_activation(data, tmp_path, activation):
    inputs = keras.Input((SIZE,))
    y = layers.Add(name="block")([inputs, dense()(inputs)])
    outputs = activation(y) if activation else dense()(y)
    model = keras.Model(inputs, outputs)
    seen = keras.Model(inputs, outputs if activation else y).predict(data[0], verbose=0)
    of_block = recorded(model, *data, tmp_path, statistics=["forward"])["block"]
    assert of_block["activation_zero_fraction"] == np.mean(seen == 0)
    assert of_block["activation_mean"] == pytest.approx(np.mean(seen), rel=1e-5)


def test_masks_pass_through_the_places_of_a_block(tmp_path):
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(5, SIZE, mask_zero=True)(tokens)
    x = layers.Add(name="block")([x, layers.LSTM(SIZE, return_sequences=True)(x)])
    model = keras.Model(tokens, layers.LSTM(SIZE)(x))
    batch = np.array([[1, 2, 3, 0, 0, 0], [4, 3, 2, 1, 0, 0]])
    y = np.ones((2, SIZE), "float32")
    model.compile("sgd", "mse", run_eagerly=True)
    weights = model.get_weights()
    plain = model.fit(batch, y, verbose=0).history["loss"]
    trained = model.get_weights()
    model.set_weights(weights)
    recorder = reszoo.GradientRecorder(tmp_path, 1, blocks=instrument(model))
    assert model.fit(batch, y, verbose=0, callbacks=[recorder]).history["loss"] == plain
    for with_recorder, without in zip(model.get_weights(), trained, strict=True):
        np.testing.assert_allclose(with_recorder, without, rtol=1e-6)


def test_two_devices_record_what_one_would(data, tmp_path):
    def model():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((SIZE,))
        x = dense()(inputs)
        return keras.Model(inputs, layers.Add(name="block")([x, dense(activation="tanh")(x)]))

    options = {"compile_options": {"run_eagerly": False, "jit_compile": False}}
    one = recorded(model(), *data, tmp_path / "one", **options)
    with two_devices().scope():
        two = recorded(model(), *data, tmp_path / "two", **options)
    assert two["block"] == pytest.approx(one["block"], rel=1e-5)


def test_a_graph_knows_its_first_concatenation():
    inputs = keras.Input((SIZE,))
    x = layers.Concatenate(name="first")([inputs, dense()(inputs)])
    model = keras.Model(inputs, keras.ops.concatenate([x, dense()(x)], axis=-1))
    assert Graph(model).concatenation == "first"
