"""The Gradient Flow page in a real browser, over the log of real trainings.

The screenshots that the tests make are left in the directory named by RESZOO_SCREENSHOTS.
"""

import contextlib
import csv
import re
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import reszoo
from reszoo import report
from reszoo.gradients import Alarm, load
from reszoo.gradients.log import LogWriter
from reszoo.report import write_report
from tests.integration.pages import require_browser, tensorboard
from tests.raw_log import header, write_raw

BLOCKS = ["stage1_block1", "stage1_block2", "stage2_block1", "stage2_block2", "stage3_block1"]
STEPS = 12
ALARM = "Step 4, stage1_block1: nothing comes back through its skip."
SCRIPT_RUN = "<script>window.hacked=1</script>"


def small_resnet(stop_gradient):
    """Three stages with each kind of shortcut; a projection behind a stop would never train."""
    widening = reszoo.ZeroPadShortcut if stop_gradient else reszoo.ProjectionShortcut
    rows = [(4, 1, None), (4, 1, None), (8, 2, widening), (8, 1, None)]
    rows.append((16, 2, reszoo.ZeroPadShortcut))
    model = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 3, padding="same")])
    for name, (filters, strides, kind) in zip(BLOCKS, rows, strict=True):
        shortcut = kind(filters, strides=strides) if kind else None
        if stop_gradient:
            shortcut = reszoo.StopGradSkip(shortcut)
        branch = reszoo.BasicBranch(filters, strides=strides)
        model.add(reszoo.ResidualBlock(branch, shortcut, activation="relu", name=name))
    model.add(layers.GlobalAveragePooling2D())
    model.add(layers.Dense(2))
    return model


class SkipIsSilent(Alarm):
    """An alarm that is sure to go off behind a stop-gradient."""

    kind = "silent_skip"

    def look(self, recorded):
        for block, norm in zip(
            recorded.blocks, recorded.statistics["skip_gradient_norm"], strict=True
        ):
            if norm == 0 and block == BLOCKS[0]:
                yield block, "skip", "nothing comes back through its skip"


def train(log_dir, stop_gradient=False, alarms=()):
    keras.utils.set_random_seed(0)
    model = small_resnet(stop_gradient)
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images = np.random.default_rng(0).normal(size=(STEPS * 8, 8, 8, 3)).astype("float32")
    labels = (images.mean(axis=(1, 2, 3)) > 0).astype("int32")
    recorder = reszoo.GradientRecorder(str(log_dir), every_steps=1, alarms=alarms)
    model.fit(images, labels, batch_size=8, verbose=0, callbacks=[recorder])


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    require_browser()
    logs = tmp_path_factory.mktemp("logs")
    train(logs / "with-skip")
    train(logs / "stop-gradient", stop_gradient=True, alarms=[SkipIsSilent(recorded_steps=5)])
    shutil.copytree(logs / "with-skip", logs / SCRIPT_RUN)
    return logs


@pytest.fixture(scope="module")
def start(logs, tmp_path_factory):
    """Starts TensorBoard with a loader, once."""
    addresses = {}
    with contextlib.ExitStack() as stack:

        def start_once(load_fast):
            if load_fast not in addresses:
                server = tensorboard(logs, tmp_path_factory.mktemp("entry"), load_fast)
                addresses[load_fast] = stack.enter_context(server)
            return addresses[load_fast]

        yield start_once


@pytest.fixture(params=["true", "false"], ids=["fast loader", "slow loader"])
def both_addresses(request, start):
    return start(request.param)


@pytest.fixture
def address(start):
    return start("true")


def recorded(logs, run, statistic, block, step):
    table = load(str(logs / run))
    rows = table[(table.statistic == statistic) & (table.block == block) & (table.step == step)]
    return float(rows.value.iloc[0])


def test_the_tab_opens_and_the_bus_is_that_of_the_model(page, both_addresses):
    page.tab.goto(both_addresses)
    page.frame = page.tab.frame_locator("iframe")
    page.tab.get_by_text("Gradient Flow", exact=True).first.click()
    page.wait()
    names = page.find(".gf-block").evaluate_all("all => all.map(e => e.dataset.block)")
    assert names == BLOCKS
    stages = page.find(".gf-stages text").all_text_contents()
    assert stages == ["stage1", "stage2 \u00b7 strides 2", "stage3 \u00b7 strides 2"]
    assert page.step() == STEPS - 1


