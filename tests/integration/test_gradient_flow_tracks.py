"""The tracks of the Gradient Flow page, each in a real browser, over reports of logs by hand."""

import json
import re
import xml.etree.ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reszoo.gradients.log import LogWriter
from reszoo.gradients.statistics import DEFAULT_SETS, statistics_of
from reszoo.report.page import page as report_page

STATISTICS = [statistic.name for statistic in statistics_of(DEFAULT_SETS)]
SHORTCUTS = ["identity", "identity", "projection", "identity", "zero pad", "identity"]
STEPS = 8


def described(blocks=6, stages=3, **more):
    """Blocks in stages, with each kind of shortcut at the beginning."""
    per_stage = blocks // stages
    return [
        {
            "name": f"stage{i // per_stage + 1}_block{i % per_stage + 1}",
            "shortcut": (SHORTCUTS + ["identity"] * blocks)[i],
            "stops_gradient": False,
            **more,
        }
        for i in range(blocks)
    ]


def numbers(blocks, steps=STEPS, seed=0, skips=True):
    """Values by statistic, of shape (steps, blocks), that fit together as those of a training."""
    random = np.random.default_rng(seed)

    def draw(scale):
        return np.exp(scale * random.normal(size=(steps, blocks)))

    values = {name: draw(0.3) for name in STATISTICS}
    skip, branch = draw(0.5) * skips, draw(0.5)
    cosine = np.clip(0.3 * random.normal(size=(steps, blocks)), -1, 1)
    both = np.sqrt(skip**2 + branch**2 + 2 * cosine * skip * branch)
    values["skip_gradient_norm"], values["branch_gradient_norm"] = skip, branch
    values["input_gradient_norm"] = both
    values["skip_share"] = skip / (skip + branch)
    values["skip_branch_cosine"] = cosine if skips else np.full_like(cosine, np.nan)
    values["gradient_gain"] = both / values["output_gradient_norm"]
    values["update_to_weight_ratio"] = 1e-3 * draw(0.5)
    return values | {name: 0 * skip for name in STATISTICS if name.endswith("nonfinite")}


def write_run(log_dir, values, blocks, alarms=(), losses=None, tested=None, epochs=None):
    writer = LogWriter(str(log_dir), blocks, STATISTICS, 0, tested)
    for step in range(len(values["skip_share"])):
        if step in (epochs or {}):
            writer.write_scalars(step, {"epoch": epochs[step]})
        loss = {} if losses is None else {"loss": losses[step]}
        writer.write(step, np.stack([values[name][step] for name in STATISTICS], 1), loss)
    writer.close()
    if alarms:
        text = "".join(json.dumps({"path": None, **alarm}) + "\n" for alarm in alarms)
        (Path(log_dir) / "alarms.jsonl").write_text(text)
    return str(log_dir)


@pytest.fixture
def report(tmp_path):
    """Writes the page of runs."""

    def write(*runs):
        path = tmp_path / "page.html"
        path.write_text(report_page(runs))
        return path

    return write


@pytest.fixture
def one(tmp_path):
    """A run, its numbers, and what it lost at every step."""
    values = numbers(6)
    losses = np.linspace(2.5, 0.5, STEPS)
    return write_run(tmp_path / "one", values, described(), losses=losses), values, losses


def wait_until(page, holds):
    """Waits for what is no selector; the page's policy forbids Playwright's own way."""
    for _ in range(200):
        if holds():
            return
        page.tab.wait_for_timeout(20)
    pytest.fail("It does not hold after 4 s.")


def factor(text):
    return float(re.search(r"\u00d7([\d.e-]+)", text)[1])


def test_one_screen_holds_every_track_and_the_loss_is_the_time_control(open_page, report, one):
    log, values, losses = one
    page = open_page(1280, 736)  # what TensorBoard leaves of 1280 by 800
    page.open_file(report(log), step=3)
    bottom = page.find(".gf-legends").evaluate("e => e.getBoundingClientRect().bottom")
    assert bottom <= 736
    assert page.find(".gf-track").count() == 4
    assert "M" in page.find(".gf-losses path").first.get_attribute("d")
    assert f"loss {losses[3]:.3g}" in page.find(".gf-step").text_content()
    tiles = page.find(".gf-tile strong").all_text_contents()
    depth = values["input_gradient_norm"][3, 0] / values["output_gradient_norm"][3, -1]
    assert factor(tiles[0]) == pytest.approx(depth, rel=0.01)
    assert tiles[1] == f"{np.median(values['skip_share'][3]):.0%}"
    assert float(tiles[2].split()[0]) == pytest.approx(
        np.median(values["update_to_weight_ratio"][3]), rel=0.06
    )
    assert tiles[3] == "not known, limits kept"


@pytest.fixture
def three(tmp_path):
    """Runs with skips, with stopped ones and without."""
    kinds = {"whole": {}, "stopped": {"stops_gradient": True}, "plain": {"shortcut": "zero"}}
    return [
        write_run(
            tmp_path / name, numbers(6, seed=seed, skips=not seed), described(**more),
            losses=np.linspace(2.5, 0.5 + seed, STEPS), epochs={0: 0, 4: 1},
        )
        for seed, (name, more) in enumerate(kinds.items())
    ]  # fmt: skip


@pytest.mark.parametrize(("number_of_runs", "height"), [(2, 736), (3, 800)])
def test_one_screen_holds_every_track_of_several_runs(
    open_page, report, three, number_of_runs, height
):
    kinds = ["whole", "stopped", "plain"][:number_of_runs]
    page = open_page(1280, height)
    page.open_file(report(*three[:number_of_runs]))

    def bottom(selector):
        return page.find(selector).last.evaluate("e => e.getBoundingClientRect().bottom")

    # The tracks; of two runs their legend too.
    assert bottom(".gf-legends" if number_of_runs == 2 else ".gf-map") <= height
    assert page.find(".gf-track:visible").count() == 4
    assert page.find(".gf-map h3").all_text_contents() == kinds
    said = page.find(".gf-sentence").all_text_contents()
    assert [re.sub(r"[\d.]+(e-?\d+)?", "#", text) for text in said] == [
        "#% skip, \u00d7# to the input", "#% branch, \u00d7# to the input",
        "no skips, \u00d7# to the input",
    ][:number_of_runs]  # fmt: skip
    # Block stands under block, and its name below the last bus alone.
    rows = [panel.locator(".gf-name").all_text_contents() for panel in page.find(".gf-panel").all()]
    assert rows == [[""] * 6] * (number_of_runs - 1) + [["1", "2"] * 3]
    heights = page.find(".gf-heatmap").evaluate_all("all => all.map(e => e.clientHeight)")
    assert min(heights) >= 30
    page.find(".gf-run-name").last.click()  # the others are compared with it
    page.find(f".gf-panel:first-child h3:has-text('{kinds[-1]} \u00b7 reference')").wait_for()
    page.find("label:has-text('Maps') select").select_option("both")
    page.find(f".gf-map h3:has-text('whole \u00f7 {kinds[-1]}')").wait_for()
    assert page.find(".gf-map").count() == 2 * number_of_runs - 1
    page.tab.set_viewport_size({"width": 1280, "height": 1400})
    wait_until(page, lambda: page.find(".gf-heatmap").first.bounding_box()["height"] > min(heights))


