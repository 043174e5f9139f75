"""Results of measured cells: one file each, written whole, and the table made of them."""

import dataclasses
from pathlib import Path

import pandas as pd

from reszoo.files import write_whole
from reszoo.json_files import NUMBER_OR_NULL, read_json, to_json
from reszoo.studies.study import Cell, Row, Study

_VALUE = (str, bool, *NUMBER_OR_NULL)
_SHAPE = {"parameters": {str: _VALUE}, "rows": [{str: _VALUE}], "seconds": float}
_CURE = "Remove it, and the cell is measured again."


@dataclasses.dataclass(frozen=True)
class CellFiles:
    """Files of one study's cells in a work directory.

    Args:
        directory: Directory of the study.
    """

    directory: Path

    def folder(self, cell: Cell) -> Path:
        """Folder that the cell itself may write to."""
        return self.directory / "cells" / cell.name

    def write(self, cell: Cell, rows: list[Row], seconds: float) -> None:
        """Writes the result of a cell.

        Args:
            cell: The cell.
            rows: Its rows.
            seconds: Time that it took.
        """
        self._result(cell).parent.mkdir(parents=True, exist_ok=True)
        content = {"parameters": cell.parameters, "rows": rows, "seconds": seconds}
        write_whole(self._result(cell), to_json(content, indent=1))

    def read(self, cell: Cell) -> list[Row] | None:
        """Returns the rows of a cell, or `None` if it was not measured.

        Args:
            cell: The cell.

        Raises:
            ValueError: If its file is broken.
        """
        if not self._result(cell).exists():
            return None
        return read_json(self._result(cell), _SHAPE, _CURE)["rows"]

    def table(self, study: Study, scale: str) -> pd.DataFrame:
        """Returns the table of all cells of a study that were measured.

        Args:
            study: The study.
            scale: Its scale.
        """
        rows = []
        for cell in study.cells(scale):
            rows += [cell.parameters | row for row in self.read(cell) or []]
        return pd.DataFrame(rows)

    def _result(self, cell: Cell) -> Path:
        return self.directory / "cells" / f"{cell.name}.json"
