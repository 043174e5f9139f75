"""Tables of a gradient log."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from reszoo.gradients.log.format import HISTOGRAMS_TAG, VARIABLES_TAG
from reszoo.gradients.log.packed_layers import layers_in
from reszoo.gradients.log.reader import losses, records, tensors

if TYPE_CHECKING:
    import pandas as pd


def load(log_dir: str) -> "pd.DataFrame":
    """Reads a log as a table with one number per row.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.

    Returns:
        A `pandas.DataFrame` with the columns `step` (int64), `block` and `statistic` (categorical,
        in the order of the network and of the table of statistics) and `value` (float32; float64
        if float32 cannot hold one of them), sorted by step. A value that is not defined, such as a
        cosine with a zero gradient, is NaN.

    Raises:
        ValueError: If there is no log.

    Example:

    >>> import tempfile
    >>> from reszoo.gradients.log import LogWriter
    >>> log_dir = tempfile.mkdtemp()
    >>> writer = LogWriter(log_dir, [{"name": "block1"}], ["skip_share"], first_step=0)
    >>> writer.write(0, [[0.5]], scalars={})
    >>> writer.close()
    >>> load(log_dir)
       step   block   statistic  value
    0     0  block1  skip_share    0.5
    """
    return _long_table(
        [
            (
                record.step,
                [block["name"] for block in record.blocks],
                record.statistics,
                record.values,
            )
            for record in records(log_dir)
        ],
        ("block", "statistic", "value"),
    )


def load_variables(log_dir: str) -> "pd.DataFrame":
    """Reads the statistics of each trainable variable, recorded with the set `"variables"`.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.

    Returns:
        A `pandas.DataFrame` with the columns `step`, `variable`, `statistic` (those of the set
        `"weights"`) and `value`, sorted by step; empty if none were recorded.

    Raises:
        ValueError: If there is no log.
    """
    return _long_table(
        [
            (event.step, header["rows"], header["columns"], values)
            for event, header, values in tensors(log_dir, VARIABLES_TAG)
        ],
        ("variable", "statistic", "value"),
    )


def load_loss(log_dir: str) -> "pd.DataFrame":
    """Reads the loss of each recorded step.

    It is the one that the recorded gradients are of: before the update, over the whole batch, with
    the model's own losses (regularization) and without a loss scale.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.

    Returns:
        A `pandas.DataFrame` with the columns `step` and `loss`, sorted by step. A step whose loss
        is not known is left out, as are all steps in logs of earlier versions.

    Raises:
        ValueError: If there is no log.

    Example:

    >>> import tempfile
    >>> from reszoo.gradients.log import LogWriter
    >>> log_dir = tempfile.mkdtemp()
    >>> writer = LogWriter(log_dir, [{"name": "block1"}], ["skip_share"], first_step=0)
    >>> writer.write(0, [[0.5]], scalars={"loss": 2.5})
    >>> writer.close()
    >>> load_loss(log_dir)
       step  loss
    0     0   2.5
    """
    import pandas as pd  # Here, since importing the layers must stay quick.

    found = sorted(losses(log_dir, warn=True).items())
    steps, values = zip(*found, strict=True) if found else ((), ())
    return pd.DataFrame({"step": np.array(steps, np.int64), "loss": np.array(values, np.float64)})


def load_layers(log_dir: str) -> "pd.DataFrame":
    """Reads the layers along the skip and the branch of each block.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.

    Returns:
        A `pandas.DataFrame` with a row for each layer, in the order in which a block applies them,
        and the columns `block`, `path` (`"skip"` or `"branch"`), `layer`, its name, or an empty
        string for operations of a layer's own code; `kind`, its class; `shape` of its output, a
        tuple without the axis of examples, with `None` for an unknown size, or `None` if the shape
        is not known or has no such axis; `parameters` (Int64), the number of its weights, missing
        if it is not known; `activation`, the name of its activation function, or an empty string.
        Of a block that was recorded several times, as it was at the end. A path without layers,
        such as an identity, has no row; neither has a block whose layers are not known, nor one in
        logs of earlier versions.

    Raises:
        ValueError: If there is no log.

    Example:

    >>> import tempfile
    >>> from reszoo.gradients.log import LogWriter
    >>> log_dir = tempfile.mkdtemp()
    >>> dense = {"name": "dense", "kind": "Dense", "shape": [4], "parameters": 20}
    >>> layers = {"skip": [], "branch": [{**dense, "activation": "relu"}], "activation": None}
    >>> LogWriter(log_dir, [{"name": "a", "layers": layers}], ["x"], 0).write(0, [[0.5]], {})
    >>> load_layers(log_dir)
      block    path  layer   kind shape  parameters activation
    0     a  branch  dense  Dense  (4,)          20       relu
    """
    import pandas as pd  # Here, since importing the layers must stay quick.

    blocks = {block["name"]: block for record in records(log_dir) for block in record.blocks}
    rows = [
        {
            "block": name,
            "path": path,
            "layer": layer["name"] or "",
            "kind": layer["kind"],
            "shape": None if layer["shape"] is None else tuple(layer["shape"]),
            "parameters": layer["parameters"],
            "activation": layer["activation"] or "",
        }
        for name, block in blocks.items()
        for path, layer in layers_in(block)
    ]
    columns = ["block", "path", "layer", "kind", "shape", "parameters", "activation"]
    return pd.DataFrame(rows, columns=columns).astype({"parameters": "Int64"})


def load_histograms(log_dir: str) -> "pd.DataFrame":
    """Reads the histograms of the magnitudes of gradients, recorded with the set `"histograms"`.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir with `gradients` in it.

    Returns:
        A `pandas.DataFrame` with the columns `step`, `block`, `path` (`"skip"` or `"branch"`),
        `magnitude` and `count`: the number of values in `[magnitude, 2 * magnitude)`; those of
        magnitude 0 are exactly zero. The lowest and the highest bin also count the values beyond
        them. Empty if none were recorded.

    Raises:
        ValueError: If there is no log.
    """
    table = _long_table(
        [
            (event.step, header["rows"], header["columns"], values)
            for event, header, values in tensors(log_dir, HISTOGRAMS_TAG)
        ],
        ("block", "column", "count"),
    )
    columns = list(table.column.cat.categories)
    codes = table.column.cat.codes.to_numpy()
    table.insert(2, "path", np.array([name.split(" ")[0] for name in columns], object)[codes])
    edges = np.array([float(name.split(" ")[1]) for name in columns])
    table.insert(3, "magnitude", edges[codes])
    return table.drop(columns="column")


def _long_table(
    recorded: Sequence[tuple[int, Sequence[str], Sequence[str], np.ndarray]],
    names: tuple[str, str, str],
) -> "pd.DataFrame":
    """Returns one number per row, given `(step, row names, column names, values)` of each step."""
    import pandas as pd  # Here, since importing the layers must stay quick.

    row_name, column_name, value_name = names
    rows = _positions(name for _, of_step, _, _ in recorded for name in of_step)
    columns = _positions(name for _, _, of_step, _ in recorded for name in of_step)
    steps, row_codes, column_codes, numbers = [], [], [], []
    for step, of_rows, of_columns, values in recorded:
        steps.append(np.full(values.size, step))
        codes = np.array([rows[name] for name in of_rows], np.int32)
        row_codes.append(np.repeat(codes, len(of_columns)))
        codes = np.array([columns[name] for name in of_columns], np.int32)
        column_codes.append(np.tile(codes, len(of_rows)))
        numbers.append(values.ravel())
    categorical = pd.Categorical.from_codes
    return pd.DataFrame(
        {
            "step": _joined(steps, np.int64),
            row_name: categorical(_joined(row_codes, np.int32), list(rows)),
            column_name: categorical(_joined(column_codes, np.int32), list(columns)),
            value_name: _joined(numbers, np.result_type(np.float32, *numbers)),
        }
    )


def _positions(names: Iterable[str]) -> dict[str, int]:
    return {name: position for position, name in enumerate(dict.fromkeys(names))}


def _joined(arrays: Iterable[np.ndarray], dtype: Any) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *arrays], dtype=dtype)