@pytest.mark.parametrize("losses", [None, np.linspace(2.5, 0.5, STEPS)], ids=["no loss", "loss"])
def test_epochs_are_ticked_on_the_time_control(page, report, tmp_path, losses):
    epochs = {0: 0, 3: 1, 6: 2}
    run = write_run(tmp_path / "run", numbers(6), described(), losses=losses, epochs=epochs)
    page.open_file(report(run), step=4)
    ticks = page.find(".gf-epochs span")
    assert ticks.all_text_contents() == ["epoch 1", "2", "3"]
    assert ticks.nth(1).get_attribute("title") == "epoch 2: from step 3"
    thumb = "e => 8 + (e.clientWidth - 16) * e.value / e.max"
    for tick, step in enumerate(epochs):
        page.find("input[aria-label=Step]").fill(str(step))
        box, slider = (
            page.find(each).bounding_box()
            for each in (f".gf-epochs span >> nth={tick}", "input[aria-label=Step]")
        )
        at = page.find("input[aria-label=Step]").evaluate(thumb)
        assert box["x"] - slider["x"] == pytest.approx(at, abs=1)
        said = page.find(".gf-loss-now").text_content()
        assert said.split(" \u00b7 ")[0] == f"epoch {tick + 1}"
        assert ("loss" in said) == (losses is not None)
    other = write_run(tmp_path / "other", numbers(6), described(), epochs={0: 0, 4: 1})
    page.open_file(report(other, run), step=5)
    assert page.find(".gf-loss-now").text_content().startswith("epoch 2 of other")


def test_many_epochs_are_ticked_in_round_numbers(page, report, tmp_path):
    steps = 300
    run = write_run(
        tmp_path / "run", numbers(2, steps), described(2, 1), epochs=dict(enumerate(range(steps)))
    )
    page.open_file(report(run))
    ticks = page.find(".gf-epochs span").evaluate_all("all => all.map(e => [e.title, e.innerText])")
    epochs = [int(re.match(r"epoch (\d+):", title)[1]) for title, _ in ticks]
    named = [text for _, text in ticks if text]
    assert named[0] == "epoch 1"
    assert [int(name) for name in named[1:]] == list(range(40, 20 * len(named) + 1, 20))
    assert not np.any(np.array(epochs[1:]) % 5)


def test_the_profile_is_the_gradient_of_each_block_over_that_at_the_last(page, report, one):
    log, values, _ = one
    page.open_file(report(log), step=3)
    profile = values["input_gradient_norm"] / values["output_gradient_norm"][:, -1:]
    name = page.find(".gf-line-name").text_content()
    assert factor(name) == pytest.approx(profile[3, 0], rel=0.01)

    def heights(selector):
        path = page.find(selector).get_attribute("d")
        points = re.findall(r"[ML]([\d.]+) ([\d.]+)", path)
        return [float(x) for x, _ in points], np.array([float(y) for _, y in points])

    columns = page.find(".gf-block .gf-target").evaluate_all(
        "all => all.map(e => Number(e.getAttribute('x')) + Number(e.getAttribute('width')) / 2)"
    )
    x, now = heights(".gf-profile .gf-now")
    _, first = heights(".gf-first-step")
    _, band = heights(".gf-band")
    np.testing.assert_allclose(x, columns, atol=1)
    # A scale by the logarithm: heights are straight in it.
    slope, at_one = np.polyfit(np.log(profile[3]), now, 1)
    np.testing.assert_allclose(now, slope * np.log(profile[3]) + at_one, atol=0.3)
    np.testing.assert_allclose(first, slope * np.log(profile[0]) + at_one, atol=0.3)
    high = slope * np.log(np.quantile(profile, 0.9, axis=0)) + at_one
    np.testing.assert_allclose(band[:6], high, atol=0.3)


