"""Memory, time and drift of reversible blocks are measured in each way, the smallest there is."""

import importlib.resources
import re

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from reszoo.studies.reversible import DTYPES, STUDY, cells, measure, measure_drift
from reszoo.studies.step_memory import WAYS, network, step_memory, training_step

SIZES = {"channels": 4, "pixels": 8, "examples": 16}


def test_the_three_ways_make_the_same_step():
    x = tf.random.normal((4, 6, 6, 4))
    weights = []
    for way in WAYS:
        layer = network(way, 2, 4)
        training_step(layer, (6, 6, 4))(x)
        # keras.remat moves the averages of normalizations twice, so they are not compared.
        weights.append([weight.numpy() for weight in layer.trainable_variables])
    for other in weights[1:]:
        for ours, stored in zip(other, weights[0], strict=True):
            np.testing.assert_allclose(ours, stored, rtol=1e-4, atol=1e-6)


def test_the_error_is_small_in_float64_grows_with_blocks_and_is_largest_in_bfloat16():
    errors = {
        dtype: [
            row["error"]
            for row in measure_drift(
                SIZES | {"dtype": dtype, "factor": 1.0, "seed": 0, "blocks": 4}
            )
        ]
        for dtype in DTYPES
    }
    assert max(errors["float64"]) < 1e-13
    assert errors["float32"][-1] < 1e-4
    assert errors["float32"][-1] > errors["float32"][0]
    assert errors["mixed_bfloat16"][-1] > 1e3 * errors["float32"][-1]


def test_memory_is_measured_in_a_process_of_its_own():
    assert step_memory("reversible", 1, 4, 64, 64) > 4  # its input alone is 4 MiB


def test_a_process_that_fails_is_named():
    with pytest.raises(OSError, match="The memory of a step cannot be measured: "):
        step_memory("reversible", 1, 3, 8, 1)


def test_figure_and_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(
        "reszoo.studies.reversible.step_memory",
        lambda way, blocks, *sizes: 10.0 + blocks * (5.0 if way == "stored" else 0.0),
    )
    table = pd.DataFrame(
        [
            cell.parameters | row
            for cell in cells("smoke")
            for row in measure(dict(cell.parameters), tmp_path)
        ]
    )
    assert len(STUDY.draw(table).axes) == 3
    answer = STUDY.answer(table)
    assert answer.table["MiB more for each block"].tolist() == ["5.00", "0.00", "0.00"]
    assert answer.values["time_stored"] == "1.00"
    text = (importlib.resources.files("reszoo.studies") / "texts" / "question_5.md").read_text()
    fields = set(re.findall(r"{{reversible\.(\w+)}}", text))
    assert fields - {"table", "figure", "command"} <= set(answer.values)
