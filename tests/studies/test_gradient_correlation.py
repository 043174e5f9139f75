"""Derivatives along the line are those of finite differences, and their correlations exact."""

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from reszoo.studies.gradient_correlation import (
    LINE,
    NETWORKS,
    POINTS,
    STUDY,
    cells,
    correlation,
    correlation_of_pairs,
    derivatives,
    measure,
    network,
    predicted,
)


@pytest.mark.parametrize(
    "kind", ["plain", "residual, branches times 0.1", "residual, not normalized"]
)
def test_derivatives_against_finite_differences(kind):
    keras.utils.set_random_seed(3)
    model = network(*NETWORKS[kind], layers=3)
    slopes = derivatives(model)
    places = np.linspace(-LINE, LINE, POINTS)
    step = 1e-2

    def outputs(shift):
        points = np.stack([places + shift, np.ones_like(places)], axis=1)
        return model(tf.constant(points, tf.float32), training=False).numpy()[:, 0]

    differences = (outputs(step) - outputs(-step)) / (2 * step)
    # Kinks within a step, of which three layers of 200 units have many, change a few.
    assert np.median(np.abs(differences - slopes)) < 0.05 * np.abs(slopes).mean()
    assert np.corrcoef(differences, slopes)[0, 1] > 0.98


def test_correlations_against_all_pairs():
    slopes = np.random.default_rng(0).normal(size=20)
    products = np.outer(slopes, slopes)
    others = products[~np.eye(20, dtype=bool)]
    assert correlation_of_pairs(slopes) == pytest.approx(others.mean() / np.diag(products).mean())
    norms = np.linalg.norm(slopes[:-2]) * np.linalg.norm(slopes[2:])
    assert correlation(slopes, 2) == pytest.approx(np.diag(products, 2).sum() / norms)


def test_the_predictions_have_the_published_shapes():
    assert predicted("batch", 0.0, 10) == 2.0**-10
    assert predicted(None, 1.0, 10) == pytest.approx(0.75**10)
    # Like 1 / sqrt(layers).
    ratio = predicted("batch", 1.0, 4000) / predicted("batch", 1.0, 1000)
    assert ratio == pytest.approx(0.5, rel=1e-3)


def test_plain_gradients_shatter_and_residual_ones_do_not(tmp_path):
    table = pd.DataFrame(
        [
            cell.parameters | row
            for cell in cells("smoke")
            for row in measure(dict(cell.parameters), tmp_path)
        ]
    )
    assert len(STUDY.draw(table).axes) == 4
    answer = STUDY.answer(table)
    assert list(answer.table.network) == list(NETWORKS)
    assert float(answer.values["plain"]) < float(answer.values["residual"])
