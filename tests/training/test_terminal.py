"""Lines of a command on its terminal."""

import io
import math
import os
import pty
import subprocess
import sys

import pytest

from reszoo.training.terminal import columns, flush, is_terminal

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
def test_a_stream_without_a_terminal_has_no_end_of_columns_and_is_not_flushed(stream):
    assert columns(stream) == math.inf
    assert not is_terminal(stream)
    flush(stream)


@pytest.mark.parametrize("stream", ["Tee()", "None"])
def test_a_command_runs_where_its_output_is_a_tee_or_there_is_none(stream, tmp_path):
    code = f"""if True:
        import runpy, sys
        class Tee:
            def write(self, text):
                open({str(tmp_path / "said")!r}, "a").write(text)
        sys.stdout = sys.stderr = {stream}
        run = runpy.run_path("reszoo/train.py")
        from absl import logging
        from reszoo.training.quiet_start import HeldMessages
        run["parse_flags"](["train.py", "--config=c", "--workdir=w"])
        logging.use_absl_handler()
        logging.warning("A warning.")
        held = HeldMessages()
        held.hold()
        held.release()
        run["main"].__globals__["_fail"]("The end.")
    """
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    # Python itself writes the reason of an end.
    end = "train.py: The end.\n"
    if stream == "Tee()":
        # At its very end Python complains of the flush that there is not.
        assert (tmp_path / "said").read_text().startswith(f"train.py: A warning.\n{end}")
    assert (done.stdout, done.stderr) == ("", "" if stream == "Tee()" else end)
