"""The files of a report."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from reszoo.gradients import load, records
from reszoo.gradients.storage import StoredPath, as_path
from reszoo.report.figure import gradient_flow_figure
from reszoo.report.page import page, run_names


def write_report(workdirs: Sequence[str]) -> list[Path | StoredPath]:
    """Writes the report of some runs.

    Each directory gets the picture of its run, `gradient_flow.png`. The first also gets
    `gradient_flow.html`, one self-contained page with all the runs, and `gradient_flow.csv`, with a
    row for each run, recorded step and block, and a column for each statistic.

    Args:
        workdirs: Directories of trainings, or of recorders' logs.

    Returns:
        The files written.

    Raises:
        ValueError: If a directory has no log, or the log no recorded step.
    """
    # Everything is read and drawn before anything is written.
    figures = {
        as_path(workdir) / "gradient_flow.png": gradient_flow_figure(
            load(workdir), f"Gradient flow in {run_names([workdir])[0]}"
        )
        for workdir in workdirs
    }
    content = page(workdirs)
    for path, figure in figures.items():
        picture = io.BytesIO()
        figure.savefig(picture, dpi=120)
        path.write_bytes(picture.getvalue())
    html_path = as_path(workdirs[0]) / "gradient_flow.html"
    html_path.write_text(content, encoding="utf-8")
    csv_path = as_path(workdirs[0]) / "gradient_flow.csv"
    _write_csv(csv_path, workdirs)
    return [*figures, html_path, csv_path]


def _write_csv(path, workdirs):
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


def _text(name):
    # A spreadsheet takes a text that begins so for a formula.
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
