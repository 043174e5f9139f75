"""Failures of a run: errors from outside of this package, in one line each."""

import contextlib
import os
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf
from absl import logging

from reszoo.files import StoredPath, append_text
from reszoo.training.state import RunError
from reszoo.training.strategy import names_several_workers
from reszoo.training.workdir import TRACEBACK_FILE

MOST_LETTERS = 600
# TensorFlow's text before an error in a function: the source line that created the operation.
ORIGIN = re.compile(
    r"\s*Graph execution error:\s*"
    r"(?:(?:Detected at node .*|\s+File .*|<stack traces unavailable>|\s*)\n)*"
)

# Errors that data, files and devices raise. Any other error is a mistake of this package, and ends
# in a traceback.
FAILURES = (OSError, RunError, ValueError, tf.errors.OpError)

SIGNS_OF_A_LOST_WORKER = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


@contextlib.contextmanager
def as_run_errors(workdir: Path | StoredPath) -> Iterator[None]:
    """Converts the failures of a training to `RunError`, whose text says what to do.

    The traceback is added to `error.log` in the work directory, since a `ValueError` may also be a
    mistake of this package.

    Raises:
        RunError: If a failure was raised in the context.
    """
    try:
        yield
    except RunError:
        raise
    except FAILURES as error:
        if _is_sign_of_a_lost_worker(error):
            raise RunError(in_one_line(error)) from error
        # On a full disk the error of an open file does not name the file.
        is_nameless = isinstance(error, OSError) and error.errno and not error.filename
        where = f", in {workdir}" if is_nameless else ""
        raise RunError(
            f"{in_one_line(error).rstrip('.')}{where}. What was saved is intact; run the same "
            f"command again to go on.{_where_it_was(error, workdir)}"
        ) from error


def in_one_line(error: BaseException) -> str:
    """Returns the message of an error, without its place in a TensorFlow graph.

    Args:
        error: One of `FAILURES`.

    Example:

    >>> in_one_line(tf.errors.NotFoundError(None, None, "{{function_node f}} a.png; No such file"))
    'a.png; No such file'
    """
    logging.debug("This was told in one line:", exc_info=error)
    if _is_sign_of_a_lost_worker(error):
        return (
            f"another worker was lost ({type(error).__name__}). Start all workers again with the "
            "same commands to go on from the last checkpoint."
        )
    text = str(error)
    if isinstance(error, tf.errors.OpError):
        text = error.message  # pyright: ignore[reportAttributeAccessIssue] (not in its stubs)
        text = re.sub(r"\{\{.*?\}\}|\[\[.*?\]\]|\[Op:\w*\](?: name:.*)?|\(\d+\) ", "", text)
        text = re.sub(r"^\d+ root error\(s\) found\.", "", ORIGIN.sub("", text, count=1).strip())
        text = re.split(
            r"\n\s*(?:Traceback|Original stack trace|Detected at node)|\n\n", text.strip()
        )[0]
    text = " ".join(text.split()) or type(error).__name__
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."


def _is_sign_of_a_lost_worker(error: BaseException) -> bool:
    return isinstance(error, SIGNS_OF_A_LOST_WORKER) and names_several_workers()


def _where_it_was(error: BaseException, workdir: Path | StoredPath) -> str:
    """Adds a traceback to `error.log`; returns a sentence naming the file, empty on failure."""
    path = workdir / TRACEBACK_FILE
    lines = traceback.format_exception(error)
    try:
        append_text(path, f"process {os.getpid()}\n{''.join(lines)}\n")
    except OSError:
        return ""
    return f" (Where it was: {path}.)"
