"""Lines of a command on its terminal."""

import contextlib
import logging as logging_of_python
import math
import os
import sys
import warnings
from typing import Any, TextIO

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


def open_standard_descriptors() -> None:
    """Opens the null device in place of closed descriptors of standard input, output and error.

    The next file that is opened would take their numbers, and have in it what native code and child
    processes write there.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed; the lowest number that is free is the one taken
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def is_terminal(stream: TextIO | None) -> bool:
    """Returns whether a stream writes to a terminal; what takes the place of one may not tell.

    Args:
        stream: The stream; `None` where a process has none.
    """
    try:
        return bool(stream.isatty())  # pyright: ignore[reportOptionalMemberAccess]
    except (AttributeError, OSError, ValueError):  # none, a tee that can only write, or closed
        return False


def flush(stream: TextIO | None) -> None:
    """Has a stream write what it holds back, if it can hold anything back.

    Args:
        stream: The stream; `None` where a process has none.
    """
    with contextlib.suppress(AttributeError, ValueError):  # as above
        stream.flush()  # pyright: ignore[reportOptionalMemberAccess]


def columns(stream: TextIO | None) -> float:
    """Returns the number of columns of the terminal that a stream writes to; infinity if to none.

    Args:
        stream: The stream; `None` where a process has none.
    """
    try:
        number = stream.fileno()  # pyright: ignore[reportOptionalMemberAccess]
        # Some terminals tell no size.
        return os.get_terminal_size(number).columns or math.inf
    except (AttributeError, OSError, ValueError):  # no terminal, or no file, such as a tee
        return math.inf


def tell_at_once(text: str) -> None:
    """Writes a line to standard error from a handler of a signal, which may interrupt a `print`.

    On a terminal it takes the place of the line that the cursor is in, such as a progress bar.

    Args:
        text: The line.
    """
    if sys.stderr is None:  # descriptor 2 may then be any file
        return
    try:
        number = sys.stderr.fileno()  # not 2, while native messages are held back
    except (AttributeError, OSError, ValueError):  # closed, or replaced by what has none
        number = 2
    width = columns(sys.stderr) if os.isatty(number) else math.inf
    line = "\n" if width == math.inf else f"\r{' ' * (int(width) - 1)}\r"
    with contextlib.suppress(OSError):  # standard error is closed
        os.write(number, f"{line}{text}\n".encode())


class _BesideBars:
    """Standard error, as it is when something is written, with progress bars out of the way."""

    def write(self, text: str) -> None:
        if sys.stderr is None:  # `print` would take standard output
            return
        bars = sys.modules.get("tqdm")
        with bars.tqdm.external_write_mode(sys.stderr) if bars else contextlib.nullcontext():
            print(text, end="", file=sys.stderr)

    def close(self) -> None:
        """Does nothing; standard error stays open."""

    def flush(self) -> None:
        flush(sys.stderr)
