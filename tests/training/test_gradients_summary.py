"""The gradients in the summary are those of the log, worked out by hand."""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest

from reszoo.gradients.log import LogWriter, records
from reszoo.training import gradients_summary
from reszoo.training.gradients_summary import gradients_in_words, summarize_gradients
from tests.raw_log import header, write_raw

NAMES = ["skip_share", "input_gradient_norm", "output_gradient_norm"]


def write(log_dir, steps, names=NAMES):
    """Writes steps: of each the shares, what leaves the first block and what reaches the last."""
    blocks = [{"name": name} for name in ("first", "second", "third")]
    writer = LogWriter(str(log_dir), blocks, names, first_step=0)
    for step, (shares, leaves, reaches) in enumerate(steps):
        of_step = np.array([shares, [leaves, 7, 7], [7, 7, reaches]]).T
        writer.write(10 * step, of_step[:, : len(names)], {})
    writer.close()
    return str(log_dir)


def note_alarms(log_dir, *found):
    rows = [
        {"step": s, "alarm": kind, "block": "first", "path": None, "text": ""} for s, kind in found
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (log_dir / "alarms.jsonl").write_text(lines)


def test_medians_are_over_blocks_and_then_over_the_last_recorded_steps(tmp_path):
    early = [((1, 1, 1), 1e6, 1)] * 5
    last = [((0.1, 0.2 + 0.01 * n, 0.9), 2.0 + n, 1.0) for n in range(10)]
    found = summarize_gradients(write(tmp_path, early + last))
    assert (found["first_step"], found["last_step"]) == (50, 140)
    assert found["skip_share"] == pytest.approx(0.245)
    assert found["last_to_first"] == pytest.approx(6.5)
    assert found["alarms"] == {}
    words = "skip 24% in the median block, x6.5 from the last block to the first, no alarms"
    assert gradients_in_words(found) == words


def test_what_is_not_defined_is_left_out_of_medians_and_said_where_nothing_is_left(tmp_path):
    some = [((math.nan, 0.5, math.nan), 1.0, 0.0), ((math.nan,) * 3, 3.0, 1.0)]
    found = summarize_gradients(write(tmp_path / "some", some))
    assert (found["skip_share"], found["last_to_first"]) == (0.5, 3.0)
    found = summarize_gradients(write(tmp_path / "none", [((math.nan,) * 3, 1.0, 0.0)]))
    assert gradients_in_words(found).startswith(
        "share of the skip not defined in the median block, not defined from the last block"
    )


@pytest.mark.parametrize(
    ("ratio", "text"), [(3.34, "x3.3"), (1e-7, "x1e-07"), (1234.5, "x1,234"), (1e9, "x1e+09")]
)
def test_ratios_have_two_digits_or_all_of_them(tmp_path, ratio, text):
    found = summarize_gradients(write(tmp_path, [((1, 1, 1), ratio, 1.0)]))
    assert f", {text} from the last block" in gradients_in_words(found)


def test_alarms_are_counted_by_kind_with_the_first_step(tmp_path):
    log_dir = write(tmp_path, [((1, 1, 1), 1.0, 1.0)])
    note_alarms(tmp_path, (20, "dead_branch"))
    assert gradients_in_words(summarize_gradients(log_dir)).endswith(
        ", 1 alarm from step 20 on: dead branch"
    )
    note_alarms(tmp_path, (20, "dead_branch"), (10, "vanishing"), (30, "dead_branch"))
    found = summarize_gradients(log_dir)
    assert found["alarms"] == {"dead_branch": 2, "vanishing": 1}
    assert gradients_in_words(found).endswith(
        ", 3 alarms from step 10 on: dead branch 2, vanishing"
    )


def damaged(tmp_path):
    write_raw(tmp_path / "events.out.tfevents.1", b"{")


def of_tomorrow(tmp_path):
    write_raw(tmp_path / "events.out.tfevents.1", header(version=2))


def without_paths(tmp_path):
    write(tmp_path, [((1, 1, 1), 1.0, 1.0)], names=NAMES[:1])


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda tmp_path: None, "There is no gradient log in"),
        (damaged, "The log's header cannot be read"),
        (of_tomorrow, "The log is of format 2"),
        (lambda tmp_path: (tmp_path / "events.out.tfevents.1").mkdir(), "cannot be read: "),
        (without_paths, "No step was recorded with the set 'paths'"),
    ],
)
def test_a_log_that_gives_no_summary_has_the_reason_in_its_place(tmp_path, make, reason):
    make(tmp_path)
    words = gradients_in_words(summarize_gradients(str(tmp_path)))
    assert words.startswith("not summarized. ")
    assert reason in words


