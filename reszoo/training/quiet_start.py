"""Messages that TensorFlow's native code writes when it starts, held back unless the process fails.

They are about the machine, and written when TensorFlow is imported and when its devices are first
used. `TF_CPP_MIN_LOG_LEVEL` does not silence them, since logging is not initialized by then.
"""

import contextlib
import os
import subprocess
import sys
from typing import Any

from reszoo.training.terminal import flush

# A process of its own, so that nothing is lost when the other one crashes. It shows what it holds
# when the other one ends, or is told to; from then on it only passes on what child processes write.
_KEEPER = """
import os
held, holds = b"", True
while True:
    chunk = os.read(0, 65536)
    if not chunk:
        break
    told, chunk = chunk[-1:], chunk.rstrip(b"\\0\\1")
    held += chunk
    if told == b"\\0":
        held = b""
    if told in (b"\\0", b"\\1"):
        holds = False
    if not holds:
        os.write(2, held)
        held = b""
os.write(2, held)
"""
_DISCARD, _SHOW = b"\0", b"\1"


class HeldMessages:
    """Messages of native code on standard error, held back from `hold` to `release`.

    Python's own `sys.stderr` is not held back. If the process ends before `release`, even by a
    crash, all messages are shown.

    Example:

    >>> held = HeldMessages()
    >>> held.hold()
    >>> _ = os.write(2, b"I0000 00:00:1795725558.761356   30131 port.cc:153] ...")
    >>> held.release()
    """

    def __init__(self):
        self._keeper: Any = None
        self._python: Any = None
        self._direct: Any = None

    def hold(self) -> None:
        """Begins to hold messages back; does nothing where standard error is closed."""
        try:
            original = os.dup(2)
        except OSError:
            return
        command = [sys.executable, "-I", "-S", "-c", _KEEPER]
        # In a session of its own, so that Ctrl-C does not end it before it has shown anything.
        self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        flush(sys.stderr)
        os.dup2(self._keeper.stdin.fileno(), 2)
        # Stays open for as long as the process: handlers of logging that are made now keep it.
        self._direct = os.fdopen(
            original, "w", buffering=1, errors="backslashreplace", closefd=False
        )
        self._python, sys.stderr = sys.stderr, self._direct

    def release(self) -> None:
        """Discards the messages, and ends the holding. A second call does nothing."""
        self._end(_DISCARD)

    def show(self) -> None:
        """Shows the messages, and ends the holding."""
        self._end(_SHOW)

    def _end(self, order: bytes) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is None:
            return
        os.dup2(self._direct.fileno(), 2)
        sys.stderr = self._python
        with contextlib.suppress(BrokenPipeError):
            keeper.stdin.write(order)
            keeper.stdin.close()
        # Child processes that were started meanwhile may keep it for longer.
        with contextlib.suppress(subprocess.TimeoutExpired):
            keeper.wait(timeout=1)
