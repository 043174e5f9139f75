"""Networks without some of their blocks, by hand and trained."""

import keras
import numpy as np
import pandas as pd
import pytest

from reszoo.layers import ResidualBlock, ZeroShortcut
from reszoo.studies.lesioning import STUDY, cells, lesions, measure, without_blocks
from reszoo.studies.networks import at_blocks, without_branch


@pytest.mark.parametrize("shortcut", [None, ZeroShortcut(4)])
@pytest.mark.parametrize("dropped", [(), (0,), (1,), (0, 2)])
def test_dropped_blocks_hand_on_their_input(shortcut, dropped):
    dense = [keras.layers.Dense(4, use_bias=False) for _ in range(4)]
    skip = [shortcut and ZeroShortcut(4) for _ in range(3)]
    blocks = [ResidualBlock([layer], s) for layer, s in zip(dense[:3], skip, strict=True)]
    model = keras.Sequential([keras.Input((4,)), *blocks, dense[3]])
    model = keras.Model(model.inputs, model.outputs)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    expected = x
    for number, layer in enumerate(dense[:3]):
        if number not in dropped:
            expected = (expected if shortcut is None else 0) + expected @ layer.kernel.numpy()
    expected = expected @ dense[3].kernel.numpy()
    starts, _ = at_blocks(model, x, training=False)
    np.testing.assert_allclose(without_blocks(model, starts, dropped), expected, rtol=1e-5)


def test_a_block_that_changes_the_shape_pads_with_zeros():
    block = ResidualBlock(keras.layers.Conv2D(5, 3, 2, "same"), keras.layers.Conv2D(5, 1, 2))
    x = np.random.default_rng(0).normal(size=(2, 7, 7, 3)).astype(np.float32)
    block(x)
    found = without_branch(block, keras.ops.convert_to_tensor(x)).numpy()
    assert found.shape == (2, 4, 4, 5)
    np.testing.assert_array_equal(found[..., :3], x[:, ::2, ::2])
    assert not found[..., 3:].any()


def test_each_block_is_dropped_once_and_several_are_drawn():
    found = list(lesions(6, seed=1))
    assert [chosen for dropped, _, chosen in found if dropped == 1] == [{n} for n in range(6)]
    assert {len(chosen) for dropped, _, chosen in found if dropped == 3} == {3}
    assert max(dropped for dropped, _, _ in found) == 5


def test_figure_and_answer(tmp_path):
    table = pd.DataFrame(
        [
            cell.parameters | row
            for cell in cells("smoke")
            for row in measure(dict(cell.parameters), tmp_path / cell.name)
        ]
    )
    assert len(STUDY.draw(table).axes) == 2
    answer = STUDY.answer(table)
    assert answer.table.network.tolist() == ["residual, 8 layers", "plain, 8 layers"]
    assert answer.values["residual_8_whole"] == answer.table.error[0]
