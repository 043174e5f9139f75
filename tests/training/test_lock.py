import subprocess
import sys

import pytest

from reszoo.training.lock import WorkdirLock
from reszoo.training.state import RunError

HOLD = """
import sys, time
from reszoo.training.lock import WorkdirLock
from reszoo.training.state import RunError
lock = WorkdirLock(sys.argv[1])
print("held", flush=True)
time.sleep(60)
"""


def test_a_killed_process_leaves_no_lock_behind(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=f"process {other.pid} on"):
            WorkdirLock(tmp_path)
        other.kill()
    WorkdirLock(tmp_path).release()


def test_releasing_twice_is_harmless(tmp_path):
    lock = WorkdirLock(tmp_path)
    lock.release()
    lock.release()
    WorkdirLock(tmp_path).release()


def test_a_lock_whose_file_was_deleted_is_lost_once_another_run_has_begun(tmp_path):
    lock = WorkdirLock(tmp_path)
    (tmp_path / "lock").unlink()
    lock.check()
    other = WorkdirLock(tmp_path)
    with pytest.raises(RunError, match=rf"Another run has taken {tmp_path}: process \d+ on"):
        lock.check()
    lock.release()
    lock.check()
    other.check()
    other.release()