def test_the_zones_of_the_profile_are_the_limits_of_the_alarms_or_ones_own(page, report, tmp_path):
    values = numbers(6)
    falling = np.geomspace(5e-3, 1, 6) * values["output_gradient_norm"][:, -1:]
    values["input_gradient_norm"] = falling
    alarms = {
        "usual": None,
        "own": [
            {"alarm": "vanishing", "fraction": 1e-9},
            {"alarm": "vanishing", "fraction": 0.01},
            {"alarm": "exploding", "multiple": None},
        ],
        "half": [{"alarm": "exploding", "multiple": 3.5}],
    }
    runs = {
        name: write_run(tmp_path / name, values, described(), tested=tested)
        for name, tested in alarms.items()
    }
    path = report(*runs.values())

    def limits():
        return [page.find(".gf-limit").nth(i).input_value() for i in (0, 1)]

    def edges():
        """Returns the limit of each zone, read from its place in the drawing."""
        drawn = page.find(".gf-profile .gf-now").get_attribute("d")
        heights = [float(y) for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", drawn)]
        slope, at_one = np.polyfit(heights, np.log(np.geomspace(5e-3, 1, 6)), 1)
        boxes = page.find(".gf-zones rect").evaluate_all(
            "all => all.map(e => [+e.getAttribute('y'), +e.getAttribute('height')])"
        )
        return [np.exp(slope * (y if y > 20 else y + height) + at_one) for y, height in boxes]

    words = page.find(".gf-limits .gf-label").first
    verdict = page.find("[data-tile=depth]")
    for run, expected, said, zones, kind in [
        ("usual", ["0.001", "1000"], "usual limits: below", [], "watch"),
        ("own", ["0.01", ""], "alarms\u2019 limits: below", [0.01], "bad"),
        ("half", ["0.001", "3.5"], "alarms\u2019 and usual limits: below", [3.5], "watch"),
    ]:
        page.open_file(path, runs=[run])
        assert limits() == expected
        assert words.text_content() == said
        np.testing.assert_allclose(edges(), zones, rtol=0.01)
        assert f"is-{kind}" in verdict.get_attribute("class")
    page.open_file(path, runs=["own", "usual"])
    assert words.text_content() == "alarms\u2019 limits of own: below"
    page.open_file(path, runs=["own"])
    page.find("[aria-label='Tint below']").fill("0.3")
    page.find("[aria-label='Tint below']").press("Enter")
    page.find(".gf-label:has-text('limits set here')").wait_for()
    np.testing.assert_allclose(edges(), [0.3], rtol=0.01)
    assert page.find(".gf-zones text").all_text_contents() == ["\u00d70.3"]
    wait_until(page, lambda: "p.gradient_flow.below=0.3" in page.tab.url)
    for name, text, refused in [
        ("above", "0.2", "must be a number above 0.3"),
        ("above", "-1", "must be a number above 0.3"),
        ("below", "a tenth", "must be a number above 0"),
    ]:
        page.find(f"[aria-label='Tint {name}']").fill(text)
        page.find(f"[aria-label='Tint {name}']").press("Enter")
        page.find(f".gf-limits [role=alert]:has-text('{refused}')").wait_for()
        np.testing.assert_allclose(edges(), [0.3], rtol=0.01)
    page.find("[aria-label='Tint below']").fill("")
    page.find("[aria-label='Tint below']").press("Enter")
    page.find(".gf-label:has-text('alarms\u2019 limits: below')").wait_for()
    np.testing.assert_allclose(edges(), [0.01], rtol=0.01)
    page.open_file(path, runs=["usual"], below=5, above=2)  # which exclude each other
    assert limits() == ["0.001", "1000"]


def test_a_block_lights_its_column_in_all_tracks_and_a_row_of_time_moves_the_step(
    page, report, one
):
    page.open_file(report(one[0]))
    page.find(".gf-block").nth(2).hover()
    lit = page.find(".gf-column").bounding_box()
    block = page.find(".gf-block").nth(2).locator(".gf-target").bounding_box()
    assert abs(lit["x"] + lit["width"] / 2 - block["x"] - block["width"] / 2) < 1.5
    section = page.find(".gf-tracks").bounding_box()
    assert lit["height"] > 0.95 * section["height"]
    box = page.find(".gf-over").bounding_box()
    page.tab.mouse.move(block["x"] + 5, box["y"] + box["height"] * 2.5 / STEPS)
    page.wait_for_step(2)
    assert page.find(".gf-column").bounding_box() == lit
    for track in (".gf-profile", ".gf-strips"):
        page.tab.mouse.move(block["x"] + 5, page.find(track).bounding_box()["y"] + 6)
        assert page.find(".gf-column").bounding_box() == lit
        assert page.find(".gf-tip-title").text_content().startswith("stage2_block1")
    page.wait_for_step(STEPS - 1)
    page.tab.mouse.move(5, 5)
    page.find(".gf-column").wait_for(state="hidden")


def test_paths_have_their_colours_and_their_names(page, report, one):
    page.open_file(report(one[0]))
    assert page.find(".gf-path-name").all_text_contents() == ["branch", "skip"]
    fills = [
        page.find(f".gf-block .gf-{path}").first.evaluate("e => getComputedStyle(e).fill")
        for path in ("skip", "branch")
    ]
    skip, branch = [np.array(re.findall(r"\d+", fill), float) / 255 for fill in fills]
    # Machado, Oliveira and Fernandes 2009, severity 1, on linear light.
    kinds = {
        "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
        "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
        "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
    }
    for kind, matrix in kinds.items():
        seen = [
            np.clip(np.array(matrix) @ color**2.2, 0, 1) ** (1 / 2.2) for color in (skip, branch)
        ]
        assert np.abs(seen[0] - seen[1]).max() > 0.3, kind


def test_widths_are_in_proportion_to_the_largest_of_the_step(page, report, one):
    log, values, _ = one
    page.open_file(report(log), step=3)
    norms = [values[f"{p}_gradient_norm"][3] for p in ("skip", "branch", "input", "output")]
    largest = page.find(".gf-widths .gf-sample").last
    assert float(largest.text_content()) == pytest.approx(np.max(norms), rel=0.01)

    def width_at_fork(block):
        path = page.find(".gf-block .gf-skip").nth(block).get_attribute("d")
        (_, top), *_, (_, bottom) = re.findall(r"([\d.]+) ([\d.]+)", path)
        return float(bottom) - float(top)

    widths = np.array([width_at_fork(block) for block in range(4)])
    np.testing.assert_allclose(widths / widths[0], norms[0][:4] / norms[0][0], rtol=0.06)
    page.find("select:has(option[value=log])").first.select_option("log")
    page.find(".gf-widths figcaption:has-text('log scale')").wait_for()
    assert width_at_fork(1) != widths[1]


def test_values_over_time_are_relative_to_the_median_block_of_the_step(page, report, one):
    log, values, _ = one
    page.open_file(report(log))
    norms = values["input_gradient_norm"]
    box = page.find(".gf-over").bounding_box()
    column = page.find(".gf-block").nth(1).locator(".gf-target").bounding_box()
    expected = {
        "median": norms[2, 1] / np.median(norms[2]),
        "last": norms[2, 1] / norms[2, -1],
        "first": norms[2, 1] / norms[0, 1],
    }
    for relation, quotient in expected.items():
        page.find("label:has-text('Values') select").select_option(relation)
        page.find(f".gf-bar figcaption:has-text('over the {relation}')").wait_for()
        page.tab.mouse.move(column["x"] + 9, box["y"] + box["height"] * 2.5 / STEPS)
        said = page.find(".gf-tooltip strong").text_content()
        assert factor(said) == pytest.approx(quotient, rel=0.01)
        assert float(said.split("(")[1].split()[0]) == pytest.approx(norms[2, 1], rel=0.01)
        page.tab.mouse.move(5, 5)
    page.find("label:has-text('Values') select").select_option("recorded")
    page.find(".gf-bar figcaption:has-text('log scale')").wait_for()


def test_what_is_not_defined_is_hatched_and_said(page, report, tmp_path):
    run = write_run(tmp_path / "stopped", numbers(6, skips=False), described(stops_gradient=True))
    page.open_file(report(run), map="skip_branch_cosine", color="skip_branch_cosine")
    said = page.find(".gf-nothing-said").text_content()
    assert said == "no skip gradient in this run, so no skip branch cosine"
    fills = page.find(".gf-strips rect[fill='url(#gf-hatch)']")
    assert fills.count() == 6
    assert page.find(".gf-block .gf-branch").first.evaluate("e => e.style.fill").startswith("url")
    colors = page.find(".gf-cells").evaluate(
        """canvas => {
            const {data} = canvas.getContext("2d").getImageData(400, 40, 24, 24);
            return new Set(data.reduce((all, _, i) => i % 4 ? all : [...all, data[i]], [])).size;
        }"""
    )
    assert colors > 1


def test_the_step_is_marked_on_dark_and_on_bright_cells(page, report, one):
    page.open_file(report(one[0]), step=3)
    levels = page.find(".gf-over").evaluate(
        """canvas => {
            const {data} = canvas.getContext("2d").getImageData(500, 0, 1, canvas.height);
            return Array.from(data).filter((_, i) => i % 4 === 0 && data[i + 3] > 200);
        }"""
    )
    assert min(levels) < 60
    assert max(levels) > 240


def test_the_page_keeps_its_height_while_steps_play(page, report, tmp_path):
    values = numbers(6)
    # Sentences of all lengths: nothing through the skips, as much as through the branch, and all.
    for step, share in enumerate([0, 0.5, 1, 0.27]):
        values["skip_share"][step] = share
    values["input_gradient_norm"][4] *= 1.234e-7
    runs = [write_run(tmp_path / name, values, described()) for name in ("one", "two")]
    page.open_file(report(*runs))
    heights = set()
    for step in range(STEPS):
        page.find("input[aria-label=Step]").fill(str(step))
        page.wait_for_step(step)
        heights.add(page.find(".gf").evaluate("e => e.scrollHeight"))
    assert len(heights) == 1


def test_an_alarm_has_a_span_and_opens_what_raised_it(page, report, tmp_path):
    values = numbers(6)
    values["branch_gradient_norm"][2:5, 3] = 0
    values["branch_gradient_norm"][6:, 1] = 0
    alarms = [
        {"step": step, "alarm": "dead_branch", "block": block, "path": "branch", "text": "Gone."}
        for step, block in [(2, "stage2_block2"), (6, "stage1_block2")]
    ]
    run = write_run(tmp_path / "run", values, described(), alarms)
    page.open_file(report(run), step=3)
    assert page.find(".gf-alarms .gf-when").all_text_contents() == [
        "step 6, still on",
        "step 2 to 4",
    ]
    assert page.find("[data-tile=alarms] strong").text_content() == "1"
    page.find(".gf-alarms button").first.click()
    page.find(".gf-inspector h2:has-text('stage1_block2')").wait_for()
    assert page.step() == 6
    assert page.find("label:has-text('Statistic') select").input_value() == "branch_gradient_norm"
    page.find(".gf-inspector-alarms li:has-text('still on')").wait_for()


USUAL_LIMITS = (
    "nonfinite, vanishing (below 0.001), exploding (above 1000), dead branch (3 recorded steps)"
)


def test_an_alarm_that_nobody_watched_for_is_not_called_none(page, report, tmp_path):
    values = numbers(6)
    values["branch_gradient_norm"][2:6, 3] = 0  # three in a row at step 4
    values["branch_gradient_norm"][6:, 1] = 0
    values["input_gradient_norm"][6, 0] = 2e3 * values["output_gradient_norm"][6, -1]
    default = {"recorded_steps": 1, "stop_training": False}
    watched = [{"alarm": kind, **default} for kind in ("nonfinite", "saturated_scale")]
    watched += [{"alarm": "exploding", **default, "multiple": None}]
    watched += [{"alarm": kind, **default} for kind in ("vanishing", "dead_branch")]
    logs = {"all": watched, "some": watched[:2], "nothing": [], "old": None}
    runs = [
        write_run(tmp_path / name, values, described(), tested=tested)
        for name, tested in logs.items()
    ]
    page.open_file(report(*runs[:3]), step=6)

    def tiles():
        return page.find(".gf-panel [data-tile=alarms] strong").all_text_contents()

    assert tiles() == ["none", "none, 1 limit crossed", "not watched, 1 limit crossed"]
    said = page.find(".gf-watched").all_text_contents()
    assert said[0] == (
        "all: Watched while training: nonfinite, saturated scale, exploding (above nothing), "
        "vanishing, dead branch."
    )
    assert said[1].endswith("Not watched, by the usual limits: " + USUAL_LIMITS[11:] + ".")
    assert said[2] == f"nothing: Not watched while training. By the usual limits: {USUAL_LIMITS}."
    listed = page.find(".gf-alarms li.is-judged")
    assert listed.count() == page.find(".gf-alarms li").count() == 4
    assert listed.locator(".gf-when").all_text_contents() == ["step 6"] * 2 + ["step 4 to 5"] * 2
    assert page.find(".gf-alarm-mark.is-judged").count() == 2
    page.tab.keyboard.press("[")
    page.wait_for_step(4)
    page.find(".gf-alarms .gf-kind:has-text('dead branch')").first.click()
    page.find(".gf-inspector-alarms li:has-text('By the usual limits.')").wait_for()
    page.open_file(report(*runs), step=6, **{"from": 5, "to": 7})
    row = page.find(".gf-sheet tr[data-run=old] [data-tile=alarms]")
    assert row.text_content() == "not known, 1 limit crossed"
    # A zoom changes neither when an alarm begins nor what is counted.
    page.find(".gf-sheet tr[data-run=nothing] button").click()
    page.find(".gf-panel h3:has-text('nothing')").wait_for()
    assert page.find(".gf-alarms .gf-when").all_text_contents() == ["step 6", "step 4 to 5"]


def test_spans_of_alarms_have_the_limits_that_they_were_tested_with(page, report, tmp_path):
    values = numbers(6)
    values["input_gradient_norm"][2:5, 0] = 0.05 * values["output_gradient_norm"][2:5, -1]
    alarm = {"step": 2, "alarm": "vanishing", "block": "stage1_block1", "text": "Low."}
    tested = [{"alarm": "vanishing", "fraction": 0.1}]
    page.open_file(report(write_run(tmp_path / "a", values, described(), [alarm], tested=tested)))
    assert page.find(".gf-alarms .gf-when").all_text_contents() == ["step 2 to 4"]
    page.open_file(report(write_run(tmp_path / "b", values, described(), [alarm])))
    assert page.find(".gf-alarms .gf-when").all_text_contents() == ["step 2"]
    assert page.find(".gf-watched").text_content().startswith("The log does not say")


def test_keys_play_step_and_go_to_alarms(page, report, tmp_path):
    alarms = [
        {"step": step, "alarm": "mine", "block": "stage1_block1", "text": "Look."}
        for step in (1, 4)
    ]
    run = write_run(tmp_path / "run", numbers(6), described(), alarms)
    page.open_file(report(run))
    for key, step in [
        ("ArrowLeft", 6), ("[", 4), ("[", 1), ("]", 4), ("Home", 0), ("ArrowRight", 1), ("End", 7)
    ]:  # fmt: skip
        page.tab.keyboard.press(key)
        page.wait_for_step(step)
    page.tab.keyboard.press("Home")
    page.tab.keyboard.press("Space")
    page.find(".gf-play[aria-label=Pause]").wait_for()
    page.wait_for_step(7)
    page.tab.keyboard.press("?")
    assert "play and pause" in page.find(".gf-help").text_content()
    page.tab.keyboard.press("Escape")
    assert page.find(".gf-help").is_hidden()
    assert page.find(".gf-block[tabindex='0']").count() == 1


def test_a_question_mark_explains_a_tile_and_a_statistic_with_its_formula(page, report, one):
    page.open_file(report(one[0]))
    page.find("[data-tile=depth] .gf-question").click()
    assert "vanishing" in page.find(".gf-help").text_content()
    page.find(".gf-strip-label:has-text('gain')").click()
    assert page.find(".gf-help code").text_content() == "\u2016g_x\u2016 / \u2016g_y\u2016"
    groups = page.find("label:has-text('Statistic') optgroup")
    assert groups.evaluate_all("all => all.map(e => e.label)") == [
        "paths", "block", "agreement", "weights", "health"
    ]  # fmt: skip


def test_a_skip_that_is_cut_is_an_estimate_from_the_recorded_gains(page, report, one):
    log, values, _ = one
    page.open_file(report(log), step=3)
    page.find(".gf-block").nth(4).click()
    page.find(".gf-cut").click()
    page.find(".gf-note:has-text('without the skip of stage3_block1')").wait_for()
    lines = [
        np.array([float(y) for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)])
        for path in page.find(".gf-profile .gf-now, .gf-profile .gf-estimate").evaluate_all(
            "all => all.map(e => e.getAttribute('d'))"
        )
    ]
    estimate, now = lines
    profile = values["input_gradient_norm"][3] / values["output_gradient_norm"][3, -1]
    slope, _ = np.polyfit(np.log(profile), now, 1)
    factors = np.exp((estimate - now) / slope)
    kept = values["branch_gradient_norm"][3, 4] / values["input_gradient_norm"][3, 4]
    np.testing.assert_allclose(factors, [kept] * 5 + [1], rtol=0.05)