def test_slider_heatmap_and_comparison_change_what_is_drawn(page, both_addresses):
    page.open(both_addresses, in_tensorboard=True, runs=["with-skip"])
    last = page.shapes()
    page.find("input[aria-label=Step]").fill("2")
    page.wait_for_step(2)
    second = page.shapes()
    assert second != last
    page.find(".gf-over").click(position={"x": 620, "y": 90})
    page.find(".gf-block.is-chosen").wait_for()
    assert page.step() not in (2, STEPS - 1)
    assert page.shapes() not in (second, last)
    assert page.find(".gf-panel").count() == 1
    page.find('.gf-chip[data-run="stop-gradient"]').click()
    page.find(".gf-strip").wait_for()
    assert page.find(".gf-panel").count() == 2
    assert page.find(".gf-map").count() == 2


def test_a_zero_is_a_dotted_line_and_a_stop_a_broken_one(page, address):
    page.open(address, runs=["stop-gradient"], step=5)
    skips = page.find(".gf-block .gf-skip").evaluate_all("all => all.map(e => e.getAttribute('d'))")
    assert skips == [""] * len(BLOCKS)
    assert page.find(".gf-block .gf-stopped").count() == len(BLOCKS)
    page.open(address, runs=["with-skip"], step=5)
    assert page.find(".gf-block .gf-stopped").count() == 0
    assert page.find(".gf-block .gf-mark").count() == 2


def test_widths_and_colours_follow_the_choice(page, address):
    page.open(address, runs=["with-skip"], step=5)
    shapes, colors = page.shapes(), page.colors()
    page.find("label:has-text('Colour') select").select_option("skip_branch_cosine")
    page.frame.get_by_text("colour: skip branch cosine").wait_for()
    assert page.shapes() == shapes
    assert page.colors() != colors
    page.find("label:has-text('Width') select").select_option("gradient_rms")
    page.frame.get_by_text("width: gradient RMS").wait_for()
    assert page.shapes() != shapes


def test_a_block_has_four_numbers_at_the_pointer_and_all_beside_the_tracks(page, address, logs):
    page.open(address, runs=["with-skip"], step=5)
    page.find(".gf-block").nth(3).hover()
    rows = page.find(".gf-tooltip tr").evaluate_all(
        "all => all.map(row => [...row.children].map(cell => cell.textContent))"
    )
    assert len(rows) == 4
    norm, unit = dict(rows)["skip gradient norm"].split(" ", 1)
    assert unit == "loss per unit of x"
    expected = recorded(logs, "with-skip", "skip_gradient_norm", BLOCKS[3], 5)
    assert float(norm) == pytest.approx(expected, rel=0.05)
    assert page.find(".gf-tip-kind").text_content().startswith("identity shortcut")
    page.find(".gf-block").nth(3).click()
    page.find(".gf-inspector-rank:has-text('of 5')").first.wait_for()
    inspected = page.find(".gf-inspector tr").evaluate_all(
        "all => all.map(row => [row.dataset.statistic, ...row.innerText.split(/\\s*[\\t\\n]\\s*/)])"
    )
    table = load(str(logs / "with-skip"))
    at_step = table[table.step == 5]
    assert {name for name, *_ in inspected} == set(table.statistic)
    for name, *texts in inspected:
        values = at_step[at_step.statistic == name].set_index("block").value
        number, rank = texts[-2], texts[-1]
        if np.isfinite(values[BLOCKS[3]]):
            assert float(number.replace(",", "")) == pytest.approx(values[BLOCKS[3]], rel=0.06)
            assert rank == f"{1 + (values > values[BLOCKS[3]]).sum()} of {values.count()}"
    page.tab.keyboard.press("Escape")
    page.find(".gf-inspector").wait_for(state="hidden")


def test_playing_goes_to_the_last_step(page, address):
    page.open(address, runs=["with-skip"], step=8)
    page.find(".gf-play").click()
    page.wait_for_step(STEPS - 1)
    page.find(".gf-play[aria-label=Play]").wait_for()


def test_a_heatmap_shows_the_chosen_statistic_on_the_chosen_scale(page, address):
    page.open(address, runs=["with-skip"], values="recorded")
    scale = page.find("label:has-text('Scale') select")
    caption = ".gf-bar figcaption:has-text('input gradient norm')"
    scale.select_option("log")
    page.find(f"{caption}:has-text('log scale')").wait_for()
    logarithmic = page.cells()
    scale.select_option("linear")
    page.find(f"{caption}:not(:has-text('log scale'))").wait_for()
    assert page.cells() != logarithmic
    page.find("label:has-text('Statistic') select").select_option("weight_norm")
    page.find(".gf-bar figcaption:has-text('weight norm')").wait_for()
    assert page.cells() != logarithmic


