"""Event files, which TensorBoard reads."""

import contextlib
import os
from collections.abc import Iterator

import tensorflow as tf

from reszoo.files import as_path, os_errors


class EventFiles:
    """One open event file for each of TensorBoard's runs.

    All writers of a run share its file, since TensorBoard follows only one of two files that grow
    at the same time.

    Args:
        directory: Directory in which each run gets a directory.

    Example:

    >>> import tempfile
    >>> files = EventFiles(tempfile.mkdtemp())
    >>> with files.writing("train", step=0):
    ...     _ = tf.summary.scalar("loss", 1.0)
    >>> files.close()
    """

    def __init__(self, directory: str | os.PathLike):
        self._directory = as_path(directory)
        self._writers = {}

    def make_directories(self, *runs: str) -> None:
        """Creates the directories of runs, so that a failure is known early.

        Args:
            *runs: Names of the runs, such as `"train"`.

        Raises:
            OSError: If a directory cannot be created.
        """
        for run in runs:
            (self._directory / run).mkdir(parents=True, exist_ok=True)

    @contextlib.contextmanager
    def writing(self, run: str, step: int) -> Iterator[None]:
        """Directs `tf.summary` to a run, whose file is opened at its first use.

        Args:
            run: Name of the run, such as `"train"`.
            step: Number of the optimizer's steps done.

        Raises:
            OSError: If the file cannot be written.
        """
        path = str(self._directory / run)
        with os_errors(path):
            if run not in self._writers:
                self._writers[run] = tf.summary.create_file_writer(path)
            writer = self._writers[run]
            with writer.as_default(step):
                yield
            writer.flush()

    def close(self) -> None:
        """Closes the files; later writing opens new ones."""
        writers, self._writers = self._writers, {}
        with os_errors(self._directory):
            for writer in writers.values():
                writer.close()
