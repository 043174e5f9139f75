"""Warnings of a command, as one line each."""

import contextlib
import logging as logging_of_python
import sys
import warnings
from typing import Any

from absl import logging


def write_warnings_plainly() -> None:
    """Has warnings of a command written as one line each, also while a progress bar is drawn.

    Those of Python's `warnings` are among them.
    """
    handler: Any = logging.get_absl_handler()
    handler.setFormatter(logging_of_python.Formatter("train.py: %(message)s"))
    handler.python_handler.stream = _BesideBars()
    warnings.formatwarning = lambda message, *_: str(message)
    logging_of_python.captureWarnings(True)


class _BesideBars:
    """Standard error, as it is when something is written, with progress bars out of the way."""

    def write(self, text: str) -> None:
        bars = sys.modules.get("tqdm")
        with bars.tqdm.external_write_mode(sys.stderr) if bars else contextlib.nullcontext():
            sys.stderr.write(text)

    def close(self) -> None:
        """Does nothing; standard error stays open."""

    def flush(self) -> None:
        sys.stderr.flush()