def test_runs_are_compared_on_one_scale_with_their_ratio(page, address, logs):
    page.open(address, runs=["with-skip", "stop-gradient"], step=5, maps="both")
    ratios = page.find(".gf-strip title").all_text_contents()
    assert ratios[: len(BLOCKS)] == [f"{name}: \u00d70 of with-skip" for name in BLOCKS]
    found = re.match(r"(\S+): \u00d7(\S+) of with-skip", ratios[len(BLOCKS)])
    values = [
        recorded(logs, run, "branch_gradient_norm", found[1], 5)
        for run in ("stop-gradient", "with-skip")
    ]
    assert float(found[2]) == pytest.approx(values[0] / values[1], rel=0.05)
    titles = page.find(".gf-map h3").all_text_contents()
    assert titles == ["with-skip", "stop-gradient", "stop-gradient \u00f7 with-skip"]


def test_dragging_zooms_and_a_button_shows_all(page, address):
    page.open(address, in_tensorboard=True, runs=["with-skip"])
    box = page.find(".gf-over").bounding_box()
    page.tab.mouse.move(box["x"] + 400, box["y"] + box["height"] * 0.35)
    page.tab.mouse.down()
    page.tab.mouse.move(box["x"] + 420, box["y"] + box["height"] * 0.7, steps=4)
    page.tab.mouse.up()
    page.find("button:has-text('Show all steps')").wait_for()
    assert 2 < int(page.find("input[aria-label=Step]").get_attribute("max")) < STEPS - 1
    assert "p.gradient_flow.from=" in page.tab.url
    page.find("button:has-text('Show all steps')").click()
    page.find(f"input[aria-label=Step][max='{STEPS - 1}']").wait_for()


def test_alarms_are_marks_with_their_text(page, address):
    page.open(address, runs=["stop-gradient"])
    mark = page.find(".gf-alarm-mark")
    assert ALARM in mark.get_attribute("title")
    mark.click()
    page.wait_for_step(4)
    listed = page.find(".gf-alarms li span").all_text_contents()
    assert listed == ["step 4", "silent skip", ALARM]
    page.open(address, runs=["with-skip"])
    assert page.find(".gf-alarm-mark").count() == 0


