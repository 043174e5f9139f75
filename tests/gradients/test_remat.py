"""Blocks that recompute their activations, recorded: nothing is counted twice."""

import keras
import numpy as np
import pytest

import reszoo
from reszoo import Chain, ResidualBlock, ReversibleBlock, ReversibleChain
from reszoo.gradients import load
from tests.gradients.tiny import compiled, fit

SETS = ("weights", "forward", "distribution")


def dense():
    return [keras.layers.BatchNormalization(), keras.layers.Dense(4, "tanh")]


def nested(remat):
    """Blocks in a block."""
    inside = [ResidualBlock(dense(), activation="gelu", name=f"inside{i}") for i in (1, 2)]
    return [ResidualBlock(inside, activation="relu", remat=remat, name="around")]


def in_reversible(recomputes):
    """A block in a reversible one, which recomputes its activations too."""

    def half(name):
        return [ResidualBlock([keras.layers.Dense(2, "tanh")], name=name)]

    block = ReversibleBlock(half("inside_f"), half("inside_g"), name="around")
    return [ReversibleChain([block])] if recomputes else [Chain(block.steps)]


def recorded(layers, log_dir, **options):
    keras.utils.set_random_seed(1)
    layers = layers()
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)], name="tiny")
    fit(compiled(model, **options), reszoo.GradientRecorder(log_dir, 1, SETS), batches=2)
    return load(str(log_dir)), model.get_weights()


@pytest.mark.parametrize(
    ("make", "options"), [(nested, {}), (nested, {"jit_compile": True}), (in_reversible, {})]
)
def test_blocks_in_recomputed_ones_are_recorded_as_with_stored_activations(make, options, tmp_path):
    (ours, weights), (stored, expected) = (
        recorded(lambda flag=flag: make(flag), tmp_path / str(flag), **options)
        for flag in (True, False)
    )
    assert ours[["step", "block", "statistic"]].equals(stored[["step", "block", "statistic"]])
    assert any("inside" in name for name in ours.block)
    assert ours.value.isna().equals(stored.value.isna())
    np.testing.assert_allclose(ours.value, stored.value, rtol=1e-3, atol=1e-6)
    for weight, other in zip(weights, expected, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-5, atol=1e-6)
