"""Locks on a work directory, so that only one run at a time uses it."""

import atexit
import contextlib
import fcntl
import os
import secrets
import socket
import threading
import time
import weakref
from pathlib import Path

from absl import logging

from reszoo.files import StoredPath, as_path
from reszoo.training.state import RunError
from reszoo.training.workdir import LOCK_FILE

# An object store has no locks. There the holder renews its file regularly, and is taken for dead
# after this many seconds without a renewal.
SECONDS_BETWEEN_BEATS = 10
SECONDS_UNTIL_DEAD = 45
# Of two processes that start at the same moment, the one that wrote last continues.
SECONDS_TO_SETTLE = 1


class WorkdirLock:
    """Holds a work directory until it is released or its process ends, however it ends.

    The operating system keeps the lock, and drops that of a killed process. The file `lock` names
    the process for a reader.

    Raises:
        ValueError: If another run holds it.

    Example:

    >>> import tempfile
    >>> lock = WorkdirLock(tempfile.mkdtemp())
    >>> lock.release()
    """

    def __init__(self, workdir: str | Path):
        self._path = Path(workdir) / LOCK_FILE
        descriptor = _locked(self._path)
        while not _is_at(self._path, descriptor):  # deleted by the process that held the lock
            os.close(descriptor)
            descriptor = _locked(self._path)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{_name_of_this_process()}\n".encode())
        self._descriptor = descriptor
        self._release = weakref.finalize(self, os.close, descriptor)

    def check(self) -> None:
        """Checks that no other run uses the work directory, since the file may have been deleted.

        Raises:
            RunError: If another run uses it.
        """
        if not self._release.alive or _is_at(self._path, self._descriptor):
            return
        with contextlib.suppress(OSError):  # no other run has created it again
            raise _is_lost(self._path.parent, self._path.read_text(errors="replace").strip())

    def release(self) -> None:
        """Releases the lock. A second call does nothing."""
        self._release()

    def delete(self) -> None:
        """Releases the lock and deletes its file."""
        if self._release.alive:
            self._path.unlink(missing_ok=True)
        self._release()


class LeasedLock:
    """Holds a work directory on an object store by renewing a file every few seconds.

    After a process was killed, the next one waits until the last renewal is too old. A process that
    has not renewed its lock for so long that another took it learns so from `check`.

    Raises:
        ValueError: If another run holds it.
    """

    def __init__(self, workdir: StoredPath):
        self._path = workdir / LOCK_FILE
        self._token = secrets.token_hex(8)
        self._released = threading.Event()
        self._looked_at = time.monotonic()
        self._taken_by: str | None = None
        holder = _living_holder(self._path)
        if holder is None:
            self._beat(0)
            time.sleep(SECONDS_TO_SETTLE)
            holder = _read(self._path)
        if self._token not in holder:
            raise _is_held(workdir, holder.split(",")[0])
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()
        atexit.register(self.release)

    def check(self) -> None:
        """Checks that no other run has taken the work directory.

        The file is read now if the last reading is too old, as in a process that was suspended.

        Raises:
            RunError: If another run has taken it.
        """
        if time.monotonic() - self._looked_at > 2 * SECONDS_BETWEEN_BEATS:
            self._look()
        if self._taken_by is not None:
            raise _is_lost(self._path.parent, self._taken_by)

    def release(self) -> None:
        """Releases the lock. A second call does nothing."""
        if self._released.is_set():
            return
        self._released.set()
        atexit.unregister(self.release)
        self._thread.join()
        if self._token in _read(self._path):
            self._path.unlink()

    def delete(self) -> None:
        """Releases the lock, which deletes its file too."""
        self.release()

    def _beat(self, number: int) -> None:
        # Always of the same length, since TensorFlow caches the length for some seconds.
        text = f"{_name_of_this_process()}, {self._token}, {number}"
        self._path.write_text(f"{text:<200}\n")

    def _look(self) -> bool:
        """Returns whether this process still holds the lock; a lost lock is never regained."""
        holder = _read(self._path)
        self._looked_at = time.monotonic()
        if self._token not in holder and not self._released.is_set():
            self._taken_by = holder.split(",")[0]
        return self._taken_by is None

    def _keep(self) -> None:
        number = 0
        while not self._released.wait(SECONDS_BETWEEN_BEATS):
            number += 1
            try:
                if not self._look():
                    return
                if time.monotonic() - self._looked_at < SECONDS_BETWEEN_BEATS:  # awake since
                    self._beat(number)
            except OSError as error:  # may be temporary; the next reading decides
                logging.warning("The lock could not be kept: %s", error)


def lock_workdir(workdir: str | os.PathLike) -> WorkdirLock | LeasedLock:
    """Locks a work directory for this process, and returns the lock.

    Raises:
        ValueError: If another run holds it.
    """
    path = as_path(workdir)
    return LeasedLock(path) if isinstance(path, StoredPath) else WorkdirLock(path)


def _locked(path: Path) -> int:
    """Opens and locks a file, and returns its descriptor."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise ValueError(
            f"The lock {path} cannot be opened ({error.strerror}). Delete it if no run is at work "
            "there, or give another workdir."
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 200).decode(errors="replace").strip()
        os.close(descriptor)
        if not isinstance(error, BlockingIOError):
            raise ValueError(
                f"The file system of {path.parent} cannot lock a file ({error.strerror}). Give a "
                "workdir on another."
            ) from error
        raise _is_held(path.parent, holder) from error
    return descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _living_holder(path: StoredPath) -> str | None:
    """Returns the text of a lock's holder; `None` if there is no holder, or it is dead."""
    first = _read(path)
    if not first:
        return None
    logging.warning(
        "%s names %s. If it was killed, training begins in %d seconds.",
        path,
        first.split(",")[0],
        SECONDS_UNTIL_DEAD,
    )
    end = time.monotonic() + SECONDS_UNTIL_DEAD
    while time.monotonic() < end:
        time.sleep(min(1, SECONDS_BETWEEN_BEATS))
        now = _read(path)
        if now != first:
            return now or None
    return None


def _read(path: StoredPath) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""


def _is_held(workdir: Path | StoredPath, holder: str) -> ValueError:
    return ValueError(
        f"Another run is at work in {workdir}: {holder or 'unknown'}. Give another workdir, or "
        "wait for it to end."
    )


def _is_lost(workdir: Path | StoredPath, holder: str) -> RunError:
    return RunError(
        f"Another run has taken {workdir}: {holder or 'unknown'}. This one has stopped and saves "
        "nothing more there. Give another workdir, or wait for the other to end."
    )


def _name_of_this_process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"
