"""A report's page holds the numbers of the log, and no name in it becomes markup."""

import base64
import gzip
import hashlib
import html.parser
import json
import re

import numpy as np
import pytest

from reszoo import report
from reszoo.gradients.log import HISTOGRAMS_TAG, LogWriter
from tests.raw_log import header, write_raw
from tests.unpacking import unpack

STATISTICS = ["skip_gradient_norm", "skip_share"]
NASTY = "</script><script>alert(1)</script><!--"


def write_run(log_dir, steps=(0, 10), blocks=("a", "b"), statistics=STATISTICS, first_step=0):
    described = [{"name": name} for name in blocks]
    writer = LogWriter(str(log_dir), described, statistics, first_step)
    for step in steps:
        writer.write(step, np.full((len(blocks), len(statistics)), step), {})
    writer.close()


class Elements(html.parser.HTMLParser):
    """The elements of a page and their text, as a parser of its own sees them."""

    def __init__(self, content):
        super().__init__()
        self.seen = []
        self.feed(content)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs), ""))

    def handle_endtag(self, tag):
        self.seen.append((f"/{tag}", {}, ""))

    def handle_data(self, data):
        if self.seen:
            tag, attributes, text = self.seen[-1]
            self.seen[-1] = (tag, attributes, text + data)

    def all(self, tag):
        return [(attributes, text) for name, attributes, text in self.seen if name == tag]


def held(content):
    """The runs that a page holds."""
    (_, text), _ = Elements(content).all("script")
    return json.loads(text)["runs"]


def unpacked(run):
    return unpack(gzip.decompress(base64.b64decode(run["packed"])))


def test_a_page_holds_the_numbers_of_its_runs(tmp_path):
    write_run(tmp_path / "one", steps=(0, 10))
    write_run(tmp_path / "two", steps=(0, 5, 7))
    shown = report.show([str(tmp_path / "one"), str(tmp_path / "two")])
    one, two = held(shown.content)
    assert (one["run"], two["run"]) == ("one", "two")
    assert [block["name"] for block in one["blocks"]] == ["a", "b"]
    assert one["statistics"][1]["unit"] == "none, 0 to 1"
    header, steps, _, values = unpacked(two)
    assert list(steps) == [0, 5, 7]
    assert header["recorded_steps"] == 3
    np.testing.assert_array_equal(values[1, 0], [0, 5, 7])


def test_a_long_run_is_thinned_out(tmp_path, monkeypatch):
    monkeypatch.setattr("reszoo.report.page.MOST_STEPS", 10)
    write_run(tmp_path, steps=range(100))
    (run,) = held(report.show(str(tmp_path)).content)
    header, steps, _, _ = unpacked(run)
    assert header["recorded_steps"] == 100
    assert len(steps) <= 10
    assert (steps[0], steps[-1]) == (0, 99)


def test_what_was_recorded_under_another_header_stands_under_it(tmp_path):
    write_run(tmp_path, steps=(0, 1), blocks=("x", "b"))
    write_run(tmp_path, steps=(2, 3), first_step=2, statistics=["update_norm", *STATISTICS])
    (run,) = held(report.show(str(tmp_path)).content)
    header, steps, _, values = unpacked(run)
    assert header["left_out"] == 0
    assert header["blocks"] == ["x", "a", "b"]
    assert header["statistics"] == ["update_norm", *STATISTICS]
    assert list(steps) == [0, 1, 2, 3]
    nan = np.nan
    np.testing.assert_array_equal(values[0], [[nan] * 4, [nan, nan, 2, 3], [nan, nan, 2, 3]])
    np.testing.assert_array_equal(values[1], [[0, 1, nan, nan], [nan, nan, 2, 3], [0, 1, 2, 3]])


