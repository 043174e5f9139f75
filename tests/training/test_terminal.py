"""Lines of a command on its terminal."""

import os
import pty
import subprocess
import sys

import pytest

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
    written(
        f"import os; os.get_terminal_size = lambda _: os.terminal_size((10, 9)); {TOLD}", terminal
    )
    assert os.read(reader, 100) == b"bar\r         \rSaving.\r\n"
