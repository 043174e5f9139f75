"""Blocks whose additions are inside of layers are found, named, and seen exactly."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import reszoo
from reszoo.gradients import instrument, load, load_layers
from reszoo.gradients.blocks import describe_blocks
from tests.gradients.devices import two_devices

SIZE = 8
BATCH = 3
TOKENS = 4


class Forks:
    """Forks, branches and sums of blocks that are written out by hand, by the block's name."""

    def __init__(self):
        self.tensors = {}

    def fork(self, name, x):
        self.tensors[name] = [tf.identity(x), tf.identity(x)]
        return self.tensors[name]

    def merge(self, name, y):
        self.tensors[name].append(y)
        return y


def by_hand(forward, x):
    """Returns the norms at the skip, the branch and the sum of each block, of a mean square."""
    forks = Forks()
    with tf.GradientTape() as tape:
        x = tf.convert_to_tensor(x)
        tape.watch(x)
        loss = tf.reduce_mean(tf.square(forward(x, forks)))
    zero = tf.UnconnectedGradients.ZERO
    gradients = tape.gradient(loss, forks.tensors, unconnected_gradients=zero)
    return {name: [np.linalg.norm(g) for g in of_block] for name, of_block in gradients.items()}


def recorded(model, x, log_dir, blocks=None, compile_options=None, **options):
    """Returns block to statistic to value, of one step of `fit`."""
    blocks = blocks or instrument(model, x)
    model.compile("sgd", "mse", **{"run_eagerly": True, **(compile_options or {})})
    recorder = reszoo.GradientRecorder(log_dir, 1, blocks=blocks, **options)
    y = np.zeros(model(x).shape, "float32")
    model.fit(x, y, batch_size=len(x), verbose=0, callbacks=[recorder])
    found = {}
    for row in load(str(log_dir)).itertuples():
        found.setdefault(row.block, {})[row.statistic] = row.value
    return found


def assert_recorded(found, expected):
    assert sorted(found) == sorted(expected)
    for name, of_block in expected.items():
        names = ("skip_gradient_norm", "branch_gradient_norm", "output_gradient_norm")
        values = [found[name][statistic] for statistic in names]
        assert values == pytest.approx(of_block, rel=1e-5), name


@keras.saving.register_keras_serializable()
class BasicBlock(layers.Layer):
    """The block of a hand-written ResNet: `relu(s(x) + f(x))`."""

    def __init__(self, filters, strides=1, **options):
        super().__init__(**options)
        self.conv1 = layers.Conv2D(filters, 3, strides, padding="same")
        self.conv2 = layers.Conv2D(filters, 3, padding="same")
        self.project = layers.Conv2D(filters, 1, strides) if strides > 1 else None

    def call(self, x):
        y = self.conv2(tf.nn.relu(self.conv1(x)))
        if self.project is not None:
            x = self.project(x)
        return tf.nn.relu(y + x)


