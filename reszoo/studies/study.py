"""A study: what it varies, what it measures, how it is drawn and what it says."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

SCALES = ("smoke", "small", "paper")

Parameters = dict[str, Any]
Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Cell:
    """One point of what a study varies, measured by itself.

    Args:
        parameters: The values of the point, numbers and strings; they are columns of the table.
        cost: Estimated seconds on one core, by which the time that is left is estimated.
        alone: Whether nothing else may run beside it, because it measures time.
    """

    parameters: Parameters
    cost: float = 1.0
    alone: bool = False

    @property
    def name(self) -> str:
        """Name of the cell's files: its parameters in order.

        Example:

        >>> Cell({"depth": 20, "shortcut": "zero_pad", "norm": None}).name
        'depth=20,shortcut=zero_pad,norm=None'
        """
        return ",".join(f"{name}={value}" for name, value in self.parameters.items())


@dataclasses.dataclass(frozen=True)
class Answer:
    """Statements of the document, from the table of a study.

    Args:
        values: Texts by name, which stand in the document for `{{study.name}}`.
        table: The table that the document shows for `{{study.table}}`, with texts as cells.
    """

    values: Mapping[str, str]
    table: pd.DataFrame


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """A study.

    Args:
        name: Name on the command line, and of its files.
        question: Number of the question in `docs/answers.md` that it answers.
        title: One line on it.
        cells: Returns the cells for a scale, `"smoke"`, `"small"` or `"paper"`, in the order in
            which they are measured.
        measure: Takes the parameters of a cell and a folder that the cell may write to, and returns
            rows of numbers and strings. What it left in the folder at an earlier, killed attempt is
            still there. Runs in a process that measures many cells.
        draw: Draws the table, which has the columns of the parameters, then those of the rows.
        answer: Says what the table shows.
    """

    name: str
    question: int
    title: str
    cells: Callable[[str], list[Cell]]
    measure: Callable[[Parameters, Path], list[Row]]
    draw: Callable[[pd.DataFrame], Figure]
    answer: Callable[[pd.DataFrame], Answer]
