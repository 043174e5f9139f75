"""Rows of a table."""

from typing import Any

import pandas as pd


def rows_where(table: pd.DataFrame, **values: Any) -> Any:
    """Returns the rows in which columns have these values, as a table.

    Args:
        table: The table.
        **values: The value of each column.

    Example:

    >>> table = pd.DataFrame({"kind": ["a", "b", "b"], "seed": [0, 0, 1]})
    >>> rows_where(table, kind="b", seed=1).to_dict("records")
    [{'kind': 'b', 'seed': 1}]
    """
    for column, value in values.items():
        table = table.loc[table[column] == value]
    return table
