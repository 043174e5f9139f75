"""Path lengths of a run as the page reads them: how many branches the gradient crosses."""

import csv
import math
from collections.abc import Iterable, Mapping

from reszoo.tensorboard.beside import file_beside
from reszoo.training.workdir import PATH_LENGTHS_FILE

_COLUMNS = ("step", "length", "gradient_norm", "number_of_paths")


def path_lengths_of(log_dir: str | None) -> dict[str, list]:
    """Reads what a training measured of the gradient by the length of its path.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir; `None` if no directory is known.

    Returns:
        The `steps` of the measurements, and for each of them the `shares` of the lengths 0, 1, ...,
        which sum to 1; empty if nothing was measured. A row that was cut short is left out.
    """
    path = file_beside(log_dir, PATH_LENGTHS_FILE)
    if path is None:
        return {"steps": [], "shares": []}
    return shares_of(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def shares_of(rows: Iterable[Mapping[str, str]]) -> dict[str, list]:
    """Returns the share of all paths of a length in the sum over all lengths, by step.

    Args:
        rows: Rows of the file, with a `step`, `length`, `gradient_norm` and `number_of_paths`.

    Example:

    >>> row = {"step": "0", "gradient_norm": "1.0", "number_of_paths": "1"}
    >>> shares_of([{**row, "length": "0"}, {**row, "length": "1", "number_of_paths": "3"}])
    {'steps': [0], 'shares': [[0.25, 0.75]]}
    """
    sums: dict[int, dict[int, list[float]]] = {}
    for row in rows:
        try:
            step, length, norm, paths = (float(row[name]) for name in _COLUMNS)
        except (KeyError, TypeError, ValueError):
            continue
        sums.setdefault(int(step), {}).setdefault(int(length), []).append(norm * paths)
    steps = sorted(sums)
    return {"steps": steps, "shares": [_shares(sums[step]) for step in steps]}


def _shares(of_step: Mapping[int, list[float]]) -> list[float]:
    means = [
        math.fsum(of_step.get(length, ())) / max(1, len(of_step.get(length, ())))
        for length in range(max(of_step) + 1)
    ]
    # The largest first, since a sum over 2**n paths may be beyond a float's range.
    largest = max(means)
    if not 0 < largest < math.inf:
        return [0.0] * len(means)
    scaled = [mean / largest for mean in means]
    return [mean / math.fsum(scaled) for mean in scaled]