class HandWrittenResNet(keras.Model):
    def __init__(self):
        super().__init__(name="net")
        self.stem = layers.Conv2D(4, 3, padding="same")
        self.blocks = [BasicBlock(4, name="b1"), BasicBlock(8, 2, name="b2")]
        self.blocks.append(BasicBlock(8, name="b3"))
        self.head = layers.Dense(2)

    def call(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(tf.reduce_mean(x, [1, 2]))


def of_resnet(model):
    def forward(x, forks):
        x = model.stem(x)
        for block in model.blocks:
            skip, branch = forks.fork(block.name, x)
            y = block.conv2(tf.nn.relu(block.conv1(branch)))
            skip = skip if block.project is None else block.project(skip)
            x = tf.nn.relu(forks.merge(block.name, y + skip))
        return model.head(tf.reduce_mean(x, [1, 2]))

    return forward


class TransformerBlock(layers.Layer):
    """The block of the example of keras.io, with normalization after the sums, or before."""

    def __init__(self, is_pre_norm=False, **options):
        super().__init__(**options)
        self.is_pre_norm = is_pre_norm
        self.att = layers.MultiHeadAttention(2, SIZE)
        self.ffn = keras.Sequential([layers.Dense(16, activation="gelu"), layers.Dense(SIZE)])
        self.norm1, self.norm2 = layers.LayerNormalization(), layers.LayerNormalization()
        self.dropout1, self.dropout2 = layers.Dropout(0.0), layers.Dropout(0.0)

    def call(self, inputs):
        if self.is_pre_norm:
            n = self.norm1(inputs)
            x = inputs + self.dropout1(self.att(n, n))
            x += self.dropout2(self.ffn(self.norm2(x)))
            return x
        x = self.norm1(inputs + self.dropout1(self.att(inputs, inputs)))
        return self.norm2(x + self.dropout2(self.ffn(x)))


def transformer(is_pre_norm=False):
    inputs = keras.Input((TOKENS, SIZE))
    x = inputs
    for i in range(2):
        x = TransformerBlock(is_pre_norm, name=f"layer_{i}")(x)
    return keras.Model(inputs, layers.Dense(2)(x))


def of_transformer(model):
    def forward(x, forks):
        for layer in model.layers[1:-1]:
            skip, branch = forks.fork(f"{layer.name}/attention", x)
            branch = layer.norm1(branch) if layer.is_pre_norm else branch
            x = forks.merge(f"{layer.name}/attention", skip + layer.att(branch, branch))
            x = x if layer.is_pre_norm else layer.norm1(x)
            skip, branch = forks.fork(f"{layer.name}/feedforward", x)
            branch = layer.norm2(branch) if layer.is_pre_norm else branch
            x = forks.merge(f"{layer.name}/feedforward", skip + layer.ffn(branch))
            x = x if layer.is_pre_norm else layer.norm2(x)
        return model.layers[-1](x)

    return forward


class OfOneSum(layers.Layer):
    """A layer that adds in a way of its own."""

    def __init__(self, way, **options):
        super().__init__(**options)
        self.f, self.g = layers.Dense(SIZE, "tanh"), layers.Dense(SIZE, "relu")
        self.linear, self.rnn = layers.Dense(SIZE), layers.SimpleRNN(SIZE)
        self.norm = layers.LayerNormalization()
        self.add = layers.Add()
        self.way = way

    def build(self, shape):
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.scale.assign(0.5)
        self.kernel = self.add_weight(shape=(SIZE, SIZE))

    def call(self, x):
        return self.way(self, x, x)


# Each of a layer and two versions of its input, for the skip and for the branch.
WAYS = {
    "add_layer": lambda m, x, z: m.add([x, m.f(z), m.g(z)]),
    "difference": lambda m, x, z: x - m.f(z),
    "three_terms": lambda m, x, z: x + m.g(z) + m.f(z),
    "in_place": lambda m, x, z: _in_place(m, x, z),
    "parallel": lambda m, x, z: x + m.g(n := m.norm(z)) + m.f(n),
    "parallel_x_last": lambda m, x, z: m.g(n := m.norm(z)) + m.f(n) + x,
    "add_n": lambda m, x, z: tf.add_n([m.f(z), x, m.g(z)]),
    "ops": lambda m, x, z: keras.ops.add(m.f(m.g(z)), x),
    "scaled_skip": lambda m, x, z: 0.7 * x + m.f(z),
    "scaled_branch": lambda m, x, z: x + m.scale * m.f(z),
    "gated": lambda m, x, z: m.scale * x + (1 - m.scale) * m.f(z),
    "scaled_difference": lambda m, x, z: 2 * x - m.f(z),
    "layers_made_in_the_call": lambda m, x, z: layers.Add()([x, layers.ReLU()(m.f(z))]),
    "a_norm_by_hand": lambda m, x, z: x + m.f(z * tf.math.rsqrt(tf.reduce_mean(z * z, -1, True))),
    "a_position_added": lambda m, x, z: x + m.f(z + tf.range(float(SIZE))),
    "a_projection_with_an_activation": lambda m, x, z: m.linear(m.f(z)) + m.g(x),
    "a_long_shortcut_of_one_projection": lambda m, x, z: m.linear(m.f(z)) + tf.tanh(m.norm(m.g(x))),
    "norm_beside_linear": lambda m, x, z: m.linear(z) + m.norm(x),
    "weights_of_its_own": lambda m, x, z: x + tf.nn.relu(z @ m.kernel) @ m.kernel,
    "a_recurrent_branch": lambda m, x, z: x + m.rnn(z[:, None]),
    "complex_numbers": lambda m, x, z: x + tf.math.real(tf.signal.ifft(_spectrum(m.f(z)))),
    "stopped": lambda m, x, z: tf.stop_gradient(m.g(x)) + x + m.f(z),
}


def _spectrum(x):
    return tf.signal.fft(tf.cast(x, tf.complex64)) * tf.cast(tf.range(SIZE), tf.complex64)


def _in_place(layer, x, z):
    y = layer.g(layer.f(z))
    y += x
    return y


@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # of what a way does not use
def test_a_sum_of_any_form_inside_of_a_layer_is_seen_exactly(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((SIZE,))
    x = inputs
    for way in WAYS:
        x = OfOneSum(WAYS[way], name=way)(x)
    model = keras.Model(inputs, x)
    x = np.random.default_rng(0).normal(size=(BATCH, SIZE)).astype("float32")

    def forward(x, forks):
        for layer in model.layers[1:]:
            skip, branch = forks.fork(layer.name, x)
            x = forks.merge(layer.name, layer.way(layer, skip, branch))
        return x

    blocks = instrument(model)
    assert list(blocks) == list(WAYS)
    expected = by_hand(forward, x)
    assert_recorded(recorded(model, x, tmp_path, blocks), expected)
    assert not hasattr(model, "_reszoo_calls")


def one_block():
    inputs = keras.Input((SIZE,))
    return keras.Model(inputs, OfOneSum(WAYS["parallel"], name="block")(inputs))


def of_one_block(model):
    def forward(x, forks):
        skip, branch = forks.fork("block", x)
        return forks.merge("block", WAYS["parallel"](model.layers[1], skip, branch))

    return forward


MODELS = {
    "parallel branches": (one_block, of_one_block, (SIZE,)),
    "a hand-written ResNet": (HandWrittenResNet, of_resnet, (8, 8, 3)),
    "a transformer of keras.io": (transformer, of_transformer, (TOKENS, SIZE)),
    "one with norms before": (
        lambda: transformer(is_pre_norm=True),
        of_transformer,
        (TOKENS, SIZE),
    ),
}
MODES = {
    "eagerly": {"run_eagerly": True},
    "in a graph": {"run_eagerly": False, "jit_compile": False},
    "by XLA": {"run_eagerly": False, "jit_compile": True},
}


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *((name, "eagerly") for name in MODELS),
        ("parallel branches", "by XLA"),
        ("one with norms before", "in a graph"),
    ],
)
def test_all_blocks_of_a_model_are_seen_exactly(name, mode, tmp_path):
    keras.utils.set_random_seed(0)
    make, of_model, shape = MODELS[name]
    model = make()
    x = np.random.default_rng(0).normal(size=(BATCH, *shape)).astype("float32")
    blocks = instrument(model, x)
    expected = by_hand(of_model(model), x)
    assert_recorded(recorded(model, x, tmp_path, blocks, MODES[mode]), expected)


