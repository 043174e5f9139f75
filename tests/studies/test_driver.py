"""Studies are measured cell by cell, and what was measured stays measured."""

import concurrent.futures
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from reszoo.studies import driver, results
from reszoo.studies.__main__ import main
from reszoo.studies.catalog import STUDIES
from reszoo.studies.cell_files import CellFiles
from reszoo.studies.driver import Driver, measure_cell
from reszoo.studies.study import Answer, Cell, Study


@pytest.fixture
def study(monkeypatch):
    """A study of squares, which counts how often each is measured, and fails at 3."""
    measured = []

    def measure(parameters, folder):
        measured.append(parameters["number"])
        if parameters["number"] == 3:
            raise ArithmeticError("three is\nbroken")
        return [{"power": power, "value": parameters["number"] ** power} for power in (1, 2)]

    made = Study(
        name="squares",
        question=0,
        title="squares",
        cells=lambda scale: [Cell({"number": number}) for number in range(1, 5)],
        measure=measure,
        draw=STUDIES["derivatives"].draw,
        answer=lambda table: Answer({}, table),
    )
    monkeypatch.setitem(STUDIES, "squares", made)
    made.measure.__dict__["measured"] = measured
    return made


@pytest.fixture
def in_this_process(monkeypatch):
    """Measures without other processes, which would not know the study of these tests."""

    def measured(self, tasks, processes):
        for study, cell in tasks:
            yield measure_cell(study.name, cell, self.directory(study))

    monkeypatch.setattr(Driver, "_results", measured)
    monkeypatch.setattr(results, "save_figure", lambda study, table, base: None)


@pytest.mark.usefixtures("in_this_process")
def test_a_cell_that_fails_is_named_and_the_others_are_measured_once(study, tmp_path):
    run = Driver(tmp_path, "small", 1)
    [failure] = run.run([study])
    assert (failure.study, failure.cell) == ("squares", "number=3")
    assert failure.reason == "ArithmeticError: three is broken"
    table = pd.read_csv(tmp_path / "small/squares.csv")
    assert table.to_numpy().tolist() == [
        [1, 1, 1], [1, 2, 1], [2, 1, 2], [2, 2, 4], [4, 1, 4], [4, 2, 16]
    ]  # fmt: skip
    assert (
        "## squares: squares\n\n| number | power | value |"
        in (tmp_path / "small/summary.md").read_text()
    )
    run.run([study])
    assert study.measure.measured == [1, 2, 3, 4, 3]


def test_processes_are_replaced_after_some_cells(study, tmp_path, monkeypatch):
    pools = []

    def pool(processes):
        pools.append(processes)
        return concurrent.futures.ThreadPoolExecutor(processes)

    monkeypatch.setattr(driver, "_pool", pool)
    monkeypatch.setattr(driver, "_CELLS_OF_A_PROCESS", 1)
    tasks = [(study, cell) for cell in study.cells("small")[:3]]
    results = Driver(tmp_path, "small", 2)._results(tasks, 2)
    assert [cell for _, cell, _ in results][-1] == "number=3"
    assert sorted(study.measure.measured) == [1, 2, 3]
    assert pools == [2, 1]


@pytest.mark.usefixtures("in_this_process")
def test_a_broken_result_is_named(study, tmp_path):
    run = Driver(tmp_path, "small", 1)
    run.run([study])
    path = tmp_path / "small/squares/cells/number=2.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"number=2.json .* Remove it, and the cell is measured"):
        run.run([study])


def test_numbers_that_are_not_finite_are_kept(tmp_path):
    files, cell = CellFiles(tmp_path), Cell({"seed": 0, "norm": None})
    files.write(cell, [{"accuracy": float("nan"), "diverged": True}], 1.0)
    assert files.read(cell) == [{"accuracy": None, "diverged": True}]
    json.loads((tmp_path / "cells/seed=0,norm=None.json").read_text())


def test_a_study_from_the_command_line_and_again(tmp_path):
    command = [sys.executable, "-m", "reszoo.studies", "derivatives", f"--workdir={tmp_path}"]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    for said in ("smoke, derivatives: 100%", "1 of 1 cells were measured before."):
        done = subprocess.run(
            [*command, "--scale=smoke"], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        assert said in done.stdout + done.stderr
        assert f"The tables and figures are in {tmp_path / 'smoke'}." in done.stdout
    assert {path.name for path in (tmp_path / "smoke").glob("derivatives.*")} == {
        "derivatives.csv",
        "derivatives.png",
        "derivatives.svg",
    }


def test_a_killed_study_leaves_no_process_behind(tmp_path):
    command = [sys.executable, "-m", "reszoo.studies", "derivatives", f"--workdir={tmp_path}"]
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    study = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    results = tmp_path / "small/derivatives/cells"
    wait_until(lambda: list(results.glob("*.json")))
    study.kill()
    study.wait()
    # The messages of its processes go to a file, which is open as long as one of them runs.
    wait_until(lambda: not users_of(tmp_path / "small/messages.txt"))
    measured = {path.name: path.stat().st_mtime_ns for path in results.glob("*.json")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert f"{len(measured)} of 20 cells were measured before." in done.stdout, done.stderr
    assert len(pd.read_csv(tmp_path / "small/derivatives.csv")) == 60
    for name, written_at in measured.items():
        assert (results / name).stat().st_mtime_ns == written_at


def wait_until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError("It did not happen within five minutes.")


def users_of(path):
    """Processes that have a file open."""
    users = []
    for link in Path("/proc").glob("[0-9]*/fd/2"):
        with contextlib.suppress(OSError):
            if link.readlink() == path:
                users.append(link.parts[2])
    return users


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["derivative", "--workdir=w"], "There is no study 'derivative'. Did you mean derivatives"),
        (["derivatives"], "--workdir must be given, the directory of the results."),
        (["derivatives", "all"], "'all' must stand alone, but got derivatives all."),
        (["derivatives", "--workdir=w", "--processes=0"], "--processes must be at least 1"),
    ],
)
def test_a_wrong_command_is_explained(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 1
    assert f"reszoo.studies: {message}" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_list_says_what_each_study_costs(capsys):
    assert main(["list"]) == 0
    [line] = [line for line in capsys.readouterr().out.splitlines() if "derivatives" in line]
    assert "(question 6, 20 cells, 20 s on one core)" in line
