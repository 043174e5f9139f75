"""The files that TensorBoard reads."""

from pathlib import Path

import tensorflow as tf

from reszoo.gradients.storage import as_path


class EventFiles:
    """One open event file for each of TensorBoard's runs.

    Everything that writes to a run shares its file: of two files that grow at the same time
    TensorBoard follows one.

    Args:
        directory: Where each run gets a directory.

    Example:

    >>> import tempfile
    >>> files = EventFiles(tempfile.mkdtemp())
    >>> with files.writer("train").as_default(step=0):
    ...     tf.summary.scalar("loss", 1.0)
    <tf.Tensor: shape=(), dtype=bool, numpy=True>
    >>> files.close()
    """

    def __init__(self, directory: str | Path):
        self._directory = as_path(directory)
        self._writers = {}

    def writer(self, run: str) -> tf.summary.SummaryWriter:
        """Returns what writes to a run, opened when it is asked for first."""
        if run not in self._writers:
            path = str(self._directory / run)
            self._writers[run] = tf.summary.create_file_writer(path)
        return self._writers[run]

    def close(self) -> None:
        """Closes the files; asking for a writer opens another."""
        for writer in self._writers.values():
            writer.close()
        self._writers = {}
