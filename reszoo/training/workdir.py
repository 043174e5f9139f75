"""The work directory of a run: names of its files, and a check that it can be written."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from reszoo.files import StoredPath, is_stored

# In the order in which a run writes them.
LOCK_FILE = "lock"  # names the process that uses the directory
CONFIG_FILE = "config.json"  # the configuration, complete
DATA_FILE = "data.json"  # classes and contents of the data
PROVENANCE_FILE = "provenance.jsonl"  # command, versions and devices, one line for each start
CHECKPOINTS_DIRECTORY = "checkpoints"
METRICS_FILE = "metrics.jsonl"  # figures, one line for each epoch
PATH_LENGTHS_FILE = "path_lengths.csv"  # gradients by the length of their path
LOGGERS_FILE = "loggers.json"  # the last step sent to each logger
TRACEBACK_FILE = "error.log"  # tracebacks of failures
MODEL_FILE = "model.keras"  # the trained model
CONFUSION_FILE = "confusion.csv"  # the confusion matrix of the last test
SUMMARY_FILE = "summary.json"  # the summary
EXPORT_DIRECTORY = "export"


@contextlib.contextmanager
def no_directory_left(workdir: Path | StoredPath) -> Iterator[None]:
    """Deletes the directories created in the context if it raises an error.

    Args:
        workdir: The work directory; directories that existed before are kept.
    """
    made = []
    if not isinstance(workdir, StoredPath):
        made = [path for path in (workdir, *workdir.parents) if not os.path.exists(path)]
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # the directory is not empty
            for path in made:
                path.rmdir()
        raise


def make_writable(workdir: Path | StoredPath) -> None:
    """Creates a work directory if it is missing, and checks that it can be written.

    Raises:
        ValueError: If it cannot be created or written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if is_stored(workdir) or os.access(workdir, os.W_OK | os.X_OK):
            return
        reason = "Permission denied"
    except OSError as error:
        reason = error.strerror
    raise ValueError(
        f"The workdir {workdir} cannot be written ({reason}). Give a directory that can."
    )