class Called(layers.Layer):
    """A layer that runs a function of itself; it has a few layers to call."""

    def __init__(self, function, **options):
        super().__init__(**options)
        self.f, self.g = layers.Dense(SIZE, "tanh", name="f"), layers.Dense(SIZE, "relu", name="g")
        self.function = function

    def build(self, shape):
        for part in (self.f, self.g):
            part.build((shape[0], SIZE))

    def call(self, x):
        return self.function(self, x)


def model_of(*of_layers):
    inputs = keras.Input((SIZE,))
    x = layers.Dense(SIZE)(inputs)
    for layer in of_layers:
        x = layer(x)
    return keras.Model(inputs, x)


@pytest.fixture
def x():
    keras.utils.set_random_seed(0)
    return np.random.default_rng(0).normal(size=(BATCH, SIZE)).astype("float32")


def test_two_blocks_from_one_fork_and_one_around_them_are_seen_exactly(x, tmp_path):
    layer = Called(lambda m, x: x + m.g((x + m.f(x)) * (x - m.g(x))), name="layer")
    model = model_of(layer)

    def forward(x, forks):
        skip, branch = forks.fork("outer", model.layers[1](x))
        first, to_f = forks.fork("f", branch)
        second, to_g = forks.fork("g", branch)
        product = forks.merge("f", first + layer.f(to_f)) * forks.merge("g", second - layer.g(to_g))
        return forks.merge("outer", skip + layer.g(product))

    blocks = dict(zip(("f", "g", "outer"), instrument(model).values(), strict=True))
    assert [b["parent"] for b in describe_blocks(blocks)] == ["outer", "outer", None]
    expected = by_hand(forward, x)
    assert_recorded(recorded(model, x, tmp_path, blocks), expected)


