"""The command writes a report, or one line of what is wrong."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reszoo.gradients.log import LogWriter
from reszoo.report import options, tracks
from reszoo.report.__main__ import main
from tests.raw_log import header, write_raw

STATISTICS = ["output_gradient_norm", "skip_gradient_norm", "branch_gradient_norm", "skip_share"]


def write_run(log_dir, block="stage1_block1", steps=(0, 10)):
    writer = LogWriter(str(log_dir), [{"name": block}, {"name": "b"}], STATISTICS, 0)
    for step in steps:
        values = np.random.default_rng(step).uniform(0.1, 0.9, (2, 4))
        values[1, 3] = np.nan
        writer.write(step, values, {"loss": 0.5} if step == 0 else {})
    writer.close()


def test_it_writes_a_picture_a_page_and_a_table(tmp_path, capsys):
    write_run(tmp_path / "gradients")
    assert main([str(tmp_path)]) == 0
    said = capsys.readouterr().out
    for name in ("gradient_flow.png", "gradient_flow.html", "gradient_flow.csv"):
        assert (tmp_path / name).stat().st_size > 100
        assert f"Wrote {tmp_path / name}\n" in said


def test_several_runs_are_in_one_page_and_table(tmp_path):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", block="=1+1")
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    assert (tmp_path / "b" / "gradient_flow.png").exists()
    assert not (tmp_path / "b" / "gradient_flow.html").exists()
    with open(tmp_path / "a" / "gradient_flow.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    keys = [(row["run"], row["step"], row["block"]) for row in rows]
    assert keys[:2] == [("a", "0", "stage1_block1"), ("a", "0", "b")]
    assert keys[-2:] == [("b", "10", "'=1+1"), ("b", "10", "b")]
    written = np.random.default_rng(10).uniform(0.1, 0.9, (2, 4)).astype(np.float32)
    assert np.float32(rows[-2]["skip_share"]) == written[0, 3]
    assert rows[-1]["skip_share"] == "nan"
    # The loss of a step stands beside each of its blocks; that of some is not known.
    assert [row["loss"] for row in rows[:4]] == ["0.5", "0.5", "", ""]


def test_runs_of_one_name_are_told_apart(tmp_path, monkeypatch):
    write_run(tmp_path / "x" / "run")
    write_run(tmp_path / "y" / "run")
    monkeypatch.chdir(tmp_path)
    assert main(["x/run", "y/run"]) == 0
    table = (tmp_path / "x" / "run" / "gradient_flow.csv").read_text()
    assert "\nx/run,0," in table
    assert "\ny/run,0," in table


@pytest.mark.parametrize(
    ("break_run", "reason"),
    [
        (lambda path: None, "no gradient log"),
        (lambda path: path.mkdir(), "no gradient log"),
        (lambda path: write_run(path, steps=()), "no recorded step yet"),
        (lambda path: write_raw(path / "events.out.tfevents.1", b"{"), "header cannot be read"),
        (lambda path: write_raw(path / "events.out.tfevents.1", header(version=2)), "of format 2"),
        (lambda path: (path / "events.out.tfevents.1").mkdir(parents=True), "cannot be read"),
    ],
    ids=["missing", "empty", "no step", "header", "tomorrow", "directory"],
)
def test_a_run_that_cannot_be_read_is_named_and_the_others_are_reported(
    tmp_path, capsys, break_run, reason
):
    write_run(tmp_path / "good")
    break_run(tmp_path / "bad")
    assert main([str(tmp_path / "bad"), str(tmp_path / "good")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"reszoo.report: {tmp_path / 'bad'} has no report. ")
    assert reason in line
    names = {path.name for path in (tmp_path / "good").glob("gradient_flow*")}
    assert names == {"gradient_flow.png", "gradient_flow.html", "gradient_flow.csv"}
    assert not list((tmp_path / "bad").glob("gradient_flow*"))


def test_what_is_left_out_of_a_run_is_said_once(tmp_path, capsys):
    write_run(tmp_path)
    (tmp_path / "alarms.jsonl").write_text("[]\n")
    write_raw(tmp_path / "events.out.tfevents.9", header(), b"", values=np.zeros((2, 2)), step=20)
    assert main([str(tmp_path)]) == 0
    first, second = sorted(capsys.readouterr().err.splitlines())
    assert "events.out.tfevents.9: 2 of the records" in first
    assert "The alarms of the run are left out. Line 1 of" in second


@pytest.mark.parametrize(("steps", "sentence"), [(None, "no gradient log"), ((), "no recorded")])
def test_a_run_without_numbers_is_one_line(tmp_path, capsys, steps, sentence):
    if steps is not None:
        write_run(tmp_path, steps=steps)
    assert main([str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert sentence in error


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--format=jpg"], "--format must be pdf, svg or png, but got 'jpg'."),
        (["--format=PDF"], "--format must be pdf, svg or png, but got 'PDF'."),
        (["--format"], "--format must have a value: pdf, svg or png."),
        (["--format="], "--format must be pdf, svg or png, but got ''."),
        (["--format=pdf", "--style=wide"], "--style must be column, paper or screen, but got"),
        (["--format=pdf", "--step=-1"], "--step must be a whole number of at least 0, but got"),
        (["--format=pdf", "--step=1.5"], "--step must be a whole number of at least 0, but got"),
        (["--step=1"], "--step and --style are of the figure that --format asks for"),
        (["--format=pdf", "--format=svg"], "--format must be given once, but got 'pdf' and 'svg'."),
        (["--format=pdf", "--step=1", "--step=2"], "--step must be given once, but got '1' and"),
        (["--format=pdf", "--style=paper", "--style=column"], "--style must be given once, but"),
        ([""], "a directory must have a name, but got ''."),
        (["--fromat=pdf"], "there is no option --fromat. See --help."),
    ],
)
def test_a_wrong_option_is_one_sentence_before_anything_is_read(
    arguments, sentence, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, "reszoo.report.write", None)  # importing it is an error
    with pytest.raises(SystemExit) as ended:
        main(["no such run", *arguments])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"reszoo.report: {sentence}")


def files_in(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_nothing_is_written_if_one_of_the_runs_has_not_recorded_the_step(tmp_path, capsys):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b", steps=(0, 5))
    runs = [str(tmp_path / "a"), str(tmp_path / "b")]
    before = files_in(tmp_path)
    assert main([*runs, "--format=pdf", "--step=10"]) == 1
    assert "Step 10 of the run 'b'" in capsys.readouterr().err
    assert files_in(tmp_path) == before
    assert main([*runs, "--format=pdf", "--step=0"]) == 0
    assert len(files_in(tmp_path)) == len(before) + 5


@pytest.mark.parametrize("again", ["run", "run/", "./run", "run/../run"])
def test_a_run_that_is_given_twice_is_refused(tmp_path, capsys, monkeypatch, again):
    write_run(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    before = files_in(tmp_path)
    assert main(["run", again, "--format=svg"]) == 1
    reason = "'run' is given more than once" if again == "run" else f"{again!r} are one directory"
    assert capsys.readouterr().err.endswith(f"{reason}.\n")
    assert files_in(tmp_path) == before


@pytest.mark.parametrize("again", ["run/gradients", "run/gradients/", "link", "link/gradients"])
def test_a_training_is_not_reported_beside_its_own_log(tmp_path, capsys, monkeypatch, again):
    write_run(tmp_path / "run" / "gradients")
    write_run(tmp_path / "other")
    (tmp_path / "link").symlink_to("run")
    monkeypatch.chdir(tmp_path)
    before = files_in(tmp_path)
    assert main([str(tmp_path / "run"), "other", again]) == 1
    found = "are one directory" if again == "link" else "have one log"
    assert capsys.readouterr().err.endswith(f"{str(tmp_path / 'run')!r} and {again!r} {found}.\n")
    assert files_in(tmp_path) == before


def test_a_log_in_a_training_directory_and_one_below_it_are_two(tmp_path):
    write_run(tmp_path / "run")
    write_run(tmp_path / "run" / "gradients")
    assert main([str(tmp_path / "run"), str(tmp_path / "run" / "gradients")]) == 0


@pytest.mark.parametrize("name", ["gradient_flow.png", "gradient_flow.csv"])
def test_nothing_is_written_if_one_file_cannot_be(tmp_path, capsys, name):
    write_run(tmp_path / "a")
    (tmp_path / "a" / "gradient_flow.html").write_text("the report before")
    (tmp_path / "a" / name).mkdir()
    before = files_in(tmp_path)
    assert main([str(tmp_path / "a"), "--format=pdf"]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert f"{name} cannot be written: a directory has its name." in error
    assert files_in(tmp_path) == before


def test_nothing_is_written_where_a_directory_cannot_be_written(tmp_path, capsys, monkeypatch):
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    before = files_in(tmp_path)
    write_bytes = Path.write_bytes

    def refusing(path, content):
        if path.parent.name == "b":  # as root, permissions do not count
            raise PermissionError(13, "Permission denied", str(path))
        return write_bytes(path, content)

    monkeypatch.setattr(Path, "write_bytes", refusing)
    assert main([str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path / 'b' / 'gradient_flow.png'} cannot be written: Permission denied." in error
    assert files_in(tmp_path) == before


def test_a_file_that_cannot_get_its_name_is_named(tmp_path, capsys, monkeypatch):
    write_run(tmp_path / "a")
    before = files_in(tmp_path)

    def refusing(partial, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(os, "replace", refusing)
    assert main([str(tmp_path / "a")]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert re.search(r"gradient_flow\.\w+ cannot be written: No space left on device\.", error)
    assert files_in(tmp_path) == before


def test_a_log_that_has_the_name_of_a_file_of_the_report_is_kept(tmp_path):
    write_run(tmp_path)
    (log,) = tmp_path.iterdir()
    content = log.read_bytes()
    (tmp_path / "gradient_flow.csv").symlink_to(log)
    (tmp_path / "gradient_flow.html").hardlink_to(log)
    assert main([str(tmp_path)]) == 0
    assert log.read_bytes() == content
    assert (tmp_path / "gradient_flow.csv").read_text().startswith("run,step")


def test_a_run_must_be_given(capsys):
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().err == "reszoo.report: give the directory of at least one run.\n"


def test_the_styles_are_those_of_the_figure():
    assert tuple(sorted(tracks.STYLES, key=lambda s: tracks.STYLES[s].width)) == options.STYLES


def test_it_is_a_command():
    command = [sys.executable, "-m", "reszoo.report", "--help"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "python -m reszoo.report [-h] [--format {pdf,svg,png}] [--step STEP]" in said
    assert "workdir [workdir ...]" in said
