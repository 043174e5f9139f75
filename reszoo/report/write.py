"""Files of a report: a figure, a page and a table."""

import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

from reszoo.files import StoredPath, as_path
from reszoo.gradients import load, records
from reszoo.report.figure import gradient_flow_figure
from reszoo.report.page import page, run_names

FIGURE_FILE = "gradient_flow.png"


class UnreadableRunWarning(UserWarning):
    """Warning about a run without a report, since its log cannot be read."""


def write_report(workdirs: Sequence[str]) -> list[Path | StoredPath]:
    """Writes the report of runs.

    Each directory gets the figure of its run, `gradient_flow.png`. The first also gets
    `gradient_flow.html`, one self-contained page with all the runs, and `gradient_flow.csv`, with a
    row for each run, recorded step and block, and a column for each statistic. A directory whose
    log cannot be read is named in the page and in an `UnreadableRunWarning`, and gets no file.

    Args:
        workdirs: Directories of trainings, or of recorders' logs.

    Returns:
        The paths of the files.

    Raises:
        ValueError: If no directory has a readable log with a recorded step.
    """
    # Everything is read and drawn before anything is written.
    content = page(workdirs)
    figures = {workdir: png for workdir in workdirs if (png := _png(workdir))}
    for workdir, png in figures.items():
        (as_path(workdir) / FIGURE_FILE).write_bytes(png)
    directory = as_path(next(iter(figures)))
    html_path, csv_path = directory / "gradient_flow.html", directory / "gradient_flow.csv"
    html_path.write_text(content, encoding="utf-8")
    _write_csv(csv_path, list(figures))
    return [*(as_path(workdir) / FIGURE_FILE for workdir in figures), html_path, csv_path]


def _png(workdir: str) -> bytes | None:
    """Returns the figure of a run as PNG; `None`, with a warning, if its log cannot be read."""
    try:
        table = load(workdir)
        figure = gradient_flow_figure(table, f"Gradient flow in {run_names([workdir])[0]}")
    except ValueError as error:
        warnings.warn(f"{workdir} has no report. {error}", UnreadableRunWarning, stacklevel=3)
        return None
    png = io.BytesIO()
    figure.savefig(png, dpi=120)
    return png.getvalue()


def _write_csv(path: Path | StoredPath, workdirs: Sequence[str]) -> None:
    read = (record for workdir in workdirs for record in records(workdir))
    statistics = list(dict.fromkeys(name for record in read for name in record.statistics))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["run", "step", "block", *statistics])
        for run, workdir in zip(run_names(workdirs), workdirs, strict=True):
            for record in records(workdir):
                for block, row in zip(record.blocks, record.values, strict=True):
                    values = dict(zip(record.statistics, row, strict=True))
                    numbers = [values.get(name, "") for name in statistics]
                    writer.writerow([_text(run), record.step, _text(block["name"]), *numbers])


def _text(name: str) -> str:
    # Spreadsheets read a cell that begins with one of these characters as a formula.
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