def test_the_layers_are_held_as_at_the_end_and_each_path_once(tmp_path):
    for step, kind in enumerate(["Dense", "Conv2D"]):
        layer = {"name": "x", "kind": kind, "shape": None, "parameters": 3, "activation": None}
        layers = {"skip": [], "branch": [layer], "activation": None}
        blocks = [{"name": name, "layers": layers} for name in "ab"]
        writer = LogWriter(str(tmp_path), blocks, STATISTICS, step)
        writer.write(step, np.ones((2, 2)), {})
        writer.close()
    (run,) = held(report.show(str(tmp_path)).content)
    assert run["paths"] == [[], [["", "Conv2D", None, 3, None]]]
    assert [block["layers"]["branch"] for block in run["blocks"]] == [1, 1]


def write_histograms(log_dir, steps):
    writer = LogWriter(str(log_dir), [{"name": "a"}], ["x"], 0)
    for step in range(steps):
        writer.write(step, [[0.0]], {})
        header = {"rows": ["a"], "columns": ["skip 0.0", "branch 0.5"]}
        writer.write_table(step, HISTOGRAMS_TAG, np.array([[step, 2 * step]]), header)
    writer.close()


@pytest.mark.parametrize(
    ("number", "every"), [(1, 1), (9, 1), (10, 1), (11, 2), (19, 2), (20, 4), (21, 4), (37, 4)]
)
def test_the_histograms_are_no_more_than_the_most(tmp_path, monkeypatch, number, every):
    monkeypatch.setattr("reszoo.report.page.MOST_HISTOGRAMS", 10)
    write_histograms(tmp_path, number)
    (run,) = held(report.show(str(tmp_path)).content)
    _, steps, _, _ = unpack(gzip.decompress(base64.b64decode(run["histograms"])))
    assert len(steps) <= 10
    assert list(steps) == sorted({*range(0, number, every), number - 1})


def test_the_histograms_of_evenly_spaced_steps_are_held(tmp_path, monkeypatch):
    monkeypatch.setattr("reszoo.report.page.MOST_HISTOGRAMS", 10)
    write_run(tmp_path / "none")
    write_histograms(tmp_path / "some", 100)
    none, some = held(report.show([str(tmp_path / "none"), str(tmp_path / "some")]).content)
    assert none["histograms"] is None
    packed = gzip.decompress(base64.b64decode(some["histograms"]))
    header, steps, _, values = unpack(packed)
    assert list(steps) == [*range(0, 97, 16), 99]
    assert header["recorded_steps"] == 100
    np.testing.assert_array_equal(values[:, 0], [steps, 2 * steps])


def test_the_loss_is_held_without_the_steps_that_a_restart_undid(tmp_path):
    for first, steps in ((0, (0, 1, 2)), (2, (2, 3))):
        writer = LogWriter(str(tmp_path), [{"name": "a"}, {"name": "b"}], STATISTICS, first)
        for step in steps:
            writer.write(step, np.zeros((2, 2)), {"loss": 10.0 * first + step})
        writer.close()
    (run,) = held(report.show(str(tmp_path)).content)
    assert run["loss"] == {"steps": [0, 1, 2, 3], "values": [0, 1, 22, 23]}
    write_run(tmp_path / "without")
    (run,) = held(report.show(str(tmp_path / "without")).content)
    assert run["loss"] == {"steps": [], "values": []}


def test_alarms_are_held(tmp_path):
    write_run(tmp_path / "gradients")
    alarm = {"step": 10, "alarm": "vanishing", "block": "a", "path": "skip", "text": "Gone."}
    late, early = {**alarm, "wall_time": 5.0}, {**alarm, "step": 0}
    cut_short = '{"step": 1'
    text = "\n".join([json.dumps(late), json.dumps(early), cut_short])
    (tmp_path / "gradients" / "alarms.jsonl").write_text(text)
    (run,) = held(report.show(str(tmp_path)).content)
    assert [found["step"] for found in run["alarms"]] == [0, 10]
    assert run["alarms"][1] == {**alarm, "wall_time": 5.0}
    assert run["tested_alarms"] is None


