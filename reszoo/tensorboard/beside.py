"""Files that `train.py` writes beside a gradient log, and the test accuracy in one of them."""

import os
from pathlib import Path
from typing import Any

from reszoo.files import StoredPath, as_path
from reszoo.gradients.log.format import GRADIENTS_DIRECTORY
from reszoo.json_files import NUMBER_OR_NULL, read_json_lines
from reszoo.training.workdir import METRICS_FILE

_LINE = {"epoch": int, "test_accuracy": NUMBER_OR_NULL}


def file_beside(log_dir: str | None, name: str) -> Path | StoredPath | None:
    """Returns a file of the training that a log belongs to, `None` if there is none.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir; `None` if no directory is known.
        name: The file's name in the workdir.
    """
    if log_dir is None:
        return None
    directory = str(log_dir).removesuffix("/.").rstrip("/")
    directories = [directory]
    if os.path.basename(directory) == GRADIENTS_DIRECTORY:
        directories.append(os.path.dirname(directory))
    paths = (as_path(each) / name for each in directories)
    return next((path for path in paths if path.exists()), None)


def last_test_accuracy(log_dir: str | None) -> dict[str, Any]:
    """Reads the test accuracy of the last epoch that a training has finished.

    Args:
        log_dir: A recorder's `log_dir`, or a training's workdir; `None` if no directory is known.

    Returns:
        The `epoch`, from 1, its `test_accuracy`, and a `reason` if they are not known: both are
        then `None`.
    """
    path = file_beside(log_dir, METRICS_FILE)
    if path is None:
        return _unknown(f"there is no {METRICS_FILE} of train.py beside the log")
    try:
        lines = read_json_lines(path, _LINE, "")
    except ValueError as error:
        return _unknown(str(error).rstrip(". "))
    if not lines:
        return _unknown("no epoch is over yet")
    last = max(lines, key=lambda line: line["epoch"])
    return {"epoch": last["epoch"], "test_accuracy": last["test_accuracy"], "reason": ""}


def _unknown(reason: str) -> dict[str, Any]:
    return {"epoch": None, "test_accuracy": None, "reason": reason}
