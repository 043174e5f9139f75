"""RevNets: the paper's arithmetic, what is in their chains, and what they refuse."""

import keras
import numpy as np
import pytest

from reszoo.gradients.blocks import find_blocks
from reszoo.layers import ReversibleChain, stored_activations
from reszoo.models import RevNet38, RevNet164

IMAGES = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")


def small(model=RevNet38, **options):
    keras.utils.set_random_seed(0)
    return model(**{"input_shape": (8, 8, 3), "width": 4, "blocks": (2, 2), **options})


def chains(model):
    return [layer for layer in model.layers if isinstance(layer, ReversibleChain)]


def test_only_the_first_sum_of_a_block_that_changes_the_shape_is_stored():
    steps = [[step.name for step in chain.steps] for chain in chains(small())]
    assert steps == [
        ["stage1_block1_f", "stage1_block1_g", "stage1_block2_f", "stage1_block2_g"],
        ["stage2_block1_g", "stage2_block2_f", "stage2_block2_g"],
    ]
    names = [f"stage{i}_block{j}_{letter}" for i in (1, 2) for j in (1, 2) for letter in "fg"]
    assert list(find_blocks(small())) == names


def test_a_strided_block_computes_the_equations_of_the_paper():
    model = small(norm=None)
    before = keras.Model(model.input, model.get_layer("stage1_chain").output)(IMAGES)
    after = keras.Model(model.input, model.get_layer("stage2_block1_f").output)(IMAGES)
    first, second = np.split(before.numpy(), 2, axis=-1)

    def pooled(x):
        x = x.reshape(2, 4, 2, 4, 2, 2).mean(axis=(2, 4))
        return np.concatenate([x, np.zeros_like(x)], axis=-1)

    branch = model.get_layer("stage2_block1_f").branch.branch(second).numpy()
    expected = np.concatenate([pooled(first) + branch, pooled(second)], axis=-1)
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model", [RevNet38, RevNet164])
def test_outputs_are_those_with_stored_activations_also_after_saving(model, tmp_path):
    model = small(model, drop_path=0.1, squeeze_excitation=2)
    with stored_activations():
        expected = model(IMAGES)
    np.testing.assert_allclose(model(IMAGES), expected, rtol=1e-5, atol=1e-6)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(again(IMAGES), model(IMAGES))


def test_feature_maps_are_those_of_stages():
    model = small(features=("stage1", "stage2"))
    assert {name: x.shape for name, x in model.output.items()} == {
        "stage1": (None, 8, 8, 4),
        "stage2": (None, 4, 4, 8),
    }
    with pytest.raises(ValueError, match=r"has no feature maps \['stage1_block1'\]"):
        small(features=("stage1_block1",))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 5}, "width must be even, but is 5"),
        ({"gate": "half_both"}, "takes no gate, and preactivation must be True"),
        ({"preactivation": False}, "takes no gate, and preactivation must be True"),
        ({"shortcut": "none"}, "must be the identity where the shape is the same"),
        ({"shortcut": "stop_gradient"}, "must be the identity where the shape is the same"),
    ],
)
def test_what_is_not_reversible_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)


def test_the_last_stage_of_revnet_38_has_112_channels():
    maps = RevNet38(features=("stage1", "stage2", "stage3")).output
    assert [x.shape[-1] for x in maps.values()] == [32, 64, 112]
