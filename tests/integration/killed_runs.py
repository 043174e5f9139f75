"""Kills a run at random moments, and compares what comes out with an uninterrupted run.

    python tests/integration/killed_runs.py --kills=20 --seed=0

It prints where each kill found the run. Compared bit for bit are the weights and the optimizer of
the last checkpoint, the metrics, and the gradient log. Run by `test_train_command.py` with fewer
kills, because each takes a start of TensorFlow.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

import reszoo.gradients

ROOT = Path(__file__).parents[2]
RUN = [
    "train.py",
    "--config=tests/training/tiny.py",
    "--config.batch_size=128",
    "--config.epochs=6",
    "--config.recording.every_steps=1",
    "--config.checkpoint.every_steps=1",
]


def start(workdir):
    """Starts a run, and returns its process."""
    return subprocess.Popen(
        [sys.executable, *RUN, f"--workdir={workdir}"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(workdir):
    """Lets a run come to its end."""
    process = start(workdir)
    _, errors = process.communicate()
    if process.returncode:
        sys.exit(f"the run failed: {errors}")


def newest(workdir):
    """Returns the name of the newest checkpoint."""
    return max((p.name for p in (workdir / "checkpoints").glob("step-*.npz")), default="")


def kill_one(workdir, seconds):
    """Starts a run, and kills it so many seconds after its first checkpoint."""
    before = newest(workdir)
    process = start(workdir)
    # Compiling takes much longer than all steps, so that the moment is counted from there.
    while process.poll() is None and newest(workdir) == before:
        time.sleep(0.005)
    time.sleep(seconds)
    process.kill()
    process.communicate()
    partial = list((workdir / "checkpoints").glob("*.partial*"))
    found = f"killed after {newest(workdir)}{', in a checkpoint write' * bool(partial)}"
    print(found, flush=True)
    return process.returncode


def result(workdir):
    """Returns all that has to be the same."""
    with np.load(workdir / "checkpoints" / newest(workdir)) as arrays:
        arrays = {name: array.tobytes() for name, array in arrays.items()}
    metrics = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for line in metrics:
        del line["images_per_second"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a file that a kill cut short says so
        log = reszoo.gradients.load(str(workdir)).astype({"value": "float64"})
    return arrays, metrics, log


def main():
    """Runs the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as directory:
        whole, killed = Path(directory, "whole"), Path(directory, "killed")
        finish(whole)
        kills = 0
        for _ in range(options.kills):
            kills += kill_one(killed, moments.uniform(0, 0.5)) < 0
        finish(killed)
        (arrays, metrics, log), (arrays2, metrics2, log2) = result(whole), result(killed)
    assert arrays == arrays2, "the last checkpoint differs"
    assert metrics == metrics2, "the metrics differ"
    assert log.equals(log2), "the gradient log differs"
    print(f"{kills} kills left nothing behind: {len(log)} statistics are the same, bit for bit")


if __name__ == "__main__":
    main()
