"""A reversible chain with a residual block inside of a branch, and its gradients by hand."""

import keras
import numpy as np
import pytest
from keras import layers, ops

import reszoo
from reszoo.gradients import load

X = np.random.default_rng(0).normal(size=(6, 8)).astype("float32")
NAMES = ("inner", "outer_f", "outer_g")
_PLACES = ("skip", "branch", "output")


def model():
    """Returns a compiled model."""
    keras.utils.set_random_seed(0)
    inner = reszoo.ResidualBlock([layers.Dense(4, "tanh")], name="inner")
    outer = reszoo.ReversibleBlock([inner, layers.Dense(4, "tanh")], [layers.Dense(4, "tanh")])
    for step, letter in zip(outer.steps, "fg", strict=True):
        step.name = f"outer_{letter}"
    chain = reszoo.ReversibleChain([outer])
    of_layers = keras.Sequential([keras.Input((8,)), layers.Dense(8), chain])
    of_layers.compile(keras.optimizers.SGD(0.1), "mse")
    return of_layers


def zeros():
    """Returns what `loss` adds at each place of each block, by whose gradients they are known."""
    sizes = {name: 4 if name == "inner" else 8 for name in NAMES}
    return {
        (name, place): np.zeros((len(X), size), "float32")
        for name, size in sizes.items()
        for place in _PLACES
    }


def loss(of_layers, added):
    """Returns the mean square of the output.

    Args:
        of_layers: The model.
        added: Zeros, as `zeros` returns them, of the backend.
    """
    first, chain = of_layers.layers
    (outer,) = chain.layers
    inner, last = outer.branch_f.layers

    def block(name, x, branch):
        skip, to_branch = x + added[name, "skip"], x + added[name, "branch"]
        return skip + branch(to_branch) + added[name, "output"]

    def f(x):
        y = last(block("inner", x[:, 4:], inner.branch))
        return ops.concatenate([y, ops.zeros_like(y)], 1)

    def g(x):
        y = outer.branch_g(x[:, :4])
        return ops.concatenate([ops.zeros_like(y), y], 1)

    return ops.mean(ops.square(block("outer_g", block("outer_f", first(X), f), g)))


def assert_recorded(log_dir, gradients):
    """Holds the norms of a log to gradients by hand, and wants no statistic to be missing.

    Args:
        log_dir: The directory of the log.
        gradients: The gradients by what `zeros` returned.
    """
    table = load(str(log_dir)).pivot(index="block", columns="statistic", values="value")
    assert sorted(table.index) == sorted(NAMES)
    assert not table.isna().any(axis=None)
    for (name, place), gradient in gradients.items():
        expected = np.linalg.norm(gradient)
        assert table[f"{place}_gradient_norm"][name] == pytest.approx(expected, rel=1e-5)


def record(log_dir):
    """Records a step, and returns the model as it was before.

    Args:
        log_dir: The directory of the log.
    """
    sets = ["paths", "weights", "forward", "distribution"]
    recorder = reszoo.GradientRecorder(log_dir, 1, statistics=sets)
    recorded = model()
    recorded.fit(X, np.zeros_like(X), len(X), verbose=0, callbacks=[recorder])
    plain = model()
    plain.fit(X, np.zeros_like(X), len(X), verbose=0)
    for weight, other in zip(recorded.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)
    return model()