@pytest.fixture
def cut_runs(tmp_path):
    """Runs of the same blocks by what is cut in them, under names that say nothing of it."""
    blocks = described(trainable_weights=9)
    wide = described(trainable_weights=99)

    def with_cut(described, names, **more):
        return [{**each, **more} if each["name"] in names else each for each in described]

    names, fifth = [each["name"] for each in blocks], [blocks[4]["name"]]
    kinds = {
        "a": (blocks, STEPS),
        "b": (with_cut(wide, fifth, stops_gradient=True), STEPS),  # another width
        "c": (with_cut(blocks, names[3:5], stops_gradient=True), STEPS),  # one more
        "d": (with_cut(blocks, names, stops_gradient=True), STEPS - 3),
        "e": (with_cut(blocks, fifth, stops_gradient=True), STEPS - 2),
        "f": (with_cut(blocks, names, shortcut="zero"), STEPS),
    }
    values = {run: numbers(6, steps, seed) for seed, (run, (_, steps)) in enumerate(kinds.items())}
    logs = {run: write_run(tmp_path / run, values[run], kinds[run][0]) for run in kinds}
    return logs, values


@pytest.mark.parametrize(
    ("others", "real", "words"),
    [
        ("bcdef", "e", "thin, real: e, this skip stopped, at step 5, the nearest recorded"),
        ("bcdf", "d", "thin, real: d, all skips stopped, at step 4, the nearest recorded"),
        ("bcf", "f", "thin, real: f, without all skips, at step 7"),
        ("bc", None, "real: no run here has the same blocks with this skip stopped, or with all"),
    ],
)
def test_a_skip_that_is_cut_stands_beside_the_run_in_which_it_was(
    page, report, cut_runs, others, real, words
):
    logs, values = cut_runs
    path = report(*[logs[run] for run in "a" + others])
    page.open_file(path, runs=["a"], cut=["stage3_block1"])
    page.find(f".gf-note:has-text('{words}')").wait_for()
    drawn = page.find(".gf-real").get_attribute("d")
    label = page.find(".gf-real-name").text_content()
    if real is None:
        assert (drawn, label) == ("", "")
        return
    step = len(values[real]["skip_share"]) - 1
    profile = {
        run: values[run]["input_gradient_norm"][at] / values[run]["output_gradient_norm"][at, -1]
        for run, at in (("a", STEPS - 1), (real, step))
    }
    lines = [
        np.array([float(y) for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)])
        for path in (page.find(".gf-profile .gf-now").get_attribute("d"), drawn)
    ]
    slope, at_one = np.polyfit(np.log(profile["a"]), lines[0], 1)
    np.testing.assert_allclose(lines[1], slope * np.log(profile[real]) + at_one, atol=0.3)
    assert label.startswith(f"real: {real} ")
    assert factor(label) == pytest.approx(profile[real][0], rel=0.01)
    page.open_file(path, runs=["a", real], cut=["stage3_block1"])
    page.find(f".gf-note:has-text('real of a: the line of {real}, ')").wait_for()
    assert set(page.find(".gf-real").evaluate_all("all => all.map(e => e.getAttribute('d'))")) == {
        ""
    }


