"""A log is read and drawn without Keras, and with no backend installed."""

import numpy as np
import pytest

from reszoo.gradients.alarm_log import AlarmWatch
from reszoo.gradients.alarms import NonFinite, RecordedStep
from reszoo.gradients.log import LogWriter
from reszoo.gradients.statistics import DEFAULT_SETS, statistics_of
from tests.hiding import run_without

BACKENDS = ["tensorflow", "jax", "torch"]

READ = """
import json, sys
import reszoo.report
from reszoo.gradients import load, read_findings, records
from reszoo.report.__main__ import main
from reszoo.tensorboard.plugin import GradientFlowLoader

logs = sys.argv[1]
run = logs + "/run"
assert sorted(set(load(run).step)) == [0, 1, 2]
assert len(list(records(run))) == 3
assert {finding.block for finding in read_findings(run)} == {"b"}
assert main([run]) == 0
imported = {name.split(".")[0] for name in sys.modules}
assert not imported & {"keras", "tensorflow", "jax", "torch"}

from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from werkzeug.test import Client

multiplexer = plugin_event_multiplexer.EventMultiplexer()  # which imports TensorFlow itself
multiplexer.AddRunsFromDirectory(logs)
multiplexer.Reload()
provider = data_provider.MultiplexerDataProvider(multiplexer, logs)
plugin = GradientFlowLoader().load(base_plugin.TBContext(data_provider=provider))
answer = Client(plugin.get_plugin_apps()["/runs"]).get("/")
assert [found["run"] for found in json.loads(answer.text)["runs"]] == ["run"]
"""

USE = """
import sys
for statement in sys.argv[1:]:
    try:
        exec(statement)
    except ImportError as error:
        print(error)
"""


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    logs = tmp_path_factory.mktemp("logs")
    names = [statistic.name for statistic in statistics_of(DEFAULT_SETS)]
    writer = LogWriter(str(logs / "run"), [{"name": "b", "parent": None}], names, first_step=0)
    watch = AlarmWatch([NonFinite()], str(logs / "run"), first_step=0)
    for step in range(3):
        values = np.full((1, len(names)), 0.5)
        writer.write(step, values, {"update_norm": 1.0})
        watch.look(RecordedStep(step, {"b": None}, dict(zip(names, values.T, strict=True))))
    writer.close()
    return logs


@pytest.mark.parametrize("hidden", [[], BACKENDS], ids=["installed", "not installed"])
def test_a_log_is_read_and_drawn_without_keras(logs, hidden):
    done = run_without(hidden, READ, str(logs))
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_needs_a_backend_says_what_to_install():
    needing = [
        "from reszoo import ResidualBlock",
        "import reszoo; reszoo.GradientRecorder",
        "import reszoo; reszoo.ResNet18",
        "from reszoo.gradients import check",
        "import reszoo.models",
        "import reszoo.layers.shortcuts",
    ]
    done = run_without(BACKENDS, USE, *needing, KERAS_BACKEND="jax")
    lines = done.stdout.splitlines()
    assert len(lines) == len(needing), done.stderr
    for line in lines:
        assert line.startswith("Keras cannot import its backend 'jax'. Install it with pip install")


@pytest.mark.parametrize("order", ["import reszoo, keras", "import keras, reszoo"])
def test_keras_finds_the_layers_in_files(order):
    code = f"{order}\nprint(keras.saving.get_registered_object('reszoo>ResidualBlock').__name__)"
    done = run_without([], code, KERAS_BACKEND="jax")
    assert done.stdout == "ResidualBlock\n", done.stderr


def test_every_name_of_the_package_is_there():
    import reszoo
    import reszoo.gradients

    for package in (reszoo, reszoo.gradients):
        assert all(hasattr(package, name) for name in dir(package))
    assert {"ResidualBlock", "GradientRecorder", "layers", "models"} <= set(dir(reszoo))
    assert callable(reszoo.gradients.check)
    assert callable(reszoo.gradients.instrument)
