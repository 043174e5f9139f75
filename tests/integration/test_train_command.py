"""`train.py` as a user runs it; each start of TensorFlow costs seconds, so there are few."""

import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from reszoo.training.config import FIELDS
from tests.hiding import run_without

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
        said = list(itertools.takewhile(lambda line: not line.startswith("epoch 1/"), first.stdout))
        first.send_signal(signal.SIGINT)
        _, errors = first.communicate()
    assert first.returncode == 1
    # Not a word of TensorFlow's, and all of the start's.
    assert said == [
        "Training resnet18 on digits: 9,999 epochs of 5 steps, 256 images each, on the CPU.\n",
        "Recording gradients every 10 steps.\n",
        f"To watch: tensorboard --logdir {tmp_path}\n",
        "Tracing the first step ...\n",
    ]
    assert errors == (
        "\nSaving, then stopping. Ctrl-C again to stop at once.\n"
        "train.py: told to stop (Ctrl-C); everything is saved. Run the same command again to go "
        "on.\n"
    )
    assert [path.name for path in (tmp_path / "checkpoints").glob("*.partial*")] == []

    done = len((tmp_path / "metrics.jsonl").read_text().splitlines())
    last = max(path.stem for path in (tmp_path / "checkpoints").glob("step-*"))
    second = train(TINY, f"--workdir={tmp_path}", f"--config.epochs={done + 2}")
    assert second.returncode == 0, second.stderr
    epochs, batches = (int(number) for number in last.split("-")[1:])
    assert f"Going on after epoch {epochs}{f', batch {batches}' * bool(batches)}, " in second.stdout
    assert second.stdout.splitlines()[-1] == f"The model is {tmp_path}/model.keras."
    metrics = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in metrics] == list(range(1, done + 3))
    assert (tmp_path / "model.keras").exists()


WITHOUT_KERAS = """
import json, sys
from reszoo.training.config_file import read_config_without_keras
for name in json.loads(sys.argv[1]):
    try:
        read_config_without_keras("configs/digits_resnet18.py", [(name, "nosuch")])
    except ValueError as error:
        print(error)
"""


def test_an_unknown_word_is_told_without_keras_and_tensorflow():
    names = [name for name, field in FIELDS.items() if "Word" in repr(field.values)]
    names += ["data.name", "epochs", "optimizer.learning_rate", "jit_compile"]
    hidden = ["keras", "tensorflow", "jax", "torch", "pandas"]
    done = run_without(hidden, WITHOUT_KERAS, json.dumps(names))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(names) > 15
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(f"--config.{name}: {name} must be ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=configs/cifar10_resnet.py:19"], "configs/cifar10_resnet.py, line 36: ValueErr"),
        ([CONFIG, "--config.model.name=resnet19"], "--config.model.name: model.name must be "),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_also_without_keras(tmp_path, arguments, message):
    code = "import runpy\nrunpy.run_path('train.py', run_name='__main__')"
    done = run_without(["keras", "tensorflow"], code, f"--workdir={tmp_path}/run", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"train.py: {message}")
    assert not (tmp_path / "run").exists()


def test_a_later_mistake_is_the_last_line_after_what_was_held_back(tmp_path):
    done = train(CONFIG, "--mode=eval", f"--workdir={tmp_path}/run")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("train.py: There is no")
    assert not (tmp_path / "run").exists()


def test_kills_at_random_moments_leave_no_trace_in_the_result():
    command = [sys.executable, "tests/integration/killed_runs.py", "--kills=2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "2 kills left nothing behind" in done.stdout
