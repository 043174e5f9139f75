import subprocess
import sys

import pytest

from reszoo.training.lock import WorkdirLock

HOLD = """
import sys, time
from reszoo.training.lock import WorkdirLock
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