class OfUnknownRank(layers.Layer):
    """The identity, whose output has a rank that TensorFlow does not know."""

    def call(self, x):
        sizes = tf.raw_ops.PlaceholderWithDefault(input=tf.shape(x), shape=(None,))
        return tf.reshape(x, sizes)

    def compute_output_spec(self, x):
        return keras.KerasTensor(x.shape, x.dtype)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_block_of_unknown_rank_is_recorded_and_its_shapes_are_not_known(x, tmp_path):
    lose, lose_too = OfUnknownRank(name="lose"), OfUnknownRank(name="lose_too")

    def call(m, x):
        y = lose(x) + lose_too(m.f(x))
        return m.g(tf.ensure_shape(y, (None, SIZE)))

    layer = Called(call, name="layer")
    model = model_of(layer)
    (block,) = instrument(model).values()

    def forward(x, forks):
        skip, branch = forks.fork("layer", model.layers[1](x))
        return layer.g(forks.merge("layer", skip + layer.f(branch)))

    expected = by_hand(forward, x)
    assert_recorded(recorded(model, x, tmp_path, {"layer": block}), expected)
    table = load_layers(str(tmp_path)).set_index("layer")
    assert table["shape"].to_dict() == {"lose": None, "f": (SIZE,), "lose_too": None}


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_layer_that_is_called_twice_adds_up_both_calls(x, tmp_path):
    shared = Called(lambda m, x: x + m.f(x), name="shared")
    model = model_of(shared, shared)

    def forward(x, forks):
        x = model.layers[1](x)
        for name in ("first", "second"):
            skip, branch = forks.fork(name, x)
            x = forks.merge(name, skip + shared.f(branch))
        return x

    of_calls = by_hand(forward, x)
    expected = {"shared": np.linalg.norm(list(of_calls.values()), axis=0)}
    assert_recorded(recorded(model, x, tmp_path), expected)


def test_a_sum_in_a_lambda_or_in_a_layer_that_only_adds_is_a_block(x, tmp_path):
    f, g = layers.Dense(SIZE, "tanh"), layers.Dense(SIZE, "relu")
    add = keras.layers.Lambda(lambda xs: xs[0] + xs[1], name="lambda", output_shape=(SIZE,))

    class AddScaled(layers.Layer):
        def call(self, xs):
            return xs[0] + 0.5 * xs[1]

    add_scaled = AddScaled(name="scaled")
    inputs = keras.Input((SIZE,))
    y = add([inputs, f(inputs)])
    z = add_scaled([y, g(y)])
    model = keras.Model(inputs, layers.ReLU()(z))

    def forward(x, forks):
        skip, branch = forks.fork("lambda", x)
        x = forks.merge("lambda", skip + f(branch))
        skip, branch = forks.fork("scaled", x)
        return tf.nn.relu(forks.merge("scaled", skip + 0.5 * g(branch)))

    seen = keras.Model(inputs, [y, model.output]).predict(x, verbose=0)
    expected = by_hand(forward, x)
    found = recorded(model, x, tmp_path, statistics=["paths", "forward"])
    assert_recorded(found, expected)
    zeros = [found[name]["activation_zero_fraction"] for name in ("lambda", "scaled")]
    assert zeros == pytest.approx([np.mean(y == 0) for y in seen])


