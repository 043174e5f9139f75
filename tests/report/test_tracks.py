"""The figure of one step has the numbers, the sizes and the colours of the page."""

import re
from pathlib import Path

import matplotlib.colors
import numpy as np
import pytest

import reszoo.tensorboard
from reszoo.gradients.log import LogWriter
from reszoo.report import tracks
from reszoo.report.__main__ import main
from reszoo.report.page import recording_of

STATISTICS = [f"{place}_gradient_norm" for place in ("skip", "branch", "input", "output")]
STATISTICS += ["skip_share", "gradient_gain"]
BLOCKS = [
    {"name": "a", "shortcut": "identity"},
    {"name": "a/b", "shortcut": "identity", "parent": "a"},
    {"name": "c", "shortcut": "projection", "stops_gradient": True},
    {"name": "d", "shortcut": "zero"},
]


def write_run(log_dir, steps=(0, 10, 20)):
    writer = LogWriter(str(log_dir), BLOCKS, STATISTICS, 0)
    for step in steps:
        values = np.random.default_rng(step).uniform(0.1, 0.9, (len(BLOCKS), len(STATISTICS)))
        values[2, 0] = 0
        values[2, 5] = np.nan
        writer.write(step, values, {})
    writer.close()
    return str(log_dir)


def test_it_has_the_numbers_of_the_step(tmp_path):
    recording = recording_of(write_run(tmp_path))
    figure = tracks.tracks_figure({"a run": recording}, 10, "paper")
    assert "a run: step 10 (1 blocks inside others are not drawn)" in figure.get_suptitle()
    strips = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    outer, at = [0, 2, 3], 1
    np.testing.assert_allclose(strips[0][0], recording.values[at, outer, 4], rtol=1e-6)
    assert strips[1].mask.tolist() == [[False, True, False]]
    profile = next(axes for axes in figure.axes if axes.get_yscale() == "log")
    norms = recording.values.astype(float)
    expected = norms[at, outer, 2] / norms[at, 3, 3]
    drawn = [line.get_ydata() for line in profile.lines]
    assert any(np.shape(y) == (3,) and np.allclose(y, expected) for y in drawn)


@pytest.mark.parametrize(("style", "inches"), [("column", 3.3), ("paper", 7), ("screen", 12)])
def test_it_is_as_wide_as_a_journal_asks(tmp_path, style, inches):
    runs = {name: recording_of(write_run(tmp_path / name)) for name in ("$one$", "b")}
    assert tracks.tracks_figure(runs, None, style).get_size_inches()[0] == inches


def test_the_colours_of_paths_and_runs_are_those_of_the_page():
    sources = Path(reszoo.tensorboard.__file__).parent / "frontend/src"
    style, scales = [(sources / name).read_text() for name in ("style.css", "scales.js")]
    for path, color in (("skip", tracks.SKIP_COLOR), ("branch", tracks.BRANCH_COLOR)):
        assert re.search(rf"--{path}: (#\w+);", style)[1] == color
    light = re.search(r"RUN_COLORS = \{\s*light: \[(.*?)\]", scales)[1]
    assert tuple(re.findall(r"#\w{6}", light)) == tracks.RUN_COLORS
    assert all(map(matplotlib.colors.is_color_like, tracks.RUN_COLORS))


def test_the_command_writes_it_in_a_format(tmp_path, capsys):
    runs = [write_run(tmp_path / name) for name in ("a", "b")]
    for suffix, start in (("pdf", b"%PDF"), ("svg", b"<?xml")):
        assert main([*runs, f"--format={suffix}", "--step=10", "--style=column"]) == 0
        path = tmp_path / "a" / f"gradient_flow_tracks.{suffix}"
        assert f"Wrote {path}\n" in capsys.readouterr().out
        assert path.read_bytes().startswith(start)
    assert "a, b: step 10" in path.read_text()


def test_a_step_that_is_not_recorded_is_refused_with_the_nearest(tmp_path, capsys):
    run = write_run(tmp_path)
    assert main([run, "--format=pdf", "--step=12"]) == 1
    said = capsys.readouterr().err
    assert "Step 12 of the run" in said
    assert "must be a recorded one. The nearest are 10 and 20." in said


def test_a_step_without_a_format_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path), "--step=12"])
    assert "add --format=pdf" in capsys.readouterr().err


def test_a_run_that_cannot_be_read_is_named_and_the_others_are_drawn(tmp_path, capsys):
    run = write_run(tmp_path / "a")
    assert main([str(tmp_path / "none"), run, "--format=svg"]) == 1
    assert "none is not in the figure." in capsys.readouterr().err
    assert (tmp_path / "a" / "gradient_flow_tracks.svg").exists()