def test_many_blocks_are_a_stream_whose_stages_open(page, report, tmp_path):
    values = numbers(120, steps=3)
    run = write_run(tmp_path / "deep", values, described(120, stages=4))
    page.open_file(report(run))
    assert page.find(".gf-block.is-stream").count() == 120
    page.find(".gf-block").nth(77).hover()
    assert page.find(".gf-tip-title").text_content().startswith("stage3_block18")

    def height_of(path):
        return page.find(f".gf-block .gf-{path}").nth(77).bounding_box()["height"]

    assert height_of("skip") > 0
    page.find(".gf-stages .gf-opens:has-text('stage2')").click()
    page.find(".gf-block:not(.is-stream)").first.wait_for()
    assert page.find(".gf-block.is-stream").count() == 90
    assert page.find("[data-stage=stage2]:focus").count() == 1  # not a block, with its lens
    page.find(".gf-stages .gf-opens:has-text('stage2')").press("Enter")
    page.find(".gf-block:not(.is-stream)").first.wait_for(state="detached")


def test_a_lens_under_the_pointer_shows_single_blocks_in_the_columns_of_all_tracks(
    page, report, tmp_path
):
    runs = [
        write_run(tmp_path / name, numbers(160, 3, seed), described(160, stages=4))
        for seed, name in enumerate(["one", "two"])
    ]
    page.open_file(report(*runs))
    targets = page.find(".gf-block .gf-target")
    narrow = targets.nth(66).bounding_box()
    x = narrow["x"] + narrow["width"] / 2

    def centers(selector):
        boxes = page.find(selector).evaluate_all(
            "all => all.map(e => e.getBoundingClientRect()).map(b => b.x + b.width / 2)"
        )
        return np.array(boxes)

    def seen():
        return page.find(".gf-tip-title").text_content().split("step 2")[0]

    page.tab.mouse.move(x, narrow["y"] + 9)
    page.find(".gf-lens").wait_for()
    assert page.find(".gf-block:not(.is-stream)").count() == 14  # of both runs, in one place
    blocks = centers(".gf-block .gf-target")
    np.testing.assert_allclose(blocks[:160], blocks[160:], atol=0.2)
    assert blocks[66] == pytest.approx(x, abs=0.2)  # it stays under the pointer
    np.testing.assert_allclose(np.diff(blocks[63:70]), 44, atol=0.2)
    assert np.diff(blocks[:160]).min() > 1
    np.testing.assert_allclose(centers(".gf-strips rect[y='0']"), blocks[:160], atol=0.7)
    # Names stand once, below the last of the runs that have them.
    names = page.find(".gf-panel").last.locator(".gf-name").all_text_contents()
    assert names[63:70] == ["24", "25", "26", "27", "28", "29", "30"]
    # Inside, its blocks are read without a move of the lens; beyond, it follows.
    page.tab.mouse.move(x + 88, narrow["y"] + 9)
    page.find(".gf-tip-title:has-text('stage2_block29')").wait_for()
    assert centers(".gf-lens") == pytest.approx(x, abs=0.2)
    over = page.find(".gf-over").first.bounding_box()
    page.tab.mouse.move(x + 240, over["y"] + 30)
    page.find(".gf-lens").evaluate(
        "(e, x) => new Promise(done => (function look() {"
        "  e.getBoundingClientRect().x > x ? done() : requestAnimationFrame(look)})())", x + 20
    )  # fmt: skip
    beyond = seen()
    page.tab.mouse.move(x + 241, over["y"] + 30)
    assert seen() == beyond
    page.tab.mouse.move(5, 5)
    page.find(".gf-lens").wait_for(state="hidden")
    assert page.find(".gf-block:not(.is-stream)").count() == 0
    # The same by keyboard.
    page.find(".gf-block").nth(20).focus()
    page.find(".gf-lens").wait_for()
    page.tab.keyboard.press("ArrowRight")
    assert seen() == "stage1_block22"
    page.tab.keyboard.press("Escape")
    page.find(".gf-lens").wait_for(state="hidden")
    page.tab.wait_for_timeout(300)
    assert page.find(".gf-lens").is_hidden()  # though the block has the focus still


