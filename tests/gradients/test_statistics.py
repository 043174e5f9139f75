"""Statistics follow from sums as the table says."""

import math

import numpy as np
import pytest

from reszoo.gradients.measures import FORK, MERGE, WEIGHT_SUMS
from reszoo.gradients.statistics import (
    DEFAULT_SETS,
    STATISTICS,
    derive,
    statistics_of,
)


def sums_of(skip, branch, output):
    """Returns the sums of one block whose gradients are these vectors."""
    skip, branch, output = (np.asarray(g, float) for g in (skip, branch, output))
    sums = {name: np.zeros(1) for name in (*FORK.powers, *MERGE.powers, *WEIGHT_SUMS)}
    values = {
        "skip_gradient_squares": skip @ skip,
        "branch_gradient_squares": branch @ branch,
        "input_gradient_squares": (skip + branch) @ (skip + branch),
        "skip_branch_products": skip @ branch,
        "input_elements": skip.size,
        "output_gradient_squares": output @ output,
        "output_elements": output.size,
    }
    return {**sums, **{name: np.array([value]) for name, value in values.items()}}


def derived(sums):
    statistics = statistics_of(DEFAULT_SETS)
    values = derive(statistics, sums)[0]
    return {statistic.name: value for statistic, value in zip(statistics, values, strict=True)}


def test_statistics_of_two_vectors():
    values = derived(sums_of(skip=[3.0, 4.0], branch=[0.0, 5.0], output=[6.0, 8.0, 0.0, 0.0]))
    assert values["skip_gradient_norm"] == 5
    assert values["branch_gradient_norm"] == 5
    assert values["input_gradient_norm"] == pytest.approx(math.sqrt(9 + 81))
    assert values["output_gradient_norm"] == 10
    assert values["skip_branch_cosine"] == pytest.approx(0.8)
    assert values["skip_share"] == 0.5
    assert values["gradient_gain"] == pytest.approx(math.sqrt(90) / 10)
    assert values["skip_gradient_rms"] == pytest.approx(5 / math.sqrt(2))
    assert values["output_gradient_rms"] == 5


def test_a_stopped_skip_has_no_share_and_no_cosine():
    values = derived(sums_of(skip=[0.0, 0.0], branch=[1.0, 2.0], output=[1.0]))
    assert values["skip_gradient_norm"] == 0
    assert values["skip_share"] == 0
    assert math.isnan(values["skip_branch_cosine"])


def test_without_any_gradient_nothing_is_divided_by_zero():
    values = derived(sums_of([0.0], [0.0], [0.0]))
    assert math.isnan(values["skip_share"])
    assert math.isnan(values["gradient_gain"])
    assert math.isnan(values["update_to_weight_ratio"])


def test_names_are_unique_and_described():
    names = [statistic.name for statistic in STATISTICS]
    assert len(set(names)) == len(names)
    assert all(statistic.formula and statistic.unit for statistic in STATISTICS)


def test_sets_without_a_statistic_of_blocks_are_refused():
    with pytest.raises(ValueError, match="no statistic of blocks"):
        statistics_of(["histograms"])


def test_an_unknown_set_is_refused():
    with pytest.raises(ValueError, match=r"no set of statistics 'path'. Choose from paths"):
        statistics_of(["path"])