class StochasticDepth(keras.Model):
    """A model that leaves out blocks in training, by Python's own random numbers."""

    def __init__(self):
        super().__init__(name="net")
        self.branches = [layers.Dense(SIZE, "tanh", name=name) for name in "abcd"]

    def call(self, x, training=False, forks=None):
        for f in self.branches:
            if training and random.random() < 0.5:
                continue
            skip, branch = (x, x) if forks is None else forks.fork(f.name, x)
            x = skip + f(branch)
            if forks is not None:
                forks.merge(f.name, x)
        return x


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_stochastic_depth_by_python_records_the_blocks_that_run(x, tmp_path):
    model = StochasticDepth()
    random.seed(3)
    state = random.getstate()
    blocks = instrument(model, x)
    assert random.getstate() == state
    expected = by_hand(lambda x, forks: model.call(x, True, forks), x)
    random.setstate(state)
    with pytest.warns(UserWarning, match="they did not run"):
        found = recorded(model, x, tmp_path, blocks)
    assert list(found) == list("abcd")
    assert 0 < len(expected) < 4
    assert_recorded({name: found[name] for name in expected}, expected)
    assert all(np.isnan(found[n]["skip_gradient_norm"]) for n in found if n not in expected)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_a_fork_without_its_sum_is_told_and_nothing_of_it_is_recorded(x, tmp_path):
    class Undecided(Called):
        is_off = False

        def call(self, x):
            return self.f(x) if self.is_off else x + self.f(x)

    layer = Undecided(None, name="undecided")
    model = model_of(layer, Called(lambda m, x: x + m.g(x), name="other"))
    blocks = instrument(model)
    layer.is_off = True
    with pytest.warns(
        UserWarning, match=r"1 of the blocks \(undecided\) ran .* without the addition"
    ):
        found = recorded(model, x, tmp_path, blocks, statistics=["paths", "forward"])
    assert all(np.isnan(value) for value in found["undecided"].values())
    assert found["other"]["skip_gradient_norm"] > 0


def highway(x, gate, branch):
    return gate * branch + (1 - gate) * x


def named(function, name="layer"):
    return Called(function, name=name)


UNSEEN = {
    "a tf.function": lambda: named(tf.function(lambda m, x: x + m.f(x))),
    "condition": lambda: named(
        lambda m, x: keras.ops.cond(keras.ops.sum(x) > 0, lambda: x + m.f(x), lambda: x)
    ),
    "remat": lambda: named(lambda m, x: keras.remat(lambda z: z + m.f(z))(x)),
    "no call is seen": lambda: named(lambda m, x: tf.raw_ops.AddV2(x=x, y=m.f(x))),
    "by a function of which": lambda: named(lambda m, x: tf.reduce_sum(tf.stack([x, m.f(x)]), 0)),
    "no call is seen; . or add": lambda: named(lambda m, x: keras.ops.mean([x, m.f(x)], 0)),
    "or a part of it, as in a highway": lambda: named(lambda m, x: highway(x, m.f(x), m.g(x))),
    "another tensor and share a gate, as": lambda: named(
        lambda m, x: highway(h := m.f(x), m.g(h) * x, m.f(h * h))
    ),
    "for both paths": lambda: named(lambda m, x: 0.7 * x + m.f(x * tf.reduce_mean(x))),
}


@pytest.mark.parametrize("what", UNSEEN)
def test_what_cannot_be_seen_is_named_with_its_layer(what):
    other = named(lambda m, x: x + m.f(x), "other")
    model = model_of(UNSEEN[what](), other)
    with pytest.warns(UserWarning, match=rf"inside of 1 layer .*: 'layer' .*{what}"):
        assert list(instrument(model)) == ["other"]


def test_a_block_beside_another_that_cannot_be_seen_is_found():
    def call(m, x):
        x = x + m.f(x)
        return highway(x, m.g(x), m.f(x))

    with pytest.warns(UserWarning, match="Some of what is added inside of 1 layer .* a gate"):
        assert list(instrument(model_of(named(call)))) == ["layer"]


def test_the_cell_of_an_rnn_is_named():
    class Cell(Called):
        state_size = output_size = SIZE

        def call(self, x, states):
            y = x + self.f(x)
            return y, [y]

    inputs = keras.Input((TOKENS, SIZE))
    cell = Cell(None, name="cell")
    cell(np.zeros((1, SIZE), "float32"), [np.zeros((1, SIZE), "float32")])
    model = keras.Model(inputs, layers.RNN(cell)(inputs))
    with pytest.raises(ValueError, match=r"'cell' .*a loop on the device"):
        instrument(model)


