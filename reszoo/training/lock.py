"""Keeps two runs out of one work directory."""

import fcntl
import os
import socket
import weakref
from pathlib import Path


class WorkdirLock:
    """Holds a work directory, until it is released or its process ends, however it ends.

    The operating system keeps the lock, so that of a killed process is never in the way. The file
    `lock` names the process for a reader.

    Args:
        workdir: The work directory.

    Raises:
        ValueError: If another run holds it.

    Example:

    >>> import tempfile
    >>> lock = WorkdirLock(tempfile.mkdtemp())
    >>> lock.release()
    """

    def __init__(self, workdir: str | Path):
        path = Path(workdir) / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 200).decode(errors="replace").strip()
            os.close(descriptor)
            raise ValueError(
                f"Another run is at work in {workdir}: {holder or 'unknown'}. Give another "
                "workdir, or wait for it to end."
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        self._release = weakref.finalize(self, os.close, descriptor)

    def release(self) -> None:
        """Lets others in. Does nothing the second time."""
        self._release()
