"""Lines of a command on its terminal."""

import io
import math
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

import reszoo
from reszoo.training.terminal import columns, flush, is_terminal

TRAIN = str(Path(reszoo.__file__).with_name("train.py"))
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


CLOSED = """if True:
    import os, runpy, sys
    from reszoo.training.terminal import tell_at_once
    others = open(sys.argv[1], "wb")
    assert others.fileno() in range(3)
    tell_at_once("Saving.")
    others.close()
    main = runpy.run_path(sys.argv[2])["main"]
    main.__globals__["_read_config"] = lambda fields: None
    main.__globals__["_start_tensorflow"] = lambda held: None

    def run(*_):
        opened = [open(sys.argv[1], "wb") for _ in range(4)]
        assert all(file.fileno() > 2 for file in opened)
        assert all(map(os.get_inheritable, range(3)))
        os.system("echo from a child; echo from a child >&2")
        os.write(2, b"native")
        tell_at_once("Saving.")

    main.__globals__["_run"] = run
    main(["train.py"])
    open(sys.argv[3], "w").write("done")
"""


@pytest.mark.parametrize("closed", ["2>&-", ">&- 2>&-", "<&- >&- 2>&-", "<&-"])
def test_nothing_is_written_into_files_where_standard_streams_are_closed(closed, tmp_path):
    other, end = tmp_path / "other", tmp_path / "end"
    arguments = [sys.executable, "-c", CLOSED, other, TRAIN, end]
    subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", *arguments], check=True)
    assert (other.read_bytes(), end.read_text()) == (b"", "done")


def test_an_interrupt_without_standard_error_is_not_told_on_standard_output():
    code = f"""if True:
        import os, runpy, signal, sys
        from reszoo.training.quiet_start import HeldMessages
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell ignores it
        sys.stderr = None
        run = runpy.run_path({TRAIN!r})
        with run["_interrupts_end_it_at_once"](HeldMessages()):
            os.kill(os.getpid(), signal.SIGINT)
    """
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")


@pytest.mark.parametrize("stream", ["Tee()", "None"])
@pytest.mark.parametrize("replaced", ["sys.stdout = sys.stderr", "sys.stderr"])
def test_a_command_runs_where_its_output_is_a_tee_or_there_is_none(replaced, stream, tmp_path):
    code = f"""if True:
        import runpy, sys
        class Tee:
            def write(self, text):
                open({str(tmp_path / "said")!r}, "a").write(text)
        {replaced} = {stream}
        run = runpy.run_path({TRAIN!r})
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