def test_sums_inside_of_layers_that_are_no_blocks_are_not_found(x):
    def call(m, x):
        x = 0.5 * x * (1 + tf.tanh(0.8 * (x + 0.044 * x**3)))  # GELU
        rotated = x * tf.cos(x) + tf.roll(x, 1, -1) * tf.sin(x)
        centered = x - tf.reduce_mean(x, -1, True)
        scores = m.query(x) + m.key(x)
        many = m.g(x) + m.f(m.query(x)) + m.key(m.g(m.key(x)))
        of_the_shape = x + m.f(tf.zeros_like(x))
        of_no_gradient = x + m.f(tf.stop_gradient(x))
        return m.f(rotated) * tf.tanh(scores) * centered * many * of_the_shape - m.g(of_no_gradient)

    layer = named(call)
    layer.query, layer.key = layers.Dense(SIZE), layers.Dense(SIZE)
    with pytest.raises(ValueError, match="no residual block to record: nowhere"):
        instrument(model_of(layer))


def test_a_position_embedding_is_no_block_of_the_graph(x):
    class Positions(layers.Layer):
        def build(self, shape):
            self.table = self.add_weight(shape=shape[1:])

        def call(self, x):
            return tf.broadcast_to(self.table, tf.shape(x))

    inputs = keras.Input((SIZE,))
    x = layers.Dense(SIZE)(inputs)
    x = layers.Add(name="embedding")([x, Positions()(x)])
    x = layers.Add(name="block")([x, layers.Dense(SIZE)(x)])
    assert list(instrument(keras.Model(inputs, x))) == ["block"]


def test_a_model_that_is_not_functional_needs_an_example(x):
    class Net(Called, keras.Model):
        pass

    net = Net(lambda m, x: (x + m.f(x)) * (x + m.g(x)), name="net")
    with pytest.raises(ValueError, match=r"Give some of its inputs: instrument\(model, example"):
        instrument(net)
    assert list(instrument(net, keras.KerasTensor((None, SIZE)))) == ["f", "g"]


def test_blocks_of_reszoo_need_no_search():
    with pytest.raises(ValueError, match="in its 8 layers of reszoo"):
        instrument(reszoo.models.ResNet18(10, (8, 8, 3), "cifar", width=4))


# Bit for bit, unless a branch reads the fork several times, as attention does: the gradients
# through the branch are then summed before the skip's is added.
@pytest.mark.parametrize(
    ("name", "mode", "tolerance"),
    [("a hand-written ResNet", "eagerly", 0), ("one with norms before", "in a graph", 1e-5)],
)
def test_training_is_the_same_and_nothing_is_left(name, mode, tolerance, tmp_path):
    make, _, shape = MODELS[name]
    x = np.random.default_rng(0).normal(size=(BATCH, *shape)).astype("float32")
    weights, attributes = [], []
    for with_recorder in (False, True):
        keras.utils.set_random_seed(0)
        model = make()
        y = np.ones(model(x).shape, "float32")
        model.compile("sgd", "mse", **MODES[mode])
        callbacks = []
        if with_recorder:
            callbacks = [reszoo.GradientRecorder(tmp_path, 2, blocks=instrument(model, x))]
        model.fit(x, y, batch_size=BATCH, epochs=3, verbose=0, callbacks=callbacks)
        weights.append(model.get_weights())
        attributes.append([sorted(vars(part)) for part in [model, *model.layers]])
    for without, with_recorder in zip(*weights, strict=True):
        np.testing.assert_allclose(with_recorder, without, rtol=tolerance, atol=tolerance)
    assert attributes[0] == attributes[1]
    assert keras.layers.Layer.__call__.__module__.startswith("keras.")


def test_two_devices_record_what_one_would(tmp_path):
    x = np.random.default_rng(0).normal(size=(4, SIZE)).astype("float32")

    def found(log_dir):
        keras.utils.set_random_seed(0)
        model = model_of(named(lambda m, x: x + m.g(n := m.f(x)) + m.f(n)))
        return recorded(model, x, log_dir, instrument(model), MODES["in a graph"])

    one = found(tmp_path / "one")
    with two_devices().scope():
        two = found(tmp_path / "two")
    assert two["layer"] == pytest.approx(one["layer"], rel=1e-5)


class Residual(layers.Layer):
    """Two blocks, with a configuration from which a copy is made."""

    def build(self, shape):
        self.f, self.g = layers.Dense(SIZE, "tanh", name="f"), layers.Dense(SIZE, "tanh", name="g")
        for part in (self.f, self.g):
            part.build(shape)

    def call(self, x):
        x = x + self.f(x)
        return x + 0.5 * self.g(x)


