"""Tests in a process of their own, in which Keras has another backend."""

import importlib.util
import os
import re
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


def blocks_on(backend, text):
    """Returns the blocks of Python in a document that run on a backend: a comment says so."""
    return re.findall(rf"<!-- on {backend} -->\n```python\n(.*?)```", text, flags=re.DOTALL)