def test_networks_of_different_depth_are_matched_by_relative_depth(page, report, tmp_path):
    deep, shallow = numbers(12, seed=1), numbers(6)
    runs = [
        write_run(tmp_path / "shallow", shallow, described(6)),
        write_run(tmp_path / "deep", deep, described(12)),
    ]
    page.open_file(report(*runs), maps="quotients")
    words = "12 against 6 blocks, matched by depth"
    assert page.find(".gf-matched").text_content() == words
    assert page.find(".gf-time .gf-note").text_content() == words
    said = page.find(".gf-strip title").nth(3).text_content()
    # The fourth block of a stage of four stands where the second of two does.
    quotient = deep["skip_gradient_norm"][-1, 3] / shallow["skip_gradient_norm"][-1, 1]
    assert factor(said) == pytest.approx(quotient, rel=0.01)
    lefts = page.find(".gf-stages rect").evaluate_all("all => all.map(e => e.getAttribute('x'))")
    assert lefts[:3] == lefts[3:]


def test_one_quotient_has_one_colour_on_the_whole_page(page, report, tmp_path):
    runs = []
    for seed, name in enumerate(["one", "two"]):
        runs.append(write_run(tmp_path / name, numbers(6, seed=seed), described()))
    page.open_file(report(*runs))
    bar = page.find(".gf-bar figcaption")
    assert bar.all_text_contents() == ["\u00f7 one and over the median block of the step"]
    page.find("label:has-text('Values') select").select_option("recorded")
    page.find(".gf-bar figcaption:has-text('log scale')").wait_for()
    assert bar.last.text_content() == "\u00f7 one"
    page.open_file(report(*runs), color="gradient_gain")
    ticks = page.find(".gf-bar .gf-ticks").all_text_contents()
    assert ticks == ["\u2264 \u00d70.1\u00d71\u2265 \u00d710"] * 2


def test_four_runs_are_a_sheet_to_sort_and_to_choose_from(page, report, tmp_path):
    runs = []
    for seed in range(4):
        values = numbers(6, seed=seed)
        values["input_gradient_norm"][:, 0] *= [1, 30, 0.1, 5][seed]
        losses = [3.0 - seed] * STEPS
        workdir = tmp_path / f"run{seed}"
        runs.append(str(workdir))
        write_run(workdir / "gradients", values, described(), losses=losses)
        if seed:
            epochs = [{"epoch": e, "test_accuracy": 0.25 * seed / (3 - e)} for e in (1, 2)]
            text = "".join(json.dumps(epoch) + "\n" for epoch in epochs)
            (workdir / "metrics.jsonl").write_text(text)
    page.open_file(report(*runs))
    assert page.find(".gf-sheet tbody tr").count() == 4
    assert page.find(".gf-panel h3").all_text_contents() == ["run0"]
    overflow = "e => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.find(".gf").evaluate(overflow) <= 0
    page.find(".gf-sort:has-text('depth')").click()
    page.find("[aria-sort=descending]").wait_for()
    depths = [factor(text) for text in page.find("td[data-tile=depth]").all_text_contents()]
    assert depths == sorted(depths, reverse=True)
    assert depths[0] > 10 * depths[-1]
    page.find(".gf-sort:has-text('accuracy')").click()
    page.find("th:nth-last-child(2)[aria-sort=descending]").wait_for()
    accuracies = page.find("td[data-tile=accuracy]")
    assert accuracies.all_text_contents() == ["75.0%", "50.0%", "25.0%", "not known"]
    assert accuracies.first.get_attribute("title").startswith("After epoch 2")
    reason = "Not known: there is no metrics.jsonl of train.py beside the log."
    assert accuracies.last.get_attribute("title") == reason
    page.find(".gf-sheet tr[data-run=run2] button").click()
    page.find(".gf-panel h3:has-text('run2')").wait_for()
    page.find(".gf-sort:has-text('loss')").click()
    page.find("th:last-child[aria-sort=descending]").wait_for()
    assert page.find("td[data-tile=loss]").all_text_contents() == ["3", "2", "1", "0"]
    for heading, texts in [
        ("loss", ["0", "1", "2", "3"]),
        ("accuracy", ["75.0%", "50.0%", "25.0%", "not known"]),
        ("accuracy", ["25.0%", "50.0%", "75.0%", "not known"]),
    ]:
        arrow = "\u25b4" if texts[0] in ("0", "25.0%") else "\u25be"
        page.find(f".gf-sort:has-text('{heading}')").click()
        page.find(f".gf-sort:has-text('{heading} {arrow}')").wait_for()
        assert page.find(f"td[data-tile={heading}]").all_text_contents() == texts


@pytest.mark.parametrize("number_of_runs", [1, 2, 4])
def test_nothing_is_cut_off_on_a_phone(open_page, report, tmp_path, number_of_runs):
    runs = [
        write_run(
            tmp_path / f"a long name of the run {seed}", numbers(8, seed=seed), described(8, 4),
            losses=np.ones(STEPS), epochs={0: 0, 4: 1},
            alarms=[{"step": 4, "alarm": "mine", "block": "stage1_block1", "text": "Look. " * 20}],
        )
        for seed in range(number_of_runs)
    ]  # fmt: skip
    page = open_page(390, 800)
    page.open_file(report(*runs))
    overflow = "e => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.find(".gf").evaluate(overflow) <= 0
    texts = page.find(".gf-tracks svg text, .gf-slider, .gf-play, .gf-what").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect()).filter(b => b.width)"
        ".map(b => [b.left, b.right])"
    )
    assert np.min(texts) >= 0
    assert np.max(texts) <= 390
    widths = page.find(".gf-block .gf-target").evaluate_all(
        "all => all.map(e => e.getBoundingClientRect().width)"
    )
    assert np.min(widths) > 15
    assert page.find(".gf-slider").first.bounding_box()["width"] > 330
    page.find(".gf-block").first.click()
    assert page.find(".gf-inspector").bounding_box()["width"] > 350


def test_the_tracks_are_taken_along_as_svg_and_png(page, report, one, tmp_path):
    page.open_file(report(one[0]), step=3)
    for kind in ("svg", "png"):
        with page.tab.expect_download() as saved:
            page.find(f".gf-save:has-text('{kind.upper()}')").click()
        saved.value.save_as(tmp_path / f"saved.{kind}")
    root = xml.etree.ElementTree.parse(tmp_path / "saved.svg").getroot()
    texts = [text for text in root.itertext() if text.strip()]
    shown = "over time: input gradient norm over the median block of the step"
    assert f"Gradient flow \u00b7 {shown} \u00b7 one \u00b7 step 3" in texts
    assert {"branch", "skip", "Gradient by depth", "not defined"} <= set(texts)
    width, height = float(root.get("width")), float(root.get("height"))
    with Image.open(tmp_path / "saved.png") as picture:
        assert picture.size == (int(2 * width), int(2 * height))
        assert len(picture.convert("RGB").getcolors(2**24)) > 100