def test_finite_differences_agree_with_blocks_inside_of_layers(x):
    inputs = keras.Input((SIZE,))
    model = keras.Model(inputs, Residual(name="layer")(inputs))
    table = reszoo.gradients.check(model, x, blocks=instrument(model), number_of_directions=2)
    assert list(table.block.unique()) == ["layer/f", "layer/g"]
    agree = table.finite_differences_agree & table.reverse_mode_agrees
    assert agree.tolist() == [True, False, False] * 2


def test_gradients_by_path_length_add_up_inside_of_layers(x):
    inputs = keras.Input((SIZE,))
    layer = Residual(name="layer")
    model = keras.Model(inputs, layer(inputs))
    loss = keras.losses.MeanSquaredError()
    table = reszoo.gradients.gradient_by_path_length(
        model, x, 0 * x, loss, samples=2, blocks=instrument(model)
    )
    assert table.number_of_paths.tolist() == [1.0, 2.0, 2.0, 1.0]
    with tf.GradientTape() as tape:  # through no branch: the gradient at the output
        y = model(x)
        tape.watch(y)
        of_loss = loss(0 * x, y)
    shortest = table.gradient_norm[table.length == 0].item()
    assert shortest == pytest.approx(np.linalg.norm(tape.gradient(of_loss, y)), rel=1e-5)


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
def test_mixed_precision_is_recorded(x, tmp_path):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = one_block()
    finally:
        keras.config.set_dtype_policy("float32")
    found = recorded(model, x, tmp_path)["block"]
    assert found["skip_gradient_norm"] == found["output_gradient_norm"] > 0
    assert found["branch_gradient_norm"] > 0


def hub():
    keras.utils.clear_session()
    keras.utils.set_random_seed(0)
    return pytest.importorskip("keras_hub").models


SIZES = {"vocabulary_size": 9, "num_heads": 2, "hidden_dim": SIZE, "intermediate_dim": 4}
OF_LAYERS = {
    "encoder": ["attention", "feedforward"],
    "decoder": ["attention", "cross_attention", "feedforward"],
}


def names(**layers_of_kinds):
    """Returns the names of blocks, of prefixes of layers with the kind of each layer."""
    return [
        f"{prefix}_{i}/{block}"
        for prefix, kind in layers_of_kinds.items()
        for i in range(2)
        for block in OF_LAYERS[kind]
    ]


HUB = {
    "T5Backbone": (
        SIZES,
        names(transformer_encoder_layer="encoder", transformer_decoder_layer="decoder"),
    ),
    "WhisperBackbone": (
        {
            **SIZES,
            "num_mels": 4,
            "max_encoder_sequence_length": 8,
            "max_decoder_sequence_length": 8,
        },
        names(transformer_encoder_layer="encoder", transformer_decoder_layer="decoder"),
    ),
    "GemmaBackbone": (
        {**{k: v for k, v in SIZES.items() if k != "num_heads"}, "head_dim": 4}
        | {"num_query_heads": 2, "num_key_value_heads": 1},
        names(decoder_block="encoder"),
    ),
    "ViTBackbone": (
        {"image_shape": (8, 8, 3), "patch_size": 4, "num_heads": 2, "hidden_dim": 8, "mlp_dim": 4},
        [f"transformer_block_{i}/{kind}" for i in (1, 2) for kind in OF_LAYERS["encoder"]],
    ),
}


@pytest.mark.filterwarnings("ignore:Layer '")  # of Keras, about masks in T5
@pytest.mark.parametrize("name", HUB)
def test_the_blocks_of_transformers_of_keras_hub_are_found_and_named(name):
    options, expected = HUB[name]
    model = getattr(hub(), name)(num_layers=2, **options)
    assert list(instrument(model)) == expected