def test_the_alarms_of_a_log_in_another_directory_are_not_those_of_the_run(tmp_path):
    for directory in (tmp_path, tmp_path / "gradients"):
        write_run(directory)
        alarm = {"step": 10, "alarm": "vanishing", "block": "a", "path": "skip", "wall_time": 5.0}
        (directory / "alarms.jsonl").write_text(json.dumps({**alarm, "text": directory.name}))
    (run,) = held(report.show(str(tmp_path)).content)
    assert [found["text"] for found in run["alarms"]] == [tmp_path.name]


def test_the_alarms_that_were_tested_are_held(tmp_path):
    tested = [{"alarm": "vanishing", "fraction": 0.1}]
    for step in (0, 1):
        writer = LogWriter(str(tmp_path), [{"name": "a"}], STATISTICS, step, tested)
        writer.write(step, np.zeros((1, len(STATISTICS))), {})
        writer.close()
    (run,) = held(report.show(str(tmp_path)).content)
    assert run["tested_alarms"] == tested


def test_a_run_that_cannot_be_read_stands_among_the_others_with_its_reason(tmp_path):
    described = [{"name": "a", "of_tomorrow": float("nan")}]
    write_raw(tmp_path / "good" / "events.out.tfevents.1", header(blocks=described))
    write_raw(tmp_path / "bad" / "events.out.tfevents.1", header(statistics=float("nan")))
    content = report.show([str(tmp_path / "bad"), str(tmp_path / "good")]).content
    bad, good = held(content)
    assert bad["run"] == "bad"
    assert "'statistics' must be a list" in bad["error"]
    assert good["blocks"] == [{"name": "a", "of_tomorrow": None}]
    assert good["notes"] == []
    (_, text), _ = Elements(content).all("script")
    assert "NaN" not in text


def test_what_is_left_out_of_a_run_is_said_in_the_page(tmp_path):
    write_run(tmp_path)
    (tmp_path / "alarms.jsonl").write_text('{"step": "1"}\n')
    with pytest.warns(
        UserWarning, match=r"The alarms of the run are left out\. Line 1 of"
    ) as warned:
        (run,) = held(report.show(str(tmp_path)).content)
    assert run["notes"] == [str(warned[0].message)]
    assert run["alarms"] == []


def test_names_never_become_markup(tmp_path):
    write_run(tmp_path / "<script>alert(1)<" / "script>" / NASTY.replace("/", ""), blocks=(NASTY,))
    (folder,) = (tmp_path / "<script>alert(1)<" / "script>").iterdir()
    content = report.show(str(folder)).content
    elements = Elements(content)
    assert len(elements.all("script")) == 2
    assert held(content)[0]["blocks"][0]["name"] == NASTY
    ((_, title),) = elements.all("title")
    assert folder.name in title


def test_a_page_may_run_its_own_script_and_load_nothing(tmp_path):
    write_run(tmp_path)
    elements = Elements(report.show(str(tmp_path)).content)
    policy = next(a["content"] for a, _ in elements.all("meta") if "http-equiv" in a)
    _, (_, script) = elements.all("script")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not [a for _, a, _ in elements.seen if "src" in a or "href" in a]


def test_a_notebook_shows_the_page_in_a_frame_of_its_own(tmp_path):
    write_run(tmp_path)
    shown = report.show(str(tmp_path))
    ((attributes, _),) = Elements(shown._repr_html_()).all("iframe")
    assert attributes["srcdoc"] == shown.content
    # Its downloads, and the print dialog for a PDF.
    assert attributes["sandbox"] == "allow-scripts allow-downloads allow-modals"


def test_a_log_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no gradient log"):
        report.show(str(tmp_path))
    write_run(tmp_path, steps=())
    with pytest.raises(ValueError, match=re.escape("has no recorded step yet")):
        report.show(str(tmp_path))