def write_path_lengths(log_dir):
    rows = ["step,length,sample,gradient_norm,number_of_paths"]
    for step in (0, 4):
        for length, paths in enumerate([1, 3, 3, 1]):
            rows += [f"{step},{length},{sample},{1 + step * length},{paths}" for sample in (0, 1)]
    (Path(log_dir) / "path_lengths.csv").write_text("\n".join(rows) + "\n4,3,")


# What only this view has, beside its name, the runs and the step.
VIEWS = {
    "Where the gradient goes": ("bus", {"branch", "skip", "not defined"}),
    "Gradient by depth": ("by_depth", {"\u00d71"}),
    "At this step": ("strips", {"share", "cosine", "gain", "update / weight"}),
    "Over time": ("over_time", {"\u00d71", "0", "not defined"}),
    "Path lengths": ("path_lengths", {"4"}),
    "Chosen blocks over steps": (
        "lines",
        {"0.5", "stage3_block2 \u00b7 skip branch cosine \u00b7 two"},
    ),
}


def test_every_view_is_taken_along_with_its_runs_step_and_legend(page, report, one, tmp_path):
    other = write_run(tmp_path / "two", numbers(6, seed=1), described())
    write_path_lengths(one[0])
    page.open_file(report(one[0], other), step=3, lines=["skip_branch_cosine"])
    taken = page.find(".gf-take:visible summary")
    labels = taken.evaluate_all("all => all.map(e => e.getAttribute('aria-label'))")
    assert labels == [f"Take {view} along" for view in VIEWS]
    for order, (view, (name, expected)) in enumerate(VIEWS.items()):
        for kind in ("svg", "png"):
            taken.nth(order).click()
            with page.tab.expect_download() as saved:
                page.find(f".gf-take[open] button:has-text('{kind.upper()}')").click()
            assert saved.value.suggested_filename == f"gradient_flow_{name}.{kind}"
            saved.value.save_as(tmp_path / f"{name}.{kind}")
        root = xml.etree.ElementTree.parse(tmp_path / f"{name}.svg").getroot()
        texts = {text for text in root.itertext() if text.strip()}
        shown = "input gradient norm over the median block of the step \u00b7 " * (
            name == "over_time"
        )
        assert f"{view} \u00b7 {shown}one, two \u00b7 step 3" in texts
        assert expected <= texts
        size = [int(root.get(side)) for side in ("width", "height")]
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size == (2 * size[0], 2 * size[1])
            # The page's colours on the panel's, and nothing of another view's height.
            assert picture.convert("RGB").getpixel((2, 2)) == (255, 255, 255)
            assert len(picture.convert("RGB").getcolors(2**24)) > 20
    page.tab.set_viewport_size({"width": 350, "height": 800})
    wait_until(page, lambda: page.find(".gf-bus svg").first.bounding_box()["width"] < 350)
    taken.first.click()
    with page.tab.expect_download() as saved:
        page.find(".gf-take[open] button:has-text('SVG')").click()
    saved.value.save_as(tmp_path / "narrow.svg")
    root = xml.etree.ElementTree.parse(tmp_path / "narrow.svg").getroot()
    heads = [each.text for each in root if each.get("font-size") == "14"]
    assert " ".join(heads) == "Where the gradient goes \u00b7 one, two \u00b7 step 3"
    assert len(heads) == 2  # so that it fits
    ridges = xml.etree.ElementTree.parse(tmp_path / "path_lengths.svg").getroot()
    opacities = {each.get("fill-opacity") for each in ridges.iter() if each.get("fill-opacity")}
    assert {"0.35", "0.55"} <= opacities
    # Lines are lines, no image of them.
    lines = xml.etree.ElementTree.parse(tmp_path / "lines.svg").getroot()
    assert not list(lines.iter("{http://www.w3.org/2000/svg}image"))


def test_a_pdf_is_printed_by_the_browser_on_a_page_of_the_size_of_the_view(open_page, report, one):
    page = open_page()
    page.tab.add_init_script("window.print = () => window.dispatchEvent(new Event('beforeprint'))")
    page.open_file(report(one[0]), step=3)
    title = page.tab.title()
    page.find("[aria-label='Gradient by depth'] .gf-take summary").click()
    page.find(".gf-take[open] button:has-text('PDF')").click()
    assert page.tab.title() == "gradient_flow_by_depth"  # the name that the dialog proposes
    printed = page.find(".gf-print > svg")
    size = [float(printed.get_attribute(side)) for side in ("width", "height")]
    pdf = page.tab.pdf(prefer_css_page_size=True)
    boxes = re.findall(rb"/MediaBox ?\[([\d. ]+)\]", pdf)
    assert len(boxes) == len(re.findall(rb"/Type ?/Page\b", pdf)) == 1
    np.testing.assert_allclose(
        [float(x) for x in boxes[0].split()[2:]], np.multiply(size, 0.75), atol=2
    )
    assert b"/Font" in pdf  # its texts are texts
    assert b"/Subtype /Image" not in pdf  # and its lines are lines
    page.tab.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert printed.count() == 0
    assert page.tab.title() == title
    # A frame that may not print does nothing, and the page says so.
    page.tab.evaluate("window.print = () => {}")
    page.find(".gf-save:has-text('PDF')").click()
    page.find(".gf-save:has-text('PDF')").click()  # again, before it says so
    assert printed.count() == 1
    page.find(".gf-help:has-text('Take the SVG')").wait_for()
    assert printed.count() == 0
    assert page.tab.title() == title
    # Nor does a later print of the page, by the browser's menu, bring anything back.
    page.tab.evaluate("document.title = 'renamed'; window.dispatchEvent(new Event('afterprint'))")
    assert page.tab.title() == "renamed"


def test_path_lengths_are_a_ridge_for_each_measurement(page, report, one):
    write_path_lengths(one[0])
    page.open_file(report(one[0]), step=3)
    ridges = page.find(".gf-ridge")
    titles = ridges.locator("title").all_text_contents()
    assert titles == [
        f"step {step}: half of it crosses at most {n} branches" for step, n in [(0, 1), (4, 2)]
    ]
    assert ridges.nth(0).get_attribute("class") == "gf-ridge is-now"
    ridges.nth(1).click(force=True)
    page.wait_for_step(4)
    assert ridges.nth(1).get_attribute("class") == "gf-ridge is-now"