def test_the_drawn_numbers_can_be_saved(page, address, logs, tmp_path):
    page.open(address, runs=["with-skip"], blocks=[BLOCKS[1]], lines=["skip_share"], smooth=0.9)
    with page.tab.expect_download() as saved:
        page.find("button:has-text('CSV')").click()
    saved.value.save_as(tmp_path / "lines.csv")
    with open(tmp_path / "lines.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(STEPS))
    for row in rows:
        expected = recorded(logs, "with-skip", "skip_share", BLOCKS[1], int(row["step"]))
        assert float(row["value"]) == pytest.approx(expected, rel=1e-6)
    with page.tab.expect_download() as saved:
        page.find("[aria-label=Lines] .gf-take summary").click()
        page.find("[aria-label=Lines] button:has-text('PNG')").click()
    saved.value.save_as(tmp_path / "lines.png")
    assert (tmp_path / "lines.png").read_bytes().startswith(b"\x89PNG")


def test_a_line_is_named_with_its_value_at_the_pointer(page, address, logs):
    page.open(address, runs=["with-skip"], blocks=[BLOCKS[1]], lines=["skip_share"])
    chart = page.find(".gf-chart .u-over")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    legend = page.find(".gf-legend .gf-value")
    for step in (2, 9):
        x = box["x"] + box["width"] * (step + 0.5) / STEPS
        value = recorded(logs, "with-skip", "skip_share", BLOCKS[1], step)
        for y in range(5, int(box["height"]), 25):
            page.tab.mouse.move(x, box["y"] + y)
            assert float(legend.text_content()) == pytest.approx(value, rel=0.01)
            if page.find(".gf-tooltip").is_visible():
                break
        said = page.find(".gf-tooltip").text_content()
        found = re.match(rf"{BLOCKS[1]}step {step}skip share: (\S+)$", said)
        assert float(found[1]) == pytest.approx(value, rel=0.01)
    page.tab.mouse.move(0, 0)
    assert page.find(".gf-tooltip").is_hidden()


def test_a_line_that_is_hidden_stays_hidden_whatever_is_drawn_anew(page, address):
    page.open(address, runs=["with-skip"], blocks=BLOCKS[:3])
    page.find(".gf-legend button").nth(1).click()
    page.find(".gf-block").nth(4).click()
    page.find(".gf-legend li").nth(3).wait_for()
    pressed = page.find(".gf-legend button").evaluate_all("all => all.map(e => e.ariaPressed)")
    assert pressed == ["true", "false", "true", "true"]


def test_no_two_lines_look_alike(page, address):
    statistics = ["skip_share", "update_norm", "weight_norm", "gradient_gain"]
    page.open(address, runs=["with-skip", "stop-gradient"], blocks=BLOCKS[:4], lines=statistics)
    looks = page.find(".gf-legend .gf-swatch path").evaluate_all(
        "all => all.map(e => `${e.getAttribute('stroke')} ${e.getAttribute('stroke-dasharray')}`)"
    )
    assert len(looks) == len(set(looks)) == 2 * 4 * len(statistics)


def test_a_scale_does_not_change_by_itself_with_a_click_or_a_zoom(page, address):
    ticks = "label:has-text('Scale') select"
    page.open(address, runs=["with-skip"], values="recorded", blocks=[BLOCKS[4]])
    assert page.find(ticks).input_value() == "log"
    page.find(".gf-block").first.click()
    page.find(".gf-block.is-chosen").nth(1).wait_for()
    page.find(".gf-inspector-rank:has-text('of')").first.wait_for()
    assert page.find(ticks).input_value() == "log"
    page.open(address, runs=["with-skip"], values="recorded", **{"from": 5, "to": 6})
    assert page.find(ticks).input_value() == "log"


def test_an_address_shows_the_same_view_again(page, open_page, address):
    state = {"runs": ["stop-gradient", "with-skip"], "step": 3, "map": "skip_share"}
    page.open(address, in_tensorboard=True, **state)
    page.find(".gf-block").nth(2).click()
    page.find(".gf-block.is-chosen").first.wait_for()
    other = open_page()
    other.frame = other.tab.frame_locator("iframe")
    other.tab.goto(page.tab.url)
    other.wait()
    assert other.step() == 3
    assert other.find(".gf-panel h3").all_text_contents()[1] == "with-skip"
    assert other.find(".gf-block.is-chosen").first.get_attribute("data-block") == BLOCKS[2]
    assert other.shapes() == page.shapes()
    assert other.cells() == page.cells()


def test_nonsense_in_the_address_is_passed_over(page, address):
    page.open(address, runs="[1]", step="x", map="of_tomorrow", width="%", scale="<b>", smooth="9")
    assert page.find(".gf-block").count() == len(BLOCKS)
    assert page.step() == STEPS - 1


def test_everything_is_reached_by_keyboard(page, address):
    page.open(address, runs=["with-skip"])
    page.find("input[aria-label=Step]").focus()
    page.tab.keyboard.press("ArrowLeft")
    page.wait_for_step(STEPS - 2)
    page.find(".gf-block").first.focus()
    page.tab.keyboard.press("ArrowRight")
    page.tab.keyboard.press("Enter")
    chosen = page.find(".gf-block.is-chosen")
    chosen.wait_for()
    assert chosen.get_attribute("data-block") == BLOCKS[1]
    assert "loss per unit of x" in chosen.get_attribute("aria-label")
    assert page.find(".gf-tooltip").is_visible()
    page.find(".gf-over").focus()
    page.tab.keyboard.press("ArrowUp")
    page.wait_for_step(STEPS - 3)
    for _ in BLOCKS:
        page.tab.keyboard.press("ArrowRight")
    assert page.find(".gf-tooltip").text_content().startswith(f"{BLOCKS[-1]}step {STEPS - 3}")
    page.tab.keyboard.press("Enter")
    page.find(".gf-block.is-chosen").nth(1).wait_for()


def test_names_never_become_markup(page, address):
    page.open(address, runs=[SCRIPT_RUN, "with-skip"], maps="both")
    assert page.find(".gf-panel h3").first.text_content().startswith(SCRIPT_RUN)
    page.find(".gf-block").first.hover()
    page.find(".gf-over").nth(2).hover()
    for frame in page.tab.frames:
        assert frame.evaluate("window.hacked") is None


def test_a_report_shows_the_same_without_a_server(page, open_page, address, logs):
    runs = ["with-skip", "stop-gradient"]
    *_, html_path, _ = write_report([str(logs / run) for run in runs])
    page.open_file(html_path)
    assert page.step() == STEPS - 1
    assert page.find('.gf-chip[aria-pressed="true"]').all_text_contents() == runs
    page.find(".gf-strip").wait_for()
    server = open_page()
    server.open(address, runs=runs)
    assert page.shapes() == server.shapes()
    page.find(".gf-block").first.click()
    page.find(".gf-inspector tr:has-text('update norm')").wait_for()
    assert page.requests == [html_path.as_uri()]
    page.tab.reload()
    page.find(".gf-strip").wait_for()


def test_a_notebook_shows_the_page(page, logs, tmp_path):
    shown = report.show(str(logs / "with-skip"))
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><p>A cell</p>{shown._repr_html_()}")
    page.tab.goto((tmp_path / "notebook.html").as_uri())
    page.frame = page.tab.frame_locator("iframe")
    page.wait()
    page.find(".gf-over").click(position={"x": 420, "y": 40})
    page.find(".gf-block.is-chosen").wait_for()
    assert page.step() < STEPS - 1
    assert page.tab.url == (tmp_path / "notebook.html").as_uri()
    assert page.find(".gf-save").all_text_contents() == ["SVG", "PNG", "PDF"]  # no address


@pytest.mark.parametrize(("width", "height"), [(1280, 800), (1920, 1080)])
def test_it_fits_the_screen(open_page, address, width, height):
    page = open_page(width, height)
    page.open(address, in_tensorboard=True, runs=["with-skip", "stop-gradient"])
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.find(".gf").evaluate(f"() => {overflow}") <= 0
    page.picture(f"comparison_{width}.png")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_follows_the_theme(open_page, address, theme):
    page = open_page(color_scheme=theme)
    page.open(address, in_tensorboard=True, runs=["with-skip"])
    background = page.find(".gf").evaluate("e => getComputedStyle(e).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert brightness > 200 if theme == "light" else brightness < 60
    page.picture(f"{theme}.png")


def write_log(log_dir, statistics, rows, first_step=0, blocks=({"name": "a"}, {"name": "b"})):
    """A log by hand, for what a short training does not give."""
    writer = LogWriter(str(log_dir), list(blocks), statistics, first_step)
    for step, values in enumerate(rows, first_step):
        writer.write(step, values, {})
    writer.close()


def wait_for_run(page, address, run, last_step):
    """Waits until TensorBoard has read a run up to a step."""
    for _ in range(100):
        runs = page.tab.request.get(f"{address}data/plugin/gradient_flow/runs").json()["runs"]
        if any((each["run"], each.get("last_step")) == (run, last_step) for each in runs):
            return
        page.tab.wait_for_timeout(200)
    pytest.fail(f"TensorBoard did not read step {last_step} of {run}")


def test_statistics_of_tomorrow_and_odd_values_are_shown(page, address, logs):
    rows = [[[1, np.nan], [np.inf, 0]], [[2, np.nan], [3, 0]]]
    write_log(logs / "odd", ["of_tomorrow", "never_defined"], rows)
    wait_for_run(page, address, "odd", 1)
    page.open(address, runs=["odd"])
    assert page.find(".gf-block").count() == 2
    assert page.find(".gf-block .gf-ribbon:not([d=''])").count() == 0
    page.find(".gf-over").hover(position={"x": 800, "y": 20})
    assert "of tomorrow: infinite" in page.find(".gf-tooltip").text_content()
    page.find("label:has-text('Statistic') select").select_option("never_defined")
    page.find(".gf-bar figcaption:has-text('never defined')").wait_for()
    page.find(".gf-over").hover(position={"x": 310, "y": 20})
    assert "never defined: not defined" in page.find(".gf-tooltip").text_content()


def test_a_network_without_skips_is_drawn_without_them(page, address, logs):
    kinds = ["zero", "projection", "average pool"]
    blocks = [{"name": kind, "shortcut": kind, "stops_gradient": False} for kind in kinds]
    statistics = ["skip_gradient_norm", "branch_gradient_norm", "skip_share"]
    write_log(logs / "plain", statistics, [[[0, 1, 0], [1, 1, 0.5], [1, 1, 0.5]]], blocks=blocks)
    wait_for_run(page, address, "plain", 0)
    page.open(address, runs=["plain"])
    drawn = "all => all.map(e => [...e.querySelectorAll('.gf-skip')].map(s => s.getAttribute('d')))"
    skips = page.find(".gf-block").evaluate_all(drawn)
    assert [any(skip) for skip in skips] == [False, True, True]
    marks = page.find(".gf-block .gf-mark").evaluate_all(
        "all => all.map(e => e.getAttribute('points'))"
    )
    assert len(marks) == 2
    corners = [len(mark.split()) for mark in marks]
    assert corners == [4, 4]
    sides = [
        abs(float(m.split()[0].split(",")[1]) - float(m.split()[1].split(",")[1])) for m in marks
    ]
    assert sides[0] == 0 < sides[1]


def test_the_newest_run_is_shown_first(page, address, logs):
    write_log(logs / "a run of today", ["skip_share"], [[[0.5], [0.5]]])
    wait_for_run(page, address, "a run of today", 0)
    page.open(address)
    assert page.find(".gf-panel h3").all_text_contents() == ["a run of today"]


def test_a_run_that_goes_on_is_followed(page, address, logs):
    write_log(logs / "live", ["skip_gradient_norm"], np.ones((3, 2, 1)))
    wait_for_run(page, address, "live", 2)
    page.open(address, runs=["live"])
    assert page.step() == 2
    write_log(logs / "live", ["skip_gradient_norm"], np.ones((4, 2, 1)), first_step=3)
    wait_for_run(page, address, "live", 6)
    # As when the person comes back to the window; otherwise the page looks every 20 seconds.
    look = "() => document.dispatchEvent(new Event('visibilitychange'))"
    page.find(".gf").evaluate(look)
    page.wait_for_step(6)
    page.find("input[aria-label=Step]").fill("1")
    page.wait_for_step(1)
    write_log(logs / "live", ["skip_gradient_norm"], np.ones((2, 2, 1)), first_step=7)
    wait_for_run(page, address, "live", 8)
    page.find(".gf").evaluate(look)
    page.find("input[aria-label=Step][max='8']").wait_for()
    assert page.step() == 1


REASONS = {
    SCRIPT_RUN: "The log's header cannot be read: ",
    "a damaged record": "The log of the run 'a damaged record' holds a damaged record",
    "a header of $tomorrow$": "The log is of format 2",
}


def break_runs(logs):
    """Makes runs that cannot be shown."""
    damaged = tf.make_tensor_proto(np.zeros((1, 1), np.float32))
    damaged.tensor_content = b"\0\0"
    write_raw(logs / "a damaged record" / "events.out.tfevents.1", header(), values=damaged)
    write_raw(logs / "a header of $tomorrow$" / "events.out.tfevents.1", header(version=2))
    nan = header(blocks=[{"name": "a", "trainable_weights": float("nan")}])
    write_raw(logs / SCRIPT_RUN / "events.out.tfevents.1", nan)
    return [logs / run for run in REASONS]


@pytest.mark.parametrize("load_fast", ["true", "false"], ids=["fast loader", "slow loader"])
def test_runs_that_cannot_be_shown_are_named_and_the_others_are_drawn(
    open_page, logs, tmp_path, tmp_path_factory, load_fast
):
    break_runs(tmp_path / "logs")
    shutil.copytree(logs / "with-skip", tmp_path / "logs" / "with-skip")
    page = open_page()
    with tensorboard(tmp_path / "logs", tmp_path_factory.mktemp("entry"), load_fast) as address:
        # The newest run is shown first; a damaged record is found where the run is asked for.
        page.open(address, runs=["a damaged record"])
        page.find(".gf-faults li").nth(2).wait_for()
        reasons = page.find(".gf-faults li").all_text_contents()
        page.picture(f"broken runs, {load_fast}.png")
        assert page.find(".gf-block").count() == len(BLOCKS)
        page.tab.goto("about:blank")
    for (run, reason), text in zip(REASONS.items(), reasons, strict=True):
        assert text.startswith(f"{run} {reason}")
    # What the browser itself says of the refusal that was asked for.
    page.errors = [error for error in page.errors if "422" not in error]


def test_a_report_names_the_run_that_cannot_be_read(page, logs, tmp_path):
    broken = break_runs(tmp_path)
    shutil.copytree(logs / "with-skip", tmp_path / "with-skip")
    with pytest.warns(UserWarning, match="has no report|of the records"):
        *_, path, _ = write_report([*map(str, broken), str(tmp_path / "with-skip")])
    page.open_file(path)
    reasons = page.find(".gf-faults li").all_text_contents()
    page.picture("broken runs, report.png")
    assert len(reasons) == 4
    assert "1 of the records" in "".join(reasons)
    assert "is of format 2" in "".join(reasons)
    assert page.find(".gf-block").count() == len(BLOCKS)
