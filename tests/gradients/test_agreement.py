"""The same training on every backend of Keras records the same statistics."""

import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest

from reszoo.gradients import backend
from tests.children import ROOT

BACKENDS = [name for name in backend.BACKENDS if importlib.util.find_spec(name)]


@pytest.fixture(scope="module")
def statistics(tmp_path_factory):
    """Returns the statistics by backend; each has a process of its own, one after the other."""
    found = {}
    for name in BACKENDS:
        file = tmp_path_factory.mktemp("statistics") / f"{name}.npz"
        environment = {**os.environ, "KERAS_BACKEND": name, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.gradients.agreeing", str(file)]
        child = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        assert child.returncode == 0, child.stderr
        with np.load(file) as values:
            found[name] = {key: float(values[key]) for key in values.files}
    return found


@pytest.mark.parametrize("name", [name for name in BACKENDS if name != "tensorflow"])
def test_a_backend_records_what_tensorflow_does(name, statistics):
    expected, found = statistics["tensorflow"], statistics[name]
    assert found.keys() == expected.keys()
    assert {key.split("/")[1] for key in found} == {"first", "second", "third", "fourth"}
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-9, err_msg=key)