def test_no_gradient_at_all_is_drawn_and_said_never_left_out(page, report, tmp_path):
    values = numbers(6)
    values["input_gradient_norm"][:, :2] = 0
    page.open_file(report(write_run(tmp_path / "dead", values, described())))
    assert page.find(".gf-line-name").text_content() == "\u00d70"
    assert page.find(".gf-zero").get_attribute("d").count("M") == 2
    assert page.find("[data-tile=depth] strong").text_content() == "\u00d70"
    assert page.find("[data-tile=depth].is-bad").count() == 1
    assert "No gradient reaches the first block." in page.find(".gf-sentence").text_content()
    values["output_gradient_norm"][:] = 0
    page.open_file(report(write_run(tmp_path / "still", values, described())))
    assert page.find(".gf-line-name").text_content() == "not defined"
    assert page.find("[data-tile=depth] strong").text_content() == "not defined"
    for place in ("skip", "branch", "input"):
        values[f"{place}_gradient_norm"][:] = 0
    still = write_run(tmp_path / "off", values, described())
    page.open_file(report(still))
    said = "No gradient comes back to any block at this step: it is exactly zero."
    assert page.find(".gf-sentence").text_content() == said
    page.open_file(report(still, write_run(tmp_path / "other", numbers(6), described())))
    assert page.find(".gf-sentence").first.text_content() == "no gradient in any block"
    assert page.find(".gf-line-name").first.text_content() == "off not defined"


def test_what_is_no_finite_number_is_not_drawn_as_no_gradient(page, report, tmp_path):
    values = numbers(6)
    norms = [f"{place}_gradient_norm" for place in ("skip", "branch", "input", "output")]
    for name in norms:
        values[name][5:] = np.nan
    values["branch_gradient_norm"][4] = np.inf
    values["branch_gradient_norm"][3, 2] = 0
    losses = [2.0, 1.5, np.nan, 1.0, 0.5, 0.4, np.inf, np.nan]
    page.open_file(report(write_run(tmp_path / "run", values, described(), losses=losses)), step=6)
    fills = "all => all.map(e => e.style.fill)"
    ribbons = page.find(".gf-bus .gf-ribbon")
    assert set(ribbons.evaluate_all(fills)) == {'url("#gf-hatch")'}
    dotted = page.find(".gf-bus .gf-nothing[d]:not([d=''])")
    assert dotted.count() == 0
    assert (
        "In all blocks the gradient is not a finite number"
        in page.find(".gf-sentence").text_content()
    )
    assert page.find(".gf-loss-now").text_content() == "loss not finite"
    # The loss breaks where it is none, and its numbers keep their places.
    line, lost = page.find(".gf-losses path").evaluate_all(
        "all => all.map(e => e.getAttribute('d'))"
    )
    assert (line.count("M"), lost.count("M")) == (2, 2)
    assert page.find(".gf-loss-range").get_attribute("title") == "loss 0.4 to 2"
    page.tab.keyboard.press("Home")
    for _ in range(4):
        page.tab.keyboard.press("ArrowRight")
    page.wait_for_step(4)
    branches = page.find(".gf-bus .gf-branch").evaluate_all(fills)
    assert set(branches) == {"rgb(208, 0, 111)"}
    assert page.find(".gf-legends .gf-sample:has-text('infinite')").count() == 1
    page.tab.keyboard.press("ArrowLeft")
    page.wait_for_step(3)
    assert dotted.count() == 1
    for name in norms:
        values[name][:] = np.nan
    run = write_run(tmp_path / "all", values, described(), losses=[np.nan] * STEPS)
    page.open_file(report(run))
    assert "not defined at any step" in page.find(".gf-tracks .gf-note").first.text_content()
    assert page.find(".gf-loss-range").get_attribute("title") == "loss not finite at any step"


def test_a_loss_of_many_sizes_is_drawn_by_its_logarithm(page, report, tmp_path):
    losses = 10.0 ** -np.arange(STEPS)
    page.open_file(report(write_run(tmp_path / "run", numbers(6), described(), losses=losses)))
    assert page.find(".gf-loss-range").get_attribute("title") == "loss 1e-7 to 1, log scale"
    path = page.find(".gf-losses path").first.get_attribute("d")
    heights = [float(y) for y in re.findall(r"[ML][-\d.]+ ([\d.]+)", path)][1:]
    np.testing.assert_allclose(heights, np.linspace(8, 92, STEPS), atol=0.1)


def test_one_block_at_one_step_is_drawn(page, report, tmp_path):
    values = numbers(1, steps=1)
    page.open_file(report(write_run(tmp_path / "run", values, described(1, 1), losses=[2.0])))
    assert page.find(".gf-profile .gf-now").get_attribute("d").endswith("m-8 0h16")
    assert page.find(".gf-loss-range").get_attribute("title") == "loss 2"
    assert page.find("input[aria-label=Step]").is_disabled()


def test_names_without_stages_show_what_tells_them_apart(page, report, tmp_path):
    names = [f"encoder/layer_{i}/mixer" for i in range(9, 12)]
    blocks = [{"name": name, "shortcut": "identity"} for name in names]
    page.open_file(report(write_run(tmp_path / "encoder", numbers(3), blocks)))
    assert page.find(".gf-name").all_text_contents() == [
        "9/mixer",
        "10/mixer",
        "11/mixer",
    ]


def test_a_block_inside_another_has_a_column_of_its_own(page, report, tmp_path):
    blocks = described(4, stages=1)
    blocks[0]["parent"] = blocks[1]["parent"] = blocks[2]["name"]
    blocks[0]["name"] = blocks[2]["name"] + "/attention"
    values = numbers(4)
    page.open_file(report(write_run(tmp_path / "nested", values, blocks)), step=2)
    cells = page.find(".gf-strips rect[y='0']")
    names, shares = [], []
    for index in range(4):
        cells.nth(index).hover()
        said = page.find(".gf-tooltip").text_content()
        name, share = re.match(r"(\S+)step 2skip share: (\S+)$", said).groups()
        names.append(name)
        shares.append(float(share))
    order = [blocks.index(block) for name in names for block in blocks if block["name"] == name]
    np.testing.assert_allclose(shares, values["skip_share"][2][order], rtol=0.01)
    assert order == [0, 1, 2, 3]
    assert page.find(".gf-name").all_text_contents() == ["att", "2", "3", "4"]
    other = write_run(tmp_path / "other", numbers(4, seed=1), blocks)
    page.open_file(report(str(tmp_path / "nested"), other))
    compared = page.find(".gf-strip title").all_text_contents()
    assert [text.split(":")[0] for text in compared] == names * 2


def test_the_blocks_of_a_transformer_stand_in_their_layers_under_their_kinds(
    page, report, tmp_path
):
    kinds = ("attention", "feedforward")
    names = [f"transformer_layer_{layer}/{kind}" for layer in range(12) for kind in kinds]
    blocks = [{"name": name, "shortcut": "identity", "stops_gradient": False} for name in names]
    page.open_file(report(write_run(tmp_path / "run", numbers(24), blocks)), step=3)
    texts = page.find(".gf-stages text").all_text_contents()
    # What differs of names that do not fit, after what they have in common.
    assert texts == ["transformer layer", *(str(layer) for layer in range(12))]
    written = page.find(".gf-block text").all_text_contents()
    assert [text for text in written if text in ("att", "ff")] == ["att", "ff"] * 12
