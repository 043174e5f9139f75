"""A block at the input has the gradient of any block, and no weight depends on its skip's."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from reszoo.studies import input_skip


@pytest.fixture(scope="module")
def table():
    rows = []
    for cell in input_skip.cells("smoke"):
        rows += [cell.parameters | row for row in input_skip.measure(cell.parameters, None)]
    return pd.DataFrame(rows)


def values(table, quantity):
    return table[table.quantity == quantity].value.to_numpy()


def test_the_gradients_of_the_paths_add_up_to_that_of_the_input():
    model = input_skip.network()
    images = np.random.default_rng(0).uniform(size=(3, 8, 8, 1)).astype("float32")
    labels = np.array([1, 2, 3])
    x = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = keras.losses.sparse_categorical_crossentropy(labels, model(x), from_logits=True)
    expected = tape.gradient(loss, x).numpy()
    skip, branch = input_skip.path_gradients(model, images, labels)
    np.testing.assert_allclose(skip + branch, expected, rtol=1e-4, atol=1e-7)
    assert min(np.abs(skip).max(), np.abs(branch).max()) > 0


def test_finite_differences_agree_with_the_sum_alone(table):
    assert values(table, "error of the sum").max() < 1e-6
    assert values(table, "error of the average") == pytest.approx(0.5, rel=1e-4)
    assert values(table, "error of the skip as a constant").min() > 0.01


def test_a_stopped_gradient_at_the_input_alters_no_weight(table):
    assert values(table, "alters weight gradients by").tolist() == [0]


def test_a_step_along_the_gradient_misleads_more_than_a_random_one(table):
    assert values(table, "right, none") > 0.9
    assert values(table, "right, both") < values(table, "right, random") - 0.1


def test_the_pixels_that_are_drawn_are_sums(table):
    skip, branch, both = (values(table, name) for name in ("skip", "branch", "both"))
    assert len(both) == 3 * 64
    np.testing.assert_allclose(skip + branch, both, rtol=1e-5, atol=1e-8)


def test_the_answer_and_the_figure_come_from_the_table(table):
    answer = input_skip.answer(table)
    assert answer.values["altered"] == "0"
    assert len(answer.table) == len(input_skip.ATTACKS)
    assert len(input_skip.draw(table).axes) == 3 * 4 + 1
