"""The notebook runs from top to bottom, and shows what its text says."""

import ast
import json
import tempfile
from pathlib import Path

import matplotlib
import pytest

from reszoo.gradients import load
from reszoo.report.page import Page

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tour.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def run_cell(cell, names):
    """Runs a cell as Jupyter does: the value is that of its last line, if that is an expression."""
    tree = ast.parse("".join(cell["source"]))
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, cell["id"], "exec"), names)
    return last and eval(compile(ast.Expression(last.value), cell["id"], "eval"), names)


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """The names of the notebook after all its cells have run, and the values that they show."""
    names, shown = {}, []
    with pytest.MonkeyPatch.context() as patch, matplotlib.rc_context({"backend": "agg"}):
        patch.setenv("TOUR_EPOCHS", "1")
        patch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("logs")))
        for cell in CELLS:
            if cell["cell_type"] == "code":
                shown.append(run_cell(cell, names))
        matplotlib.pyplot.close("all")
    return names, shown


def test_the_notebook_is_valid_and_has_no_outputs():
    nbformat = pytest.importorskip("nbformat")
    nbformat.validate(nbformat.read(NOTEBOOK, as_version=4))
    for cell in CELLS:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None


def test_finite_differences_agree_with_the_sum_and_a_stopped_skip_does_not(tour):
    names, _ = tour
    table, stopped = names["agreement"], names["agreement_stopped"]
    assert table.candidate[table.finite_differences_agree].tolist() == ["sum"]
    assert table.candidate[table.reverse_mode_agrees].tolist() == ["sum"]
    assert table.finite_differences_error[1] == pytest.approx(0.5)
    assert stopped.candidate[stopped.finite_differences_agree].tolist() == ["sum"]
    assert stopped.candidate[stopped.reverse_mode_agrees].tolist() == ["skip as a constant"]


def test_the_gradient_vanishes_without_a_gradient_through_the_skips(tour):
    profiles = tour[0]["profiles"]
    assert profiles["residual"].iloc[0] > 3
    assert profiles["stop_gradient"].iloc[0] < 0.1
    assert profiles["plain"].iloc[0] < 0.1


def test_the_first_block_stands_still_where_only_the_gradient_vanishes(tour):
    first, last = tour[0]["updates"].to_numpy()
    ratio = dict(zip(tour[0]["updates"].columns, first / last, strict=True))
    assert ratio["stop_gradient"] < 0.02
    assert 0.3 < ratio["plain"] < 3
    assert 0.3 < ratio["residual"] < 3


def test_the_plain_network_learns_least(tour):
    accuracy = {name: history[-1] for name, history in tour[0]["accuracies"].items()}
    assert accuracy["residual"] > accuracy["stop_gradient"] > accuracy["plain"]


def test_resnet56_is_recorded_in_all_its_blocks(tour):
    log = load(tour[0]["resnet56"])
    assert log.block.nunique() == 27
    assert log.step.nunique() == 15


def test_the_notebook_shows_the_pages_of_its_trainings(tour):
    pages = [value.content for value in tour[1] if isinstance(value, Page)]
    titles = [page.split("<title>")[1].split("</title>")[0] for page in pages]
    assert titles == [
        "Gradient flow: residual",
        "Gradient flow: residual, stop_gradient, plain",
        "Gradient flow: resnet56",
    ]
