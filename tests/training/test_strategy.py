import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import reszoo.gradients
from reszoo.training.strategy import create_strategy, spread_over

HERE = Path(__file__).parent


def test_one_device_is_the_default_strategy():
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has GPUs")
    assert create_strategy() is tf.distribute.get_strategy()


def test_a_named_device():
    strategy = spread_over(["CPU:0"])
    assert strategy.num_replicas_in_sync == 1
    assert strategy.run(lambda: tf.constant(1).device) == strategy.run(
        lambda: tf.constant(2).device
    )


def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match=r"no device CPU:7. This machine has CPU:0"):
        spread_over(["CPU:7"])


def test_two_devices_train_like_one():
    done = subprocess.run(
        [sys.executable, str(HERE / "two_devices.py")],
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "two devices agree with one" in done.stdout


@pytest.mark.parametrize(
    ("name", "environment", "message"),
    [
        ("gpus", None, "no strategy 'gpus'. Give one of auto, cpu, gpu, mirrored"),
        ("multi_worker", None, "needs the environment variable TF_CONFIG"),
        ("auto", "worker:0", "must be JSON with `cluster`"),
        ("tpu", None, "No TPU could be reached"),
    ],
)
def test_what_a_strategy_lacks(monkeypatch, name, environment, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if environment:
        monkeypatch.setenv("TF_CONFIG", environment)
    with pytest.raises(ValueError, match=message):
        create_strategy(name)


@pytest.mark.parametrize("name", ["gpu", "mirrored"])
def test_no_gpu(name):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("this machine has GPUs")
    with pytest.raises(ValueError, match="needs a GPU, but there is none"):
        create_strategy(name)


def cluster(count):
    """Returns the environment of each of several processes on this machine."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("localhost", 0))
    workers = [f"localhost:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    tasks = [{"type": "worker", "index": index} for index in range(count)]
    configs = [json.dumps({"cluster": {"worker": workers}, "task": task}) for task in tasks]
    return [
        {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "TF_CONFIG": config}
        for config in configs
    ]


def start(command, environment):
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=HERE.parents[1],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


SCRIPT = str(HERE / "several_processes.py")


def wait_for_line(process, start):
    """Reads what a process prints, up to a line that starts so; fails if there is none."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.startswith(start):
            return
    process.kill()
    pytest.fail(f"no line starts with {start!r}: {lines}, {process.communicate()[1]}")


def wait_for(processes):
    for process in processes:
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """What a single process leaves."""
    workdir = tmp_path_factory.mktemp("one")
    alone = {**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    wait_for([start([SCRIPT, str(workdir)], alone)])
    return workdir


@pytest.mark.parametrize("count", [2, 3])
def test_several_processes_train_and_record_like_one(count, one_process, tmp_path):
    wait_for([start([SCRIPT, str(tmp_path)], environment) for environment in cluster(count)])
    with (
        np.load(one_process / "result.npz") as one,
        np.load(tmp_path / "result.npz") as several,
    ):
        assert several["replicas"] == count
        for name in set(one) - {"replicas"}:
            np.testing.assert_allclose(several[name], one[name], rtol=1e-3, atol=1e-5, err_msg=name)
    logs = [reszoo.gradients.load(str(workdir)) for workdir in (one_process, tmp_path)]
    assert len(logs[0]) > 0
    assert (logs[0][["step", "block", "statistic"]] == logs[1][["step", "block", "statistic"]]).all(
        axis=None
    )
    np.testing.assert_allclose(logs[1].value, logs[0].value, rtol=1e-2, atol=1e-4)
    # The chief alone wrote.
    assert len(list((tmp_path / "gradients").iterdir())) == 1


def test_workers_that_were_not_started_alike_are_told_in_what(tmp_path):
    command = [str(HERE / "differing_workers.py"), str(tmp_path)]
    of_both = []
    for process in [start(command, environment) for environment in cluster(2)]:
        out, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        of_both.append(dict(map(json.loads, out.splitlines())))
    for index, said in enumerate(of_both):
        dtype = ("float32", "mixed_bfloat16")[index]
        assert f"in this one it is seed={index}. Give all" in said["another seed"]
        assert f"it is dtype='{dtype}', epochs={3 + index}. Give" in said["several fields"]
        assert "configurations with different fields" in said["a field more"]
        assert f"it is data.name='folder:{tmp_path}/worker{index}" in said["another path"]
        assert "The processes found different data" in said["other data"]
    assert not (tmp_path / "run").exists()


def test_a_worker_that_is_lost_or_told_to_stop_stops_the_others_and_all_can_go_on(tmp_path):
    command = [
        "train.py",
        "--config=tests/training/tiny.py",
        f"--workdir={tmp_path}",
        "--config.epochs=9999",
        "--config.recording.every_steps=0",
    ]
    chief, other = (start(command, environment) for environment in cluster(2))
    wait_for_line(chief, "epoch 1/9999: loss ")
    other.kill()
    other.communicate()
    _, errors = chief.communicate(timeout=120)
    assert chief.returncode == 1
    assert "train.py: another worker was lost" in errors.splitlines()[-1]

    # All go on; then one is told to stop, and both do, at the same step.
    chief, other = (start(command, environment) for environment in cluster(2))
    wait_for_line(chief, "Going on after epoch")
    wait_for_line(chief, "epoch ")
    other.terminate()
    for process in (chief, other):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 1
        assert "told to stop (SIGTERM); everything is saved" in errors.splitlines()[-1]
