"""The picture shows the numbers of the log."""

import importlib.resources
import io
import json
import re

import numpy as np
import pytest

from reszoo.gradients import load
from reszoo.gradients.log import LogWriter
from reszoo.report.figure import PANELS, SHARE_COLORS, gradient_flow_figure
from tests.odd_names import ODD_NAMES

STATISTICS = [statistic for statistic, _, _ in PANELS]


@pytest.fixture
def workdir(tmp_path):
    blocks = [{"name": f"stage1_block{i}"} for i in (1, 2, 3)]
    writer = LogWriter(str(tmp_path / "gradients"), blocks, STATISTICS, 0)
    random = np.random.default_rng(0)
    for step in (0, 10, 20, 30):
        values = random.uniform(0.1, 0.9, (3, 4))
        values[2, 1] = 0.0  # a stopped skip
        writer.write(step, values, {})
    writer.close()
    return tmp_path


def test_each_panel_is_blocks_by_steps(workdir):
    table = load(str(workdir))
    figure = gradient_flow_figure(table, "a run")
    panels = [axis for axis in figure.axes if axis.images]
    assert len(panels) == 4
    for axis, (statistic, title, _) in zip(panels, PANELS, strict=True):
        assert axis.get_title(loc="left") == title
        drawn = axis.images[0].get_array()
        assert drawn.shape == (3, 4)
        row = table[(table.statistic == statistic) & (table.block == "stage1_block2")]
        np.testing.assert_array_equal(drawn[1], row.value)
    blocks = [label.get_text() for label in panels[0].get_yticklabels()]
    assert blocks == ["stage1_block1", "stage1_block2", "stage1_block3"]
    assert panels[1].images[0].get_array().mask[2].all()


def test_the_norms_share_one_scale(workdir):
    figure = gradient_flow_figure(load(str(workdir)), "a run")
    scales = [axis.images[0].norm for axis in figure.axes if axis.images]
    assert scales[0] is scales[1] is scales[2]
    assert (scales[3].vmin, scales[3].vmax) == (0, 1)


def test_a_block_without_a_defined_number_keeps_its_row(tmp_path):
    writer = LogWriter(str(tmp_path), [{"name": name} for name in "abc"], STATISTICS, 0)
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    values[1, 3] = np.nan
    for step in (0, 1):
        writer.write(step, values, {})
    writer.close()
    figure = gradient_flow_figure(load(str(tmp_path)), "a run")
    drawn = [axis.images[0].get_array() for axis in figure.axes if axis.images][3]
    assert drawn.shape == (3, 2)
    np.testing.assert_array_equal(drawn.mask, [[False] * 2, [True] * 2, [False] * 2])


def test_a_log_without_these_statistics_is_hatched(tmp_path):
    writer = LogWriter(str(tmp_path), [{"name": "a"}], ["update_norm"], 0)
    writer.write(0, np.ones((1, 1)), {})
    writer.close()
    figure = gradient_flow_figure(load(str(tmp_path)), "a run")
    figure.savefig(io.BytesIO(), dpi=40)
    assert all(axis.images[0].get_array().mask.all() for axis in figure.axes if axis.images)


def test_the_colours_are_those_of_the_page():
    source = importlib.resources.files("reszoo.tensorboard") / "frontend/src/scales.js"
    found = re.search(r"light: interpolateRgbBasis\((\[.*?\])\)", source.read_text())
    assert tuple(json.loads(found[1])) == SHARE_COLORS


def test_names_are_text_whatever_is_in_them(tmp_path):
    """Drawn without a warning, which here is an error."""
    names = [*ODD_NAMES, "$"]
    writer = LogWriter(str(tmp_path), [{"name": name} for name in names], STATISTICS, 0)
    writer.write(0, np.full((len(names), 4), 0.5), {})
    writer.close()
    figure = gradient_flow_figure(load(str(tmp_path)), "$a_$ " + " ".join(ODD_NAMES[-9:]))
    figure.savefig(io.BytesIO(), dpi=40)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels[:5] == ["$a_$", r"$\frac{$", "_a", "a|b", "<b>&amp;</b>"]
    assert labels[names.index("a\nb")] == r"a\nb"
    assert labels[names.index("你好")] == r"\u4f60\u597d"
    assert len(set(labels)) == len(names)
