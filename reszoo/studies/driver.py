"""Measuring of cells: in several processes, resumed after a kill, with the time left on show."""

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import pandas as pd
from tqdm import tqdm

from reszoo.studies.catalog import STUDIES
from reszoo.studies.cell_files import CellFiles
from reszoo.studies.results import write_results
from reszoo.studies.study import Cell, Study
from reszoo.training.terminal import flush

# Processes are replaced after so many cells each, for what TensorFlow keeps of each network. Not by
# the pool's max_tasks_per_child, which hangs where all processes end at once (gh-115634 of Python).
_CELLS_OF_A_PROCESS = 25
_BAR = "{desc}{percentage:3.0f}% |{bar}| {elapsed} so far, {remaining} left"


@dataclasses.dataclass(frozen=True)
class Failure:
    """A cell that could not be measured.

    Args:
        study: Name of the study.
        cell: Name of the cell.
        reason: The error, as one line.
    """

    study: str
    cell: str
    reason: str


@dataclasses.dataclass(frozen=True)
class Driver:
    """Runs studies in a work directory.

    Args:
        workdir: The work directory; each scale has a directory of its own in it.
        scale: The size of the studies, one of `SCALES`.
        processes: Number of cells that are measured at a time.
    """

    workdir: Path
    scale: str
    processes: int

    def run(self, studies: Sequence[Study]) -> list[Failure]:
        """Measures all cells that were not measured yet, and writes tables and figures.

        Args:
            studies: The studies.

        Returns:
            The cells that failed. All others are measured all the same.
        """
        tasks = [(study, cell) for study in studies for cell in study.cells(self.scale)]
        left = [(study, cell) for study, cell in tasks if self.files(study).read(cell) is None]
        if len(left) < len(tasks):
            print(f"{len(tasks) - len(left)} of {len(tasks)} cells were measured before.")
        failures = self._measure(left)
        write_results(self.workdir / self.scale, [(study, self._table(study)) for study in studies])
        return failures

    def _table(self, study: Study) -> pd.DataFrame:
        return self.files(study).table(study, self.scale)

    def directory(self, study: Study) -> Path:
        """Directory of a study."""
        return self.workdir / self.scale / study.name

    def files(self, study: Study) -> CellFiles:
        """Files of a study's cells."""
        return CellFiles(self.directory(study))

    def _measure(self, tasks: list[tuple[Study, Cell]]) -> list[Failure]:
        if not tasks:
            return []
        failures = []
        costs = {(study.name, cell.name): cell.cost for study, cell in tasks}
        with self._bar(sum(costs.values())) as bar:
            for alone in (False, True):
                some = [task for task in tasks if task[1].alone == alone]
                processes = 1 if alone else self.processes
                for study, cell, reason in self._results(some, processes):
                    if reason:
                        failures.append(Failure(study, cell, reason))
                        bar.write(f"{study}, {cell}: {reason}")
                    bar.set_description(f"{self.scale}, {study}", refresh=False)
                    bar.update(costs[study, cell])
        return failures

    @contextlib.contextmanager
    def _bar(self, total: float) -> Iterator[tqdm]:
        """Shows progress, and writes the messages of TensorFlow's start to a file instead."""
        directory = self.workdir / self.scale
        directory.mkdir(parents=True, exist_ok=True)
        with (
            _messages_to(directory / "messages.txt") as screen,
            tqdm(total=total, bar_format=_BAR, desc=self.scale, file=screen, smoothing=0) as bar,
        ):
            yield bar

    def _results(
        self, tasks: list[tuple[Study, Cell]], processes: int
    ) -> Iterator[tuple[str, str, str | None]]:
        """Measures in processes of their own, and yields study, cell and what went wrong."""
        most = processes * _CELLS_OF_A_PROCESS
        for first in range(0, len(tasks), most):
            some = tasks[first : first + most]
            with _threads_for(processes), _pool(min(processes, len(some))) as pool:
                pending = [
                    pool.submit(measure_cell, study.name, cell, self.directory(study))
                    for study, cell in some
                ]
                for done in concurrent.futures.as_completed(pending):
                    yield done.result()


def measure_cell(study_name: str, cell: Cell, directory: Path) -> tuple[str, str, str | None]:
    """Measures a cell and writes its result.

    Args:
        study_name: Name of the study.
        cell: The cell.
        directory: Directory of the study.

    Returns:
        The names of study and cell, and the error as one line, `None` if there was none.
    """
    study, files = STUDIES[study_name], CellFiles(directory)
    start = time.perf_counter()
    try:
        rows = study.measure(dict(cell.parameters), files.folder(cell))
        files.write(cell, rows, time.perf_counter() - start)
    except Exception as error:  # whatever it is: the other cells are measured all the same
        reason = " ".join(str(error).split()) or "no message"
        return study_name, cell.name, f"{type(error).__name__}: {reason}"
    finally:
        _forget_networks()
    return study_name, cell.name, None


def _forget_networks() -> None:
    import keras

    keras.utils.clear_session()


def _pool(processes: int) -> concurrent.futures.ProcessPoolExecutor:
    # Spawned: a fork of a process in which TensorFlow runs would hang.
    return concurrent.futures.ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_end_with_the_driver,
    )


def _end_with_the_driver() -> None:
    """Has a process end when the driver was killed, so that it does not work on beside the next."""
    driver: Any = multiprocessing.parent_process()

    def wait() -> None:
        multiprocessing.connection.wait([driver.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@contextlib.contextmanager
def _messages_to(path: Path) -> Iterator[TextIO]:
    """Sends what libraries write to the standard error to a file; yields the screen."""
    flush(sys.stderr)
    with os.fdopen(os.dup(2), "w") as screen, open(path, "a") as file:
        os.dup2(file.fileno(), 2)
        try:
            yield screen
        finally:
            os.dup2(screen.fileno(), 2)


@contextlib.contextmanager
def _threads_for(processes: int) -> Iterator[None]:
    """Has each process take its share of the cores."""
    threads = max(1, available_cores() // processes)
    wanted = {
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": "1",
    }
    added = {name: value for name, value in wanted.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def available_cores() -> int:
    """Number of cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        return os.cpu_count() or 1