@pytest.mark.parametrize("name", ["GPT2Backbone", "BertBackbone"])
def test_a_transformer_of_keras_hub_is_seen_exactly(name, tmp_path):
    backbone = getattr(hub(), name)(num_layers=2, max_sequence_length=TOKENS, **SIZES, dropout=0.0)
    random = np.random.default_rng(0)
    x = {key: random.integers(1, 9, (BATCH, TOKENS)) for key in backbone.input}
    x["padding_mask"] = np.array([[1] * TOKENS, [1, 1, 1, 0], [1, 1, 0, 0]])
    if "segment_ids" in x:
        x["segment_ids"] = x["segment_ids"] % 2
    outputs = backbone.output
    if isinstance(outputs, dict):
        outputs = outputs["sequence_output"]
    model = keras.Model(backbone.input, outputs)
    expected = by_patched_layers(model, x, is_pre_norm=name == "GPT2Backbone")
    model.compile("sgd", "mse", run_eagerly=True)
    blocks = instrument(model)
    recorder = reszoo.GradientRecorder(tmp_path, 1, blocks=blocks)
    y = np.zeros((BATCH, TOKENS, SIZE), "float32")
    model.fit(x, y, batch_size=BATCH, verbose=0, callbacks=[recorder])
    found = {}
    for row in load(str(tmp_path)).itertuples():
        found.setdefault(row.block, {})[row.statistic] = row.value
    assert_recorded(found, expected)


def by_patched_layers(model, x, is_pre_norm):
    """Returns the norms by a tape, with the calls of the layers written out by hand."""

    def call(layer, x, mask, forks):
        norm, norm_ffn = layer._self_attention_layer_norm, layer._feedforward_layer_norm
        skip, branch = forks.fork(f"{layer.name}/attention", x)
        branch = norm(branch) if is_pre_norm else branch
        branch = layer._self_attention_layer(branch, branch, attention_mask=mask)
        x = forks.merge(f"{layer.name}/attention", skip + branch)
        x = x if is_pre_norm else norm(x)
        skip, branch = forks.fork(f"{layer.name}/feedforward", x)
        branch = norm_ffn(branch) if is_pre_norm else branch
        branch = layer._feedforward_intermediate_dense(branch)
        x = forks.merge(f"{layer.name}/feedforward", skip + layer._feedforward_output_dense(branch))
        return x if is_pre_norm else norm_ffn(x)

    layers_of = [layer for layer in model.layers if layer.name.startswith("transformer_layer")]
    first, last = layers_of[0], layers_of[-1]
    start = keras.Model(model.input, first._inbound_nodes[0].input_tensors[0])
    is_last = model.output is last.output
    end = (lambda x: x) if is_last else keras.Model(last.output, model.output)
    mask = x["padding_mask"].astype(bool)[:, None, :]
    if is_pre_norm:
        mask = mask & np.tril(np.ones((TOKENS, TOKENS), bool))

    def forward(_, forks):
        y = start(x)
        for layer in layers_of:
            y = call(layer, y, mask, forks)
        return end(y)

    return by_hand(forward, np.zeros(1, "float32"))


class Decoder(layers.Layer):
    """A layer of a decoder that asks with learned queries, as that of DETR."""

    def __init__(self, **options):
        super().__init__(**options)
        self.attention, self.cross_attention = (layers.MultiHeadAttention(1, 4) for _ in range(2))

    def build(self, shape):
        self.queries = self.add_weight(shape=(1, 2, SIZE), initializer="random_normal")
        for part in (self.attention, self.cross_attention):
            part.build((None, 2, SIZE), shape)

    def call(self, x, forks=None):
        z = tf.tile(self.queries, [tf.shape(x)[0], 1, 1])
        for name, attend in (
            ("layer/attention", lambda z: self.attention(z, z)),
            ("layer/cross_attention", lambda z: self.cross_attention(z, x)),
        ):
            skip, branch = (z, z) if forks is None else forks.fork(name, z)
            z = skip + attend(branch)
            if forks is not None:
                forks.merge(name, z)
        return z


def test_a_stream_that_begins_with_weights_is_seen_exactly(tmp_path):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((TOKENS, SIZE))
    layer = Decoder(name="layer")
    model = keras.Model(inputs, layer(inputs))
    x = np.random.default_rng(0).normal(size=(BATCH, TOKENS, SIZE)).astype("float32")
    expected = by_hand(lambda x, forks: layer.call(x, forks), x)
    found = recorded(model, x, tmp_path)
    assert list(found) == ["layer/attention", "layer/cross_attention"]
    assert_recorded(found, expected)
