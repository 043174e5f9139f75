"""Files of a report: a figure, a page and a table."""

import contextlib
import csv
import functools
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import matplotlib

from reszoo.files import StoredPath, as_path, reason_of, written_whole
from reszoo.gradients import load, records
from reszoo.gradients.log.reader import losses
from reszoo.report.figure import gradient_flow_figure
from reszoo.report.page import page, recording_of, run_names
from reszoo.report.tracks import tracks_figure

FIGURE_FILE = "gradient_flow.png"

# Writes the whole content of a file to the path that it is given.
WriteFile = Callable[[Path | StoredPath], None]


class UnreadableRunWarning(UserWarning):
    """Warning about a run without a report, since its log cannot be read."""


def write_report(workdirs: Sequence[str]) -> list[Path | StoredPath]:
    """Writes the report of runs.

    Each directory gets the figure of its run, `gradient_flow.png`. The first also gets
    `gradient_flow.html`, one self-contained page with all the runs, and `gradient_flow.csv`, with a
    row for each run, recorded step and block, and a column for each statistic and for the loss of
    the step, empty where it is not known. A directory whose log cannot be read is named in the
    page and in an `UnreadableRunWarning`, and gets no file. No file is written unless
    all are complete.

    Args:
        workdirs: Directories of trainings, or of recorders' logs.

    Returns:
        The paths of the files.

    Raises:
        ValueError: If no directory has a readable log with a recorded step, or one is given twice.
        OSError: If a file cannot be written.
    """
    return write_files(report_files(workdirs))


def report_files(workdirs: Sequence[str]) -> dict[Path | StoredPath, WriteFile]:
    """Returns the files of a report, read and drawn but for the table, and how to write each.

    Args:
        workdirs: Directories of trainings, or of recorders' logs.

    Raises:
        ValueError: As `write_report`.
    """
    content = page(workdirs).encode()
    figures = {workdir: png for workdir in workdirs if (png := _png(workdir))}
    directory = as_path(next(iter(figures)))
    return {
        **{as_path(workdir) / FIGURE_FILE: _bytes(png) for workdir, png in figures.items()},
        directory / "gradient_flow.html": _bytes(content),
        directory / "gradient_flow.csv": functools.partial(_write_csv, workdirs=list(figures)),
    }


def tracks_files(
    workdirs: Sequence[str], file_format: str, step: int | None = None, style: str = "paper"
) -> dict[Path | StoredPath, WriteFile]:
    """Returns a figure of one step of runs, `gradient_flow_tracks` with the format's suffix.

    It goes to the first directory. A directory whose log cannot be read is left out with an
    `UnreadableRunWarning`.

    Args:
        workdirs: Directories of trainings, or of recorders' logs.
        file_format: `"pdf"`, `"svg"` or `"png"`. Texts in a PDF are fonts, and in an SVG texts.
        step: A recorded step; `None` takes the last one of each run.
        style: `"column"` is 3.3 inches wide, `"paper"` 7 and `"screen"` 12.

    Returns:
        The file, drawn, and how to write it.

    Raises:
        ValueError: If no directory has a readable log, one is given twice, or a run has not
            recorded the step.
    """
    runs, directories, failed = {}, [], None
    for name, workdir in zip(run_names(workdirs), workdirs, strict=True):
        try:
            runs[name] = recording_of(str(workdir))
            directories.append(workdir)
        except ValueError as error:
            failed = error
            text = f"{workdir} is not in the figure. {error}"
            warnings.warn(text, UnreadableRunWarning, stacklevel=2)
    if not runs:
        raise ValueError(str(failed))
    drawn = io.BytesIO()
    # Type 42 are the fonts that journals take; dates would make every file another one.
    with matplotlib.rc_context({"pdf.fonttype": 42, "svg.fonttype": "none"}):
        metadata = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}.get(file_format)
        figure = tracks_figure(runs, step, style)
        figure.savefig(drawn, format=file_format, dpi=300, metadata=metadata)
    path = as_path(directories[0]) / f"gradient_flow_tracks.{file_format}"
    return {path: _bytes(drawn.getvalue())}


def write_files(files: Mapping[Path | StoredPath, WriteFile]) -> list[Path | StoredPath]:
    """Writes files, none unless all are complete; until then earlier ones of these names are kept.

    On an object store, those before one that fails are written.

    Args:
        files: How to write each file, to a path that is not its own.

    Returns:
        Their paths.

    Raises:
        OSError: If one of them cannot be written.
    """
    for path in files:
        if isinstance(path, Path) and path.is_dir():
            raise OSError(f"The file {path} cannot be written: a directory has its name.")
    with contextlib.ExitStack() as until_complete:
        for path, write in files.items():
            # Around its rename too, which is done when all are complete.
            until_complete.enter_context(_named_in_errors(path))
            write(until_complete.enter_context(written_whole(path)))
    return list(files)


class _NotWrittenError(OSError):
    """Error that names its file."""


@contextlib.contextmanager
def _named_in_errors(path: Path | StoredPath) -> Iterator[None]:
    try:
        yield
    except _NotWrittenError:
        raise  # of a later file
    except OSError as error:
        raise _NotWrittenError(
            f"The file {path} cannot be written: {reason_of(error)}. Make its directory "
            "writable, or copy the run to one that is."
        ) from error


def _bytes(content: bytes) -> WriteFile:
    def write(path: Path | StoredPath) -> None:
        path.write_bytes(content)

    return write


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
        writer.writerow(["run", "step", "block", "loss", *statistics])
        for run, workdir in zip(run_names(workdirs), workdirs, strict=True):
            of_steps = losses(str(workdir))
            for record in records(workdir):
                for block, row in zip(record.blocks, record.values, strict=True):
                    values = dict(zip(record.statistics, row, strict=True))
                    numbers = [values.get(name, "") for name in statistics]
                    labels = [_text(run), record.step, _text(block["name"])]
                    writer.writerow([*labels, of_steps.get(record.step, ""), *numbers])


def _text(name: str) -> str:
    # Spreadsheets read a cell that begins with one of these characters as a formula.
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r")) else name
