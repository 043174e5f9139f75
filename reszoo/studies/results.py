"""Results of studies: a table (CSV) and a figure (PNG and SVG) each, and a summary of all."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import pandas as pd

from reszoo.files import write_whole, written_whole
from reszoo.studies.drawing import STYLE
from reszoo.studies.study import Study

SUMMARY_FILE = "summary.md"

# Seven digits are all that a float32 has.
_FLOATS = "%.7g"


def write_results(directory: Path, tables: Sequence[tuple[Study, pd.DataFrame]]) -> None:
    """Writes the tables, the figures and the summary of studies.

    Args:
        directory: The directory of their scale.
        tables: The studies, with what they have measured; an empty table is left out.
    """
    summary = []
    for study, table in tables:
        if table.empty:
            continue
        path = directory / f"{study.name}.csv"
        write_whole(path, table.to_csv(index=False, float_format=_FLOATS))
        rounded = pd.read_csv(path)  # as the document reads it
        save_figure(study, rounded, directory / study.name)
        answer = study.answer(rounded)
        summary.append(f"## {study.name}: {study.title}\n\n{as_markdown(answer.table)}\n")
    if summary:
        write_whole(directory / SUMMARY_FILE, "\n".join(summary))


def save_figure(study: Study, table: pd.DataFrame, base: Path) -> None:
    """Draws a study and saves the figure as PNG and SVG.

    Args:
        study: The study.
        table: Its table.
        base: Path of the files, without the suffix.
    """
    with matplotlib.rc_context(STYLE):
        figure = study.draw(table)
        for suffix in (".png", ".svg"):
            metadata = {"Date": None} if suffix == ".svg" else {}
            with written_whole(base.with_suffix(suffix)) as partial:
                figure.savefig(
                    str(partial), format=suffix[1:], dpi=200, bbox_inches="tight", metadata=metadata
                )


def as_markdown(table: pd.DataFrame) -> str:
    """Returns a table as Markdown.

    Args:
        table: The table; its index is left out.

    Example:

    >>> print(as_markdown(pd.DataFrame({"depth": [20], "accuracy": ["97.5%"]})))
    | depth | accuracy |
    | --- | --- |
    | 20 | 97.5% |
    """
    rows = [list(table.columns), ["---"] * table.shape[1], *table.astype(str).to_numpy().tolist()]
    # A vertical line would end the cell.
    escaped = [[cell.replace("|", "\u2016") for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in escaped)
