"""The picture shows the numbers of the log."""

import numpy as np
import pytest

from reszoo.gradients import load
from reszoo.gradients.log import LogWriter
from reszoo.report.figure import PANELS, gradient_flow_figure

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
