"""`train.py` as a user runs it; each start of TensorFlow costs seconds, so there are few."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = "--config=configs/digits_resnet18.py"
TINY = "--config=tests/training/tiny.py"


def train(*arguments):
    return subprocess.run(
        [sys.executable, "train.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def _interrupts_are_heard():
    """Has processes hear SIGINT, which shells have those in the background ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts_are_heard")
def test_a_run_that_is_interrupted_goes_on_when_run_again(tmp_path):
    # Far more epochs than there will be before the signal is heard.
    command = [sys.executable, "train.py", TINY, f"--workdir={tmp_path}", "--config.epochs=9999"]
    with subprocess.Popen(command, cwd=ROOT, stdout=PIPE, stderr=PIPE, text=True) as first:
        assert first.stdout.readline().startswith("epoch 1/9999: loss ")
        first.send_signal(signal.SIGINT)
        _, errors = first.communicate()
    assert first.returncode == 1
    assert errors.endswith("train.py: stopped; run the same command again to go on.\n")
    assert "Traceback" not in errors

    done = len((tmp_path / "metrics.jsonl").read_text().splitlines())
    second = train(TINY, f"--workdir={tmp_path}", f"--config.epochs={done + 2}")
    assert second.returncode == 0, second.stderr
    assert second.stdout.splitlines()[-1] == f"The model is {tmp_path}/model.keras."
    metrics = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in metrics] == list(range(1, done + 3))
    assert (tmp_path / "model.keras").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([CONFIG, "--config.epochs=three"], "--config.epochs: epochs must be a whole number"),
        (["--config=configs/cifar10_resnet.py:19"], "configs/cifar10_resnet.py, line 36: ValueErr"),
        ([CONFIG, "--mode=eval"], "There is no"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, arguments, message):
    done = train(*arguments, f"--workdir={tmp_path}/run")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    # TensorFlow may have had its say about the machine's devices before.
    assert done.stderr.splitlines()[-1].startswith(f"train.py: {message}")
    assert not (tmp_path / "run").exists()


def test_kills_at_random_moments_leave_no_trace_in_the_result():
    command = [sys.executable, "tests/integration/killed_runs.py", "--kills=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "2 kills left nothing behind" in done.stdout
