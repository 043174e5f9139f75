"""The work directory of a run: what its files are called, and whether it can be written."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from reszoo.files import StoredPath, is_stored

# In the order in which a run writes them.
LOCK_FILE = "lock"  # names the process that is at work there
CONFIG_FILE = "config.json"  # the configuration, complete
DATA_FILE = "data.json"  # classes and contents of the data
PROVENANCE_FILE = "provenance.jsonl"  # command, versions and devices, a line a start
CHECKPOINTS_DIRECTORY = "checkpoints"
GRADIENTS_DIRECTORY = "gradients"  # the recorder's log
METRICS_FILE = "metrics.jsonl"  # figures, a line an epoch
LOGGERS_FILE = "loggers.json"  # what was sent to loggers
TRACEBACK_FILE = "error.log"  # where failures came from
MODEL_FILE = "model.keras"  # the trained model
CONFUSION_FILE = "confusion.csv"  # of the last test
SUMMARY_FILE = "summary.json"  # what the run came to
EXPORT_DIRECTORY = "export"


@contextlib.contextmanager
def no_directory_left(workdir: Path | StoredPath) -> Iterator[None]:
    """Deletes the directories that were made for a run that is refused or interrupted.

    Args:
        workdir: The work directory; what was there before stays.
    """
    made = []
    if not isinstance(workdir, StoredPath):
        made = [path for path in (workdir, *workdir.parents) if not os.path.exists(path)]
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # there is something in it
            for path in made:
                path.rmdir()
        raise


def make_writable(workdir: Path | StoredPath) -> None:
    """Makes a work directory if it is missing.

    Raises:
        ValueError: If it cannot be made, or written.
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
