"""The panel about one block, in a real browser: what it says of the block's layers."""

import numpy as np
import pytest

from reszoo.gradients.log import LogWriter
from reszoo.report.page import page as report_page

STATISTICS = ["skip_gradient_norm", "branch_gradient_norm", "skip_share"]


def layer(name, kind="Conv2D", shape=(8, 8, 4), parameters=1480, activation=None):
    shape = None if shape is None else list(shape)
    values = (name, kind, shape, parameters, activation)
    return dict(zip(("name", "kind", "shape", "parameters", "activation"), values, strict=True))


def layers(*branch, skip=(), activation=None):
    return {"layers": {"skip": list(skip), "branch": list(branch), "activation": activation}}


@pytest.fixture
def report(tmp_path):
    """Writes the page of a run with some blocks."""

    def write(blocks):
        writer = LogWriter(str(tmp_path / "run"), blocks, STATISTICS, 0)
        for step in range(3):
            writer.write(step, np.full((len(blocks), len(STATISTICS)), 0.5 + step), {})
        writer.close()
        path = tmp_path / "page.html"
        path.write_text(report_page([str(tmp_path / "run")]))
        return path

    return write


def opened(page, name):
    page.find(f".gf-block[data-block='{name}']").click()
    page.find(f".gf-inspector h2:text-is('{name}')").wait_for()


def lines(page, path):
    """Name and kind of each layer that is listed of a path."""
    listed = page.find(f".gf-layers-{path} li").all()
    return [tuple(part.text_content() for part in each.locator("span").all()) for each in listed]


def test_a_block_has_its_layers_along_skip_and_branch(page, report):
    many = [layer(f"conv{i}") for i in range(30)]
    own_code = layer(None, "Relu, Mul", None, None)
    skip = layer("project", "Conv2D", [None, 4], 1)
    blocks = [
        layers(layer("dense", "Dense", [4], 20, "gelu"), own_code, skip=[skip], activation="relu"),
        layers(*many),
        {"layers": None},
        {},
    ]
    page.open_file(report([{"name": name, **of} for name, of in zip("abcd", blocks, strict=True)]))
    opened(page, "a")
    assert lines(page, "skip") == [("project", "Conv2D \u00b7 ?\u00d74 \u00b7 1\u00a0weight")]
    assert lines(page, "branch") == [
        ("dense", "Dense, gelu \u00b7 4 \u00b7 20\u00a0weights"),
        ("own code", "Relu, Mul"),
    ]
    assert page.find(".gf-layers > p").text_content() == "relu of the sum"
    opened(page, "b")
    assert page.find(".gf-layers-skip").text_content() == "skipidentity"
    assert len(lines(page, "branch")) == 30
    box = page.find(".gf-layers-scroll")
    assert box.evaluate("e => e.scrollHeight > e.clientHeight && e.scrollWidth <= e.clientWidth")
    page.find(".gf-cut").focus()
    page.tab.keyboard.press("Tab")
    assert box.evaluate("e => e === document.activeElement")
    page.tab.keyboard.press("PageDown")
    for _ in range(100):
        if box.evaluate("e => e.scrollTop"):
            break
        page.tab.wait_for_timeout(50)
    assert box.evaluate("e => e.scrollTop") > 0
    opened(page, "c")
    assert page.find(".gf-layers-none").text_content().startswith("Layers not known")
    opened(page, "d")
    assert page.find(".gf-layers-none").text_content() == "The log does not say which layers."
