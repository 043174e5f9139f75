"""Pictures of the documents are taken from the page as it is, in full colour."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures.__main__ import TITLE, main
from pictures.moving_bus import frames, save
from pictures.screenshots import View, screenshot
from reszoo.gradients.log import LogWriter
from reszoo.report.page import page
from tests.integration.pages import require_browser

DOCS = Path(__file__).parents[1] / "docs"
SKIP, BRANCH = (0x28, 0x78, 0xB5), (0xE0, 0x7B, 0x1F)  # the page's colours of the paths
BAND = (0xF3, 0xF5, 0xF7)  # and of a stage


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of two runs of three blocks and two steps; in the second no skip has a gradient."""
    require_browser()
    folder = tmp_path_factory.mktemp("runs")
    for run, skip in {"whole": 1.0, "stopped": 0.0}.items():
        blocks = [{"name": f"stage1_block{i}", "stops_gradient": not skip} for i in (1, 2, 3)]
        places = ("skip", "branch", "input", "output")
        writer = LogWriter(
            str(folder / run), blocks, [f"{place}_gradient_norm" for place in places], 0
        )
        for step in (0, 5):
            sizes = 10.0 ** np.arange(-2, 1)[:, None] * [skip, 1.0, 1.0 + skip, 10.0]
            writer.write(step, sizes * (1 + step), {})
        writer.close()
    path = folder / "page.html"
    path.write_text(page([str(folder / "whole"), str(folder / "stopped")]))
    return path


def number_of(color, picture):
    return int((np.asarray(picture) == color).all(axis=-1).sum())


def test_without_a_browser_nothing_is_trained(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit):
        main([str(tmp_path / "runs"), f"--docs={tmp_path / 'docs'}"])
    assert "there is no Chromium on PATH: apt-get install chromium" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_screenshot_has_double_size_and_the_colours_of_the_page(report, tmp_path):
    screenshot(report, View({"runs": ["whole"]}, height=600)).save(tmp_path / "view.png")
    with Image.open(tmp_path / "view.png") as picture:
        picture.load()
    assert (picture.mode, picture.size) == ("RGB", (2560, 1200))
    assert len(picture.getcolors(1 << 24)) > 1000
    assert number_of(SKIP, picture) > 1000
    assert number_of(BRANCH, picture) > 1000


def test_the_moving_bus_has_a_frame_for_each_recorded_step_and_plays_for_six_seconds(
    report, tmp_path
):
    pictures = frames(report, {"whole": "with skips", "stopped": "skips stopped"}, TITLE, False)
    upper, lower = (
        pictures[0].crop((0, top, pictures[0].width, top + pictures[0].height // 2))
        for top in (0, pictures[0].height // 2)
    )
    assert number_of(SKIP, upper) > 1000
    assert number_of(SKIP, lower) == 0
    assert number_of(BRANCH, upper) > 0
    assert number_of(BRANCH, lower) > 0
    save(pictures, tmp_path / "bus.webp")
    with Image.open(tmp_path / "bus.webp") as moving:
        assert moving.n_frames == 2
        assert moving.width == 2 * 860
        saved, durations = [], []
        for i in range(2):
            moving.seek(i)
            saved.append(moving.convert("RGB"))
            durations.append(moving.info["duration"])
    assert durations == [2500, 3500]
    assert np.abs(np.asarray(saved[0], int) - np.asarray(pictures[0], int)).max() <= 4
    for color in (SKIP, BRANCH, BAND):
        assert number_of(color, saved[0]) >= number_of(color, pictures[0]) > 0


def test_every_picture_of_the_documents_is_shown_and_every_one_shown_is_there():
    texts = [path.read_text() for path in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]]
    shown = {name for text in texts for name in re.findall(r"images/(\w+\.\w+)", text)}
    assert shown == {path.name for path in (DOCS / "images").iterdir()}


def test_the_pictures_of_the_documents_are_in_full_colour():
    for path in (DOCS / "images").glob("*.png"):
        with Image.open(path) as picture:
            assert picture.mode == "RGB", path
            assert len(picture.getcolors(1 << 24)) > 1000, path
            assert picture.width >= 2 * 860, path


def test_the_moving_pictures_of_the_documents_are_small_enough_for_a_slow_line():
    for path in (DOCS / "images").glob("*.webp"):
        assert path.stat().st_size < 1_500_000, path
        with Image.open(path) as moving:
            assert moving.n_frames > 30
