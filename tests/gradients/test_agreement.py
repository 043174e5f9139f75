"""Every backend of Keras records the same statistics, and checks gradients with the same result."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from reszoo.gradients import backend
from tests.children import ROOT
from tests.gradients.checked import CASES

BACKENDS = [name for name in backend.BACKENDS if importlib.util.find_spec(name)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Returns statistics and checks by backend; each has a process of its own, one by one."""
    found = {}
    for name in BACKENDS:
        files = [tmp_path_factory.mktemp(name) / f"{what}.npz" for what in ("fit", "check")]
        environment = {**os.environ, "KERAS_BACKEND": name, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.gradients.agreeing", *map(str, files)]
        child = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert child.returncode == 0, child.stderr
        found[name] = [_numbers(file) for file in files]
    return found


def _numbers(file):
    with np.load(file) as values:
        return {key: float(values[key]) for key in values.files}


others = pytest.mark.parametrize("name", [name for name in BACKENDS if name != "tensorflow"])


@others
def test_a_backend_records_what_tensorflow_does(name, found):
    (expected, _), (statistics, _) = found["tensorflow"], found[name]
    assert statistics.keys() == expected.keys()
    assert {key.split("/")[1] for key in statistics} == {"first", "second", "third", "fourth"}
    for key, value in expected.items():
        np.testing.assert_allclose(statistics[key], value, rtol=1e-5, atol=1e-9, err_msg=key)


@others
def test_a_backend_checks_gradients_as_tensorflow_does(name, found):
    (_, expected), (_, checks) = found["tensorflow"], found[name]
    assert checks.keys() == expected.keys()
    assert {key.split("/")[0] for key in checks} == set(CASES)
    for key, value in expected.items():
        case, _, _, column = key.split("/")
        if column == "doubt":  # an estimate of rounding errors
            assert 0 <= checks[key] < 1e-6, key
        elif case != "random" or column.endswith(("agree", "agrees")):
            np.testing.assert_allclose(checks[key], value, rtol=1e-9, atol=1e-9, err_msg=key)
