"""The panel about one block, in a real browser: its layers and its histograms."""

import numpy as np
import pytest

from reszoo.gradients.log import HISTOGRAMS_TAG, LogWriter
from reszoo.report.page import page as report_page

STATISTICS = ["skip_gradient_norm", "branch_gradient_norm", "skip_share"]
EDGES = [0.0, *(2.0**exponent for exponent in range(-48, 16))]
BINS = [f"{path} {edge!r}" for path in ("skip", "branch") for edge in EDGES]


def layer(name, kind="Conv2D", shape=(8, 8, 4), parameters=1480, activation=None):
    shape = None if shape is None else list(shape)
    values = (name, kind, shape, parameters, activation)
    return dict(zip(("name", "kind", "shape", "parameters", "activation"), values, strict=True))


def layers(*branch, skip=(), activation=None):
    return {"layers": {"skip": list(skip), "branch": list(branch), "activation": activation}}


@pytest.fixture
def report(tmp_path):
    """Writes the page of a run with some blocks."""

    def write(blocks, histograms=None):
        writer = LogWriter(str(tmp_path / "run"), blocks, STATISTICS, 0)
        header = {"rows": [block["name"] for block in blocks], "columns": BINS}
        for step in range(5):
            writer.write(step, np.full((len(blocks), len(STATISTICS)), 0.5 + step), {})
            if step in (histograms or {}):
                writer.write_table(step, HISTOGRAMS_TAG, histograms[step], header)
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
    rest = layer("lose", "Layer", None, 0), layer("mean", "Mean", [], 0)
    skip = layer("project", "Conv2D", [None, 4], 1)
    blocks = [
        layers(
            layer("dense", "Dense", [4], 20, "gelu"),
            own_code,
            *rest,
            skip=[skip],
            activation="relu",
        ),
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
        ("lose", "Layer \u00b7 shape unknown"),
        ("mean", "Mean \u00b7 scalar"),
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


def bars(page, path):
    """Returns the height of each bar by its text, from the left."""
    drawn = page.find(f".gf-histogram-{path} rect").all()
    texts = [bar.locator("title").text_content() for bar in drawn]
    return dict(zip(texts, (float(bar.get_attribute("height")) for bar in drawn), strict=True))


def test_the_histogram_of_the_block_is_drawn_at_the_nearest_step_that_has_one(page, report):
    counts = np.zeros((2, 2, len(EDGES)))
    counts[0, 0, [EDGES.index(2.0**-10), EDGES.index(2.0**-9)]] = 1200, 300
    counts[0, 1, [0, 1, -1]] = 4, 16, 8
    blocks = [{"name": "a"}, {"name": "b"}]
    page.open_file(report(blocks, {0: counts.reshape(2, -1), 3: 2 * counts.reshape(2, -1)}), step=0)
    opened(page, "a")
    page.find(".gf-histogram h3:has-text('step 0 \u00b7')").wait_for()
    skip = bars(page, "skip")
    assert list(skip) == [
        "9.8e-4 to 0.00195: 1,200 of the skip",
        "0.00195 to 0.00391: 300 of the skip",
    ]
    assert np.divide(*skip.values()) == pytest.approx(4)
    branch = bars(page, "branch")
    assert list(branch) == [
        "exactly 0: 4 of the branch",
        "below 7.1e-15: 16 of the branch",
        "32,768 and above: 8 of the branch",
    ]
    assert list(branch.values()) == pytest.approx(46 * np.array([1, 4, 2]) / 4)
    label = page.find(".gf-histogram svg").get_attribute("aria-label")
    assert label.startswith("skip: 1,500 values, 0 of them 0, most of them 9.8e-4 to 0.00195.")
    page.find("input[aria-label=Step]").fill("4")
    page.find(".gf-histogram h3:has-text('step 3, the nearest')").wait_for()
    assert next(iter(bars(page, "skip"))).endswith("2,400 of the skip")


def test_without_histograms_none_is_drawn(page, report):
    page.open_file(report([{"name": "a"}]))
    opened(page, "a")
    page.find(".gf-inspector-rank:has-text('1 of 1')").first.wait_for()
    assert page.find(".gf-histogram").count() == 0
