"""Finite differences and reverse mode are those of matrices worked out by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import reszoo
from reszoo import ResidualBlock, StopGradSkip, ZeroPadShortcut
from reszoo.gradients import check, instrument

SIZE = 4
X = np.random.default_rng(0).normal(size=(3, SIZE))
SUM, AVERAGE, CONSTANT = "sum", "average", "skip as a constant"


def dense(activation=None):
    return layers.Dense(SIZE, activation)


def by_candidate(table, block=None):
    """Returns the rows of one block by candidate."""
    rows = table if block is None else table[table.block == block]
    assert list(rows.candidate) == [SUM, AVERAGE, CONSTANT]
    return rows.set_index("candidate")


def agreeing(rows, column):
    return list(rows.index[rows[column]])


def assert_right(table):
    """Asserts that every block sums, by finite differences and in reverse mode."""
    for block in table.block.unique():
        rows = by_candidate(table, block)
        assert agreeing(rows, "finite_differences_agree") == [SUM]
        assert agreeing(rows, "reverse_mode_agrees") == [SUM]
        assert (rows[["skip_error", "branch_error"]] < 1e-6).all(axis=None)
        assert rows.finite_differences_error[AVERAGE] == pytest.approx(0.5)
        assert (rows.doubt < 1e-6).all()


def test_what_comes_back_is_the_gradient_and_its_product_with_the_matrix():
    block = ResidualBlock([layers.Dense(SIZE, use_bias=False)], name="b")
    block(X)
    g = np.random.default_rng(1).normal(size=X.shape)
    table = check(block, X, loss=lambda y: tf.reduce_sum(g * y), number_of_directions=X.size)
    kernel = block.weights[0].numpy().astype(float)
    skip, branch = g, g @ kernel.T
    rows = by_candidate(table)
    assert_right(table)
    assert set(rows.directions) == {X.size}  # one for each element, so errors are those of vectors
    for column in ("finite_differences_error", "reverse_mode_error"):
        assert rows[column][AVERAGE] == pytest.approx(0.5, rel=1e-9)
        off = np.linalg.norm(skip) / np.linalg.norm(skip + branch)
        assert rows[column][CONSTANT] == pytest.approx(off, rel=1e-9)
    assert rows.skip_gradient_norm[SUM] == pytest.approx(np.linalg.norm(skip), rel=1e-12)
    assert rows.branch_gradient_norm[SUM] == pytest.approx(np.linalg.norm(branch), rel=1e-12)


def test_a_stopped_gradient_on_the_skip_is_the_skip_as_a_constant():
    inner = dense("tanh")
    plain, stopped = ResidualBlock([inner], name="b"), ResidualBlock([inner], StopGradSkip())
    with_skip, without = (by_candidate(check(block, X)) for block in (plain, stopped))
    assert agreeing(with_skip, "reverse_mode_agrees") == [SUM]
    assert agreeing(without, "reverse_mode_agrees") == [CONSTANT]
    assert agreeing(without, "finite_differences_agree") == [SUM]  # forward it is the same
    assert without.skip_gradient_norm[SUM] == 0
    assert without.skip_error[SUM] == pytest.approx(1)
    # By as much is reverse mode off that leaves the skip out.
    error = with_skip.finite_differences_error[CONSTANT]
    assert error > 0.1
    off = without.reverse_mode_error[SUM]
    assert off == pytest.approx(without.finite_differences_error[CONSTANT], rel=1e-6)


def test_backward_zero_padding_crops():
    images = np.random.default_rng(0).normal(size=(1, 3, 3, 2))
    branch = layers.Conv2D(3, 1, strides=2, kernel_initializer="zeros")
    block = ResidualBlock([branch], ZeroPadShortcut(3, strides=2), name="b")
    g = np.random.default_rng(1).normal(size=(1, 2, 2, 3))
    table = check(block, images, lambda y: tf.reduce_sum(g * y), number_of_directions=18)
    rows = by_candidate(table)
    assert_right(table)
    assert rows.skip_gradient_norm[SUM] == pytest.approx(np.linalg.norm(g[..., :2]), rel=1e-12)
    assert rows.branch_gradient_norm[SUM] == 0
    assert rows.finite_differences_error[CONSTANT] == pytest.approx(1, rel=1e-9)


def test_backward_a_projection_is_its_transpose():
    shortcut = layers.Dense(2, use_bias=False)
    block = ResidualBlock([layers.Dense(2, "tanh", use_bias=False)], shortcut, name="b")
    block(X)
    g = np.random.default_rng(1).normal(size=(3, 2))
    table = check(block, X, lambda y: tf.reduce_sum(g * y))
    expected = np.linalg.norm(g @ shortcut.kernel.numpy().astype(float).T)
    assert_right(table)
    assert by_candidate(table).skip_gradient_norm[SUM] == pytest.approx(expected, rel=1e-12)


class Doubled(layers.Layer):
    """An identity whose gradient is twice what it should be."""

    def call(self, x):
        @tf.custom_gradient
        def doubled(x):
            return tf.identity(x), lambda upstream: 2 * upstream

        return doubled(x)


class Averaging(ResidualBlock):
    """A block that takes the average where the gradients are to be added."""

    def fork(self, x):
        @tf.custom_gradient
        def fork(x):
            return (tf.identity(x), tf.identity(x)), lambda skip, branch: (skip + branch) / 2

        return fork(x)


def test_a_wrong_gradient_in_the_branch_is_caught():
    rows = by_candidate(check(ResidualBlock([dense("tanh"), Doubled()], name="b"), X))
    assert agreeing(rows, "finite_differences_agree") == [SUM]
    assert agreeing(rows, "reverse_mode_agrees") == []
    assert rows.skip_error[SUM] < 1e-9
    assert rows.branch_error[SUM] == pytest.approx(1, rel=1e-6)


def test_a_wrong_gradient_of_a_small_branch_is_caught():
    block = ResidualBlock([dense("tanh"), layers.Rescaling(1e-5), Doubled()], name="b")
    rows = by_candidate(check(block, X))
    assert agreeing(rows, "reverse_mode_agrees") == []
    assert rows.branch_error[SUM] == pytest.approx(1, rel=1e-3)


def test_a_large_constant_in_the_loss_adds_doubt_and_changes_no_error():
    block = ResidualBlock([dense("tanh")], name="b")
    rows = by_candidate(check(block, X, loss=lambda y: tf.reduce_sum(y) + 1e6))
    assert rows.doubt[SUM] > 1e-7
    assert rows.finite_differences_error[AVERAGE] == pytest.approx(0.5, rel=1e-6)
    assert agreeing(rows, "reverse_mode_agrees") == [SUM]


def test_a_fork_that_averages_is_caught():
    rows = by_candidate(check(Averaging([dense("tanh")], name="b"), X))
    assert agreeing(rows, "reverse_mode_agrees") == [AVERAGE]
    assert agreeing(rows, "finite_differences_agree") == [SUM]


def graph_model():
    """The input is the start of a skip, and of one around two others; outputs are two."""
    inputs = keras.Input((SIZE,))
    first = layers.Add(name="first")([inputs, dense("tanh")(inputs)])
    second = layers.Add(name="second")([first, layers.Lambda(lambda x: keras.ops.sin(x))(first)])
    long = layers.Add(name="long")([inputs, dense()(second)])
    return keras.Model(inputs, [long, first])


def test_blocks_of_a_graph_are_checked_from_the_input_and_over_any_distance():
    model = graph_model()
    model.compile("sgd", "mse")
    blocks = instrument(model)
    assert list(blocks) == ["first", "second", "long"]
    table = check(model, X, blocks=blocks, number_of_directions=3)
    assert list(table.block.unique()) == list(blocks)
    assert_right(table)
    assert_right(check(model, X, blocks={"long": blocks["long"]}, number_of_directions=2))


def test_a_whole_model_is_checked_and_left_as_it_was():
    inner = ResidualBlock([dense("tanh")], name="inner")
    chain = [ResidualBlock([inner, dense()], name="outer"), layers.BatchNormalization()]
    model = keras.Sequential([keras.Input((SIZE,)), *chain, layers.Dense(2)])
    before = model.get_weights()
    attributes = [sorted(vars(layer)) for layer in (*model.layers, inner)]
    table = check(model, X, number_of_directions=3)
    assert list(table.block.unique()) == ["outer", "inner"]
    assert_right(table)
    assert [sorted(vars(layer)) for layer in (*model.layers, inner)] == attributes
    for weights, old in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weights, old)
    assert keras.config.floatx() == keras.config.dtype_policy().name == "float32"
    assert check(model, X, number_of_directions=3).equals(table)


def test_a_block_that_is_not_built_stays_so():
    block = ResidualBlock([dense("tanh")], name="b")
    assert_right(check(block, X))
    assert not block.built


def test_a_block_that_is_called_twice_adds_up_both():
    inputs = keras.Input((SIZE,))
    block = ResidualBlock([dense("tanh")], name="b")
    assert_right(check(keras.Model(inputs, block(block(inputs))), X, number_of_directions=3))


def test_in_training_dropout_drops_the_same_in_every_run():
    branch = [layers.BatchNormalization(), dense(), layers.Dropout(0.5), reszoo.DropPath(0.3)]
    block = ResidualBlock(branch, name="b")
    block(X)
    table = check(block, X, training=True)
    assert_right(table)
    plain = check(block, X)
    assert table.branch_gradient_norm[0] != pytest.approx(plain.branch_gradient_norm[0], rel=0.01)


def test_mixed_precision_is_checked_in_float64():
    policy = keras.DTypePolicy("mixed_bfloat16")
    branch = [layers.Dense(SIZE, "tanh", dtype=policy), layers.Dense(SIZE, dtype="float32")]
    block = ResidualBlock(branch, name="b", dtype=policy)
    block(X)
    assert_right(check(block, X))


def test_smaller_steps_avoid_kinks():
    branch = [layers.Dense(100, "relu"), dense()]
    block = ResidualBlock(branch, activation="relu", name="b")
    assert_right(check(block, np.random.default_rng(0).normal(size=(20, SIZE))))


def test_directions_over_a_kink_are_left_out_and_said():
    x = np.array([[1.0, -2.0, 0.0, 3.0]])  # ReLU has a kink at the third
    block = ResidualBlock([layers.ReLU()], name="b")
    with pytest.warns(UserWarning, match=r"1 of 4 for 'b' \(1 in 1 blocks\).*a kink"):
        table = check(block, x)
    assert set(table.directions) == {3}
    assert_right(table)


def test_where_a_direction_has_a_kink_others_are_tried_that_avoid_it():
    x = np.array([[1.0, -2.0, 0.0, 3.0]] * 3)  # at all zeros, which are then left alone
    with pytest.warns(UserWarning, match="5 of 10 for 'b'"):
        table = check(ResidualBlock([layers.ReLU()], name="b"), x, number_of_directions=5)
    assert set(table.directions) == {5}
    assert_right(table)
    # At some that are not zero, so that single elements are tried: of these some are kinks, too.
    x = np.array([[1.0, -2.0, 2.0, 3.0]] * 3)
    block = ResidualBlock([layers.Rescaling(1.0, -1.0), layers.ReLU()], name="b")
    with pytest.warns(UserWarning, match="for 'b'"):
        table = check(block, x, number_of_directions=5)
    assert table.directions[0] + table.left_out[0] == 10
    assert 0 < table.directions[0] <= 5
    assert_right(table)


def test_single_elements_that_change_nothing_do_not_count():
    x = np.ones((1, 4, 4, 1))  # of which a stride of 2 takes 4, and each is a kink
    branch = [layers.Conv2D(1, 1, 2, kernel_initializer="zeros")]
    block = ResidualBlock(branch, ZeroPadShortcut(1, 2), lambda y: keras.ops.relu(y - 1), name="b")
    with pytest.warns(UserWarning, match="10 of 10 for 'b'"):
        rows = by_candidate(check(block, x, number_of_directions=5))
    assert not rows.finite_differences_agree.any()


def test_where_all_is_a_kink_nothing_agrees():
    block = ResidualBlock([layers.ReLU()], name="b")
    with pytest.warns(UserWarning, match="4 of 4 for 'b'"):
        rows = by_candidate(check(block, np.zeros((1, 4))))
    assert agreeing(rows, "finite_differences_agree") == agreeing(rows, "reverse_mode_agrees") == []
    assert (
        rows[["finite_differences_error", "reverse_mode_error", "skip_error"]].isna().all(axis=None)
    )


def test_where_nothing_comes_back_all_candidates_agree():
    branch = layers.Dense(SIZE, kernel_initializer="zeros")
    block = ResidualBlock([branch], layers.Rescaling(0.0), name="b")
    rows = by_candidate(check(block, X, loss=lambda y: tf.reduce_sum(y) + 5.0))
    assert rows.finite_differences_agree.all()
    assert (rows.finite_differences_error == 0).all()


def test_paths_that_cancel_sum_to_zero():
    rows = by_candidate(check(block_of(layers.Rescaling(-1.0)), X.tolist()))
    for column in ("finite_differences_agree", "reverse_mode_agrees"):
        assert agreeing(rows, column) == [SUM, AVERAGE]  # both are zero


class Float32(layers.Layer):
    def call(self, x):
        return keras.ops.cast(x, "float32")


class Noisy(layers.Layer):
    def call(self, x):
        return x + tf.random.normal(x.shape, dtype=x.dtype)


class NoConfig(layers.Layer):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, x):
        return self.layer(x)


def block_of(*branch):
    return ResidualBlock(list(branch), name="b")


def shared():
    layer = dense()
    return keras.Sequential([keras.Input((SIZE,)), ResidualBlock([layer]), block_of(layer)])


@pytest.mark.parametrize(
    ("make", "options", "match"),
    [
        (dense, {}, "has no residual block to check.*instrument"),
        (lambda: 3, {}, "takes a ResidualBlock or a Keras model, but got 3"),
        (lambda: block_of(dense()), {"number_of_directions": 0}, "must be an integer of at least"),
        (lambda: block_of(dense()), {"blocks": {}}, "blocks is empty"),
        (lambda: block_of(dense()), {"blocks": {"a": block_of(dense())}}, "not of the model"),
        (lambda: block_of(NoConfig(dense())), {}, "cannot be made a second time.*get_config"),
        (lambda: keras.Sequential([block_of(dense()), Float32()]), {}, "output must be float64"),
        (
            lambda: block_of(dense()),
            {"loss": lambda y: tf.cast(tf.reduce_sum(y), tf.float32)},
            "loss must be float64",
        ),
        (lambda: block_of(dense()), {"loss": lambda y: tf.reduce_sum(y) / 0}, "has no derivative"),
        (lambda: block_of(Noisy()), {}, "Two runs.*SeedGenerator"),
        (shared, {}, "has variables 4, where it had 2.*shared"),
    ],
)
def test_what_cannot_be_checked_is_said(make, options, match):
    with pytest.raises(ValueError, match=match):
        check(make(), X, **options)


def test_another_backend_is_refused(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "numpy")
    with pytest.raises(ValueError, match=r"backend 'numpy'.*KERAS_BACKEND"):
        check(block_of(dense()), X)
