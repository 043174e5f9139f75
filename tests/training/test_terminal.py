"""Lines of a command on its terminal."""

import io
import math
import os
import pty
import subprocess
import sys

import pytest

from reszoo.training.terminal import columns

TOLD = "print('bar', end='', flush=True); tell_at_once('Saving.')"
HELD = (
    "from reszoo.training.quiet_start import HeldMessages; held = HeldMessages(); held.hold(); "
    f"{TOLD}; held.release()"
)


def written(code, stream):
    code = f"from reszoo.training.terminal import tell_at_once; {code}"
    return subprocess.run([sys.executable, "-c", code], check=True, stderr=stream, stdout=stream)


@pytest.mark.parametrize("code", [TOLD, HELD], ids=["as ever", "while messages are held back"])
def test_a_line_of_a_handler_appears_at_once(code, tmp_path):
    with (tmp_path / "said").open("w") as file:
        written(code, file)
    assert (tmp_path / "said").read_text() == "bar\nSaving.\n"


def test_it_takes_the_place_of_a_bar_on_a_terminal():
    reader, terminal = pty.openpty()
    try:
        size = "import os; os.get_terminal_size = lambda _: os.terminal_size((10, 9))"
        written(f"{size}; {TOLD}", terminal)
        assert os.read(reader, 100) == b"bar\r         \rSaving.\r\n"
    finally:
        os.close(reader)
        os.close(terminal)


class Tee:
    """Standard output as a program may replace it, with no more than `write`."""

    def write(self, text):
        sys.__stdout__.write(text)


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [Tee(), None, io.StringIO(), closed()])
def test_a_stream_without_a_terminal_has_no_end_of_columns(stream):
    assert columns(stream) == math.inf


def test_a_line_of_a_handler_is_written_beside_a_tee(tmp_path):
    tee = (
        "import sys; of_tee = {'write': sys.stderr.write, 'flush': sys.stderr.flush}; "
        "sys.stderr = type('Tee', (), of_tee)()"
    )
    with (tmp_path / "said").open("w") as file:
        written(f"{tee}; {TOLD}", file)
    assert (tmp_path / "said").read_text() == "bar\nSaving.\n"
