"""Tables of `reszoo.gradients.check` on the backend of Keras in use, for three to be compared."""

import warnings

import keras
import numpy as np
from keras import layers, ops

import reszoo
from reszoo import ResidualBlock, StopGradSkip, ZeroPadShortcut
from reszoo.gradients import check, instrument

SIZE = 4


class Doubled(layers.Layer):
    """An identity whose gradient is twice what it should be."""

    def call(self, x):
        return 2 * x - ops.stop_gradient(x)


class Averaging(ResidualBlock):
    """A block that takes the average where the gradients are to be added."""

    def fork(self, x):
        x = x / 2 + ops.stop_gradient(x / 2)
        return x, ops.copy(x)


class Recomputed(layers.Layer):
    """A block that runs again in the backward pass."""

    def __init__(self, **options):
        super().__init__(**options)
        self.block = block_of(dense("tanh"))

    def call(self, x):
        return keras.remat(lambda x: self.block(x))(x)


class Loop(Recomputed):
    """A block that runs several times within one operation."""

    def call(self, x):
        return ops.scan(lambda x, _: (self.block(x), None), x, length=2)[0]


class Outer(keras.Model):
    """A subclassed model with a model in it."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = keras.Sequential([block_of(dense("tanh"), name="inner"), layers.Dense(3)])
        self.block = block_of(layers.Dense(3, "sigmoid"), name="outer")

    def call(self, x, training=False):
        return self.block(self.inner(x, training=training))


def dense(activation=None, **options):
    return layers.Dense(SIZE, activation, **options)


def block_of(*branch, shortcut=None, name="b", **options):
    return ResidualBlock(list(branch), shortcut, name=name, **options)


def array(*shape):
    return np.random.default_rng(0).normal(size=shape)


def with_weights(model, x):
    """Returns a model with the same weights on every backend."""
    model(x)
    random = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(0.5 * random.normal(size=variable.shape))
    return model


def checked(model, x=None, **options):
    x = array(3, SIZE) if x is None else x
    return check(with_weights(model, x), x, number_of_directions=3, **options)


def of_graph():
    """A graph whose input is the start of a skip, and of one around two others."""
    inputs = keras.Input((SIZE,))
    first = layers.Add(name="first")([inputs, dense("tanh")(inputs)])
    second = layers.Add(name="second")([first, layers.Activation("sigmoid")(first)])
    long = layers.Add(name="long")([inputs, dense()(second)])
    model = keras.Model(inputs, [long, first])
    return checked(model, blocks=instrument(model))


def attention():
    inputs = keras.Input((3, SIZE))
    attended = layers.MultiHeadAttention(2, 2)(inputs, inputs, use_causal_mask=True)
    model = keras.Model(inputs, layers.Add(name="b")([inputs, attended]))
    return checked(model, array(2, 3, SIZE), blocks=instrument(model))


def twice():
    inputs, block = keras.Input((SIZE,)), block_of(dense("tanh"))
    return checked(keras.Model(inputs, block(block(inputs))))


def nested():
    outer = block_of(block_of(dense("tanh"), name="inner"), dense(), name="outer")
    return checked(keras.Sequential([outer, layers.BatchNormalization(), layers.Dense(2)]))


def of_images():
    branch = [layers.Conv2D(4, 3, 2, "same"), layers.BatchNormalization()]
    return checked(block_of(*branch, shortcut=ZeroPadShortcut(4, 2)), array(2, 5, 5, 2))


def reversible():
    blocks = [
        reszoo.ReversibleBlock([layers.Dense(2, "tanh")], [layers.Dense(2)], name=name)
        for name in ("first", "second")
    ]
    return checked(keras.Sequential([reszoo.ReversibleChain(blocks)]))


def with_kinks():
    x = np.array([[1.0, -2.0, 0.0, 3.0]])  # ReLU has one at the third
    return check(block_of(layers.ReLU()), x)


def in_mixed_precision():
    policy = keras.DTypePolicy("mixed_bfloat16")
    return checked(block_of(dense("tanh", dtype=policy), dense(dtype="float32"), dtype=policy))


def with_loss():
    loss = keras.losses.MeanSquaredError(dtype="float64")
    return checked(block_of(dense("tanh")), loss=lambda y: loss(np.ones((3, SIZE)), y))


CASES = {
    "block": lambda: checked(block_of(dense("tanh"))),
    "stopped": lambda: checked(block_of(dense("tanh"), shortcut=StopGradSkip())),
    "wrong gradient": lambda: checked(block_of(dense("tanh"), Doubled())),
    "wrong fork": lambda: checked(Averaging([dense("tanh")], name="b")),
    "no gradient": lambda: checked(block_of(layers.Rescaling(0.0), shortcut=StopGradSkip())),
    "graph": of_graph,
    "twice": twice,
    "nested": nested,
    "subclassed": lambda: checked(Outer()),
    "images": of_images,
    "reversible": reversible,
    "kinks": with_kinks,
    "mixed precision": in_mixed_precision,
    "loss": with_loss,
    "recomputed": lambda: checked(keras.Sequential([Recomputed()])),
    "loop": lambda: checked(keras.Sequential([Loop()])),
    "attention": attention,
    # Each backend draws its own random numbers.
    "random": lambda: checked(
        block_of(layers.BatchNormalization(), layers.Dropout(0.5), reszoo.DropPath(0.3)),
        training=True,
    ),
}


def numbers():
    """Returns the numbers of all tables: names `case/block/candidate/column`, and values."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Directions are left out")
        tables = {case: make() for case, make in CASES.items()}
    return {
        f"{case}/{row.block}/{row.candidate}/{column}": float(getattr(row, column))
        for case, table in tables.items()
        for row in table.itertuples()
        for column in table.columns.drop(["block", "candidate"])
    }
