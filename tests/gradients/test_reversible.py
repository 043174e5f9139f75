"""Reversible blocks, recorded and checked: each is two residual blocks."""

import keras
import numpy as np
import pytest

import reszoo
from reszoo import Chain, ReversibleBlock, ReversibleChain
from reszoo.gradients import check, gradient_by_path_length, load
from tests.gradients.by_hand import training_by_hand
from tests.gradients.tiny import BATCHES, compiled, fit

LOSS = keras.losses.MeanSquaredError()
NAMES = ["b1_f", "b1_g", "b2_f", "b2_g"]


def branch():
    return [keras.layers.BatchNormalization(), keras.layers.Dense(2, "tanh")]


def reversible(kind=ReversibleChain, **options):
    """Returns a model of two reversible blocks; or of the same layers that store activations."""
    keras.utils.set_random_seed(1)
    blocks = [ReversibleBlock(branch(), branch(), name=f"b{i}") for i in (1, 2)]
    steps = [step for block in blocks for step in block.steps]
    layers = steps if kind is Chain else [kind(blocks)]
    model = keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(1)], name="tiny")
    return compiled(model, **options)


@pytest.fixture(scope="module")
def by_hand():
    model, optimizer = reversible(Chain), keras.optimizers.SGD(0.05)
    return training_by_hand(model, optimizer, BATCHES[:2], LOSS)


@pytest.mark.parametrize("options", [{}, {"jit_compile": True}, {"run_eagerly": True}], ids=str)
def test_both_sums_are_recorded_as_a_tape_finds_them_and_weights_are_unchanged(
    options, by_hand, tmp_path
):
    plain, observed = reversible(**options), reversible(**options)
    fit(plain, batches=2)
    fit(observed, reszoo.GradientRecorder(tmp_path, 1), batches=2)
    for weight, other in zip(plain.get_weights(), observed.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)
    table = load(str(tmp_path))
    assert sorted(set(table.block)) == NAMES
    for step, of_step in enumerate(by_hand):
        for name in NAMES:
            rows = table[(table.step == step) & (table.block == name)]
            values = dict(zip(rows.statistic, rows.value, strict=True))
            for statistic, expected in of_step[name].items():
                assert values[statistic] == pytest.approx(expected, rel=1e-4), (name, statistic)


def test_forward_statistics_are_those_of_stored_activations(tmp_path):
    tables = []
    for kind in (ReversibleChain, Chain):
        recorder = reszoo.GradientRecorder(tmp_path / kind.__name__, 1, ("forward", "distribution"))
        fit(reversible(kind, run_eagerly=True), recorder, batches=1)
        tables.append(load(str(tmp_path / kind.__name__)))
    ours, stored = tables
    assert ours[["block", "statistic"]].equals(stored[["block", "statistic"]])
    assert ours.value.isna().equals(stored.value.isna())
    np.testing.assert_allclose(ours.value, stored.value, rtol=1e-3, atol=1e-6)


def test_a_reversible_block_is_described_as_two_with_identity_shortcuts():
    from reszoo.gradients.blocks import describe_blocks, find_blocks

    blocks = describe_blocks(find_blocks(reversible()))
    assert [block["name"] for block in blocks] == NAMES
    assert {block["shortcut"] for block in blocks} == {"identity"}
    assert {block["parent"] for block in blocks} == {None}
    assert {block["trainable_weights"] for block in blocks} == {10}


def test_frozen_blocks_are_recorded(tmp_path):
    tables = []
    for kind in (ReversibleChain, Chain):
        model = reversible(kind)
        for layer in model.layers[:-1]:
            layer.trainable = False
        compiled(model, run_eagerly=True)
        fit(model, reszoo.GradientRecorder(tmp_path / kind.__name__, 1), batches=1)
        tables.append(load(str(tmp_path / kind.__name__)))
    ours, stored = tables
    assert ours.value.isna().equals(stored.value.isna())
    np.testing.assert_allclose(ours.value, stored.value, rtol=1e-4, atol=1e-7)


def test_finite_differences_agree_with_the_sum_of_the_paths():
    x = np.random.default_rng(0).normal(size=(3, 4))
    table = check(reversible(), x, training=True)
    assert sorted(set(table.block)) == NAMES
    assert table[table.finite_differences_agree & table.reverse_mode_agrees].candidate.tolist() == [
        "sum"
    ] * len(NAMES)


def test_the_gradient_is_split_by_the_length_of_its_path():
    x, y = BATCHES[0]
    ours, stored = (
        gradient_by_path_length(reversible(kind), x, y, LOSS) for kind in (ReversibleChain, Chain)
    )
    assert ours.length.max() == len(NAMES)
    np.testing.assert_allclose(ours.gradient_norm, stored.gradient_norm, rtol=1e-5)
