"""Tests in a process of their own, in which Keras has another backend."""

import importlib.util
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run_tests(backend):
    """Runs the tests of a backend, and fails with those that fail."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    folder = f"tests/on_{backend}"
    # The settings of the tests around it import TensorFlow.
    command = [sys.executable, "-m", "pytest", "-q", f"--confcutdir={folder}", folder]
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"{' '.join(command[1:])}\n{done.stdout}{done.stderr}", pytrace=False)


def run_two_processes(module, *arguments):
    """Runs a module twice at once, with its arguments and a rank; fails if one of them fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GLOO_SOCKET_IFNAME": "lo"}
    environment.pop("XLA_FLAGS", None)  # one device each
    command = [sys.executable, "-m", module, *arguments]
    processes = [
        subprocess.Popen([*command, rank], cwd=ROOT, env=environment, stderr=subprocess.PIPE)
        for rank in ("0", "1")
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=240)
            assert process.returncode == 0, errors.decode()
    finally:  # the one waits for the other
        for process in processes:
            process.kill()
            process.communicate()


def free_port():
    """Returns the number of a port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def blocks_on(backend, text):
    """Returns the blocks of Python in a document that run on a backend: a comment says so."""
    return re.findall(rf"<!-- on {backend} -->\n```python\n(.*?)```", text, flags=re.DOTALL)
