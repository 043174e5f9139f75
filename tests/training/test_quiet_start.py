"""Messages of native code are held back, and shown when the process fails in any way."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
START = """
import os, sys, subprocess
from reszoo.training.quiet_start import HeldMessages
held = HeldMessages()
held.hold()
os.write(2, b"native ")
print("python ", end="", file=sys.stderr, flush=True)
"""


def run(code):
    """Runs code after messages are held back; returns what is on standard error, and the status."""
    command = [sys.executable, "-c", START + code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stderr, done.returncode


@pytest.mark.parametrize(
    ("code", "errors", "status"),
    [
        ("held.release()", "python ", 0),
        ("held.release(); held.release(); os.write(2, b'after')", "python after", 0),
        ("held.release(); print('after', file=sys.stderr, end='')", "python after", 0),
        ("held.show(); os.write(2, b'after')", "python native after", 0),
        ("pass", "python native ", 0),
        ("os._exit(3)", "python native ", 3),
        ("os.abort()", "python native ", -6),
        ("os.kill(os.getpid(), 9)", "python native ", -9),
        ("import ctypes; ctypes.string_at(0)", "python native ", -11),
        ("held.release(); held.hold(); os.write(2, b'again'); os.abort()", "python again", -6),
        # A handler that was made meanwhile goes on to write.
        ("s = sys.stderr; held.release(); print('late', file=s, end='')", "python late", 0),
        ("os.write(2, b'x' * 300_000); held.release()", "python ", 0),
    ],
)
def test_what_is_shown(code, errors, status):
    assert run(code) == (errors, status)


def test_an_error_is_shown_with_all_that_was_held_back():
    errors, status = run("raise ValueError('reason')")
    assert status == 1
    assert errors.startswith("python ")
    assert "native " in errors
    assert "ValueError: reason" in errors


def test_a_child_process_of_that_time_goes_on_to_be_heard():
    child = "import os, time; time.sleep(0.3); os.write(2, b'child')"
    code = f"child = subprocess.Popen([sys.executable, '-c', {child!r}])\nheld.release()\n"
    assert run(code + "child.wait()") == ("python child", 0)


def test_without_standard_error_nothing_is_held():
    assert run("held.release(); os.close(2); HeldMessages().hold(); os._exit(0)") == ("python ", 0)
