"""The files of a report."""

import csv
import io
import warnings
from collections.abc import Sequence
from pathlib import Path

from reszoo.files import StoredPath, as_path
from reszoo.gradients import load, records
from reszoo.report.figure import gradient_flow_figure
from reszoo.report.page import page, run_names

PICTURE_FILE = "gradient_flow.png"


class UnreadableRunWarning(UserWarning):
    """A run without a report, for its log cannot be read."""


def write_report(workdirs: Sequence[str]) -> list[Path | StoredPath]:
    """Writes the report of some runs.

    Each directory gets the picture of its run, `gradient_flow.png`. The first also gets
    `gradient_flow.html`, one self-contained page with all the runs, and `gradient_flow.csv`, with a
    row for each run, recorded step and block, and a column for each statistic. A directory whose
    log cannot be read is named in the page and in an `UnreadableRunWarning`, and gets no file.

    Args:
        workdirs: Directories of trainings, or of recorders' logs.

    Returns:
        The files written.

    Raises:
        ValueError: If no directory has a log that can be read and has a recorded step.
    """
    # Everything is read and drawn before anything is written.
    content = page(workdirs)
    pictures = {workdir: picture for workdir in workdirs if (picture := _picture(workdir))}
    for workdir, picture in pictures.items():
        (as_path(workdir) / PICTURE_FILE).write_bytes(picture)
    directory = as_path(next(iter(pictures)))
    html_path, csv_path = directory / "gradient_flow.html", directory / "gradient_flow.csv"
    html_path.write_text(content, encoding="utf-8")
    _write_csv(csv_path, list(pictures))
    return [*(as_path(workdir) / PICTURE_FILE for workdir in pictures), html_path, csv_path]


def _picture(workdir):
    """Returns the picture of a run, `None` if its log cannot be read."""
    try:
        table = load(workdir)
        figure = gradient_flow_figure(table, f"Gradient flow in {run_names([workdir])[0]}")
    except ValueError as error:
        warnings.warn(f"{workdir} has no report. {error}", UnreadableRunWarning, stacklevel=3)
        return None
    picture = io.BytesIO()
    figure.savefig(picture, dpi=120)
    return picture.getvalue()


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