def cut(log_dir, records):
    """Cuts the file of a log short, in the record after so many."""
    (path,) = Path(log_dir).iterdir()
    content, end = path.read_bytes(), 0
    for _ in range(records):
        end += int.from_bytes(content[end : end + 8], "little") + 16
    path.write_bytes(content[: end + 20])


@pytest.mark.parametrize("records", [0, 1, 2])
def test_a_log_that_is_damaged_before_its_first_step_is_said_to_be(tmp_path, records):
    write(tmp_path, [((1, 1, 1), 1.0, 1.0)])
    cut(tmp_path, records)
    words = gradients_in_words(summarize_gradients(str(tmp_path)))
    assert words.startswith("not summarized. ")
    assert f"{tmp_path}/events" in words
    assert " is damaged " in words


def test_a_log_that_is_damaged_later_is_summarized_up_to_there(tmp_path):
    log_dir = write(tmp_path, [((1, 1, 1), 1.0, 1.0), ((0, 0, 0), 1.0, 1.0)])
    cut(log_dir, 3)
    summary = summarize_gradients(log_dir)
    words = gradients_in_words(summary)
    assert words.startswith(f"up to step {summary['first_step']}: skip 100% in the median block")
    assert words.endswith(f". {summary['left_out']}")
    assert "is damaged after 3 events; what follows is left out." in words


def resumed(tmp_path):
    """Writes a log of two files, and returns them in their order."""
    for number in (1, 2):
        write(tmp_path / "new", [((1, 1, 1), 1.0, 1.0)] * 2)
        (path,) = (tmp_path / "new").iterdir()
        content = path.read_bytes()
        path.unlink()
        (tmp_path / f"events.out.tfevents.{number}").write_bytes(content)
    (tmp_path / "new").rmdir()
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize("keep", [0, 20])
@pytest.mark.parametrize("index", [0, 1])
def test_a_log_whose_later_file_is_whole_is_not_said_to_end_early(tmp_path, keep, index):
    path = resumed(tmp_path)[index]
    path.write_bytes(path.read_bytes()[: keep or -20])
    summary = summarize_gradients(str(tmp_path))
    words = gradients_in_words(summary)
    assert words.startswith(f"up to step {summary['last_step']}: ") == summary["ends_early"]
    assert summary["ends_early"] == (index == 1)
    assert words.endswith(f"no alarms. {summary['left_out']}")
    assert f"{path} is damaged" in words


def test_a_damaged_file_does_not_hide_that_the_others_lack_the_statistics(tmp_path):
    without_paths(tmp_path)
    (tmp_path / "events.out.tfevents.0").write_bytes(b"cut")
    words = gradients_in_words(summarize_gradients(str(tmp_path)))
    assert "tfevents.0 is damaged" in words
    assert words.endswith(
        "No step that can be read was recorded with the set 'paths', which they are taken from."
    )


@pytest.mark.parametrize("category", [DeprecationWarning, UserWarning, RuntimeWarning])
def test_a_warning_of_a_library_is_no_damage_and_is_passed_on(tmp_path, category, monkeypatch):
    def warned(log_dir):
        warnings.warn("from elsewhere", category, stacklevel=1)
        return records(log_dir)

    log_dir = write(tmp_path, [((1, 1, 1), 1.0, 1.0)])
    monkeypatch.setattr(gradients_summary, "records", warned)
    with pytest.warns(category, match="from elsewhere") as told:
        assert "left_out" not in summarize_gradients(log_dir)
    assert [each.filename for each in told] == [__file__]


def test_alarms_that_cannot_be_read_are_not_said_to_be_none(tmp_path):
    log_dir = write(tmp_path, [((1, 1, 1), 1.0, 1.0)])
    (tmp_path / "alarms.jsonl").write_text('{"step": 1}\n{}\n')
    words = gradients_in_words(summarize_gradients(log_dir))
    assert "skip 100% in the median block" in words
    assert "alarms not known. Line 1 of" in words
