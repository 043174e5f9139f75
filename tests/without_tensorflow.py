"""Everything that needs no TensorFlow, for a process in which it is hidden."""

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from werkzeug.test import Client

import reszoo
from reszoo.distribution import is_chief
from reszoo.gradients import NonFinite, blocks, instrument, load, read_findings
from reszoo.gradients.alarm_log import AlarmWatch
from reszoo.gradients.alarms import RecordedStep, SaturatedScale
from reszoo.gradients.log import LogWriter
from reszoo.gradients.statistics import DEFAULT_SETS, statistics_of
from reszoo.report.__main__ import main as report
from reszoo.tensorboard.plugin import GradientFlowLoader

STATISTICS = [statistic.name for statistic in statistics_of(DEFAULT_SETS)]


def trained_model():
    x = np.random.default_rng(0).normal(size=(4, 8, 8, 3))
    model = reszoo.models.ResNet18(4, (8, 8, 3), "cifar", width=2)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    history = model.fit(x, np.arange(4), verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    return model


def write_log(model, log_dir):
    found = blocks.find_blocks(model)
    writer = LogWriter(log_dir, blocks.describe_blocks(found), STATISTICS, first_step=0)
    watch = AlarmWatch([NonFinite(), SaturatedScale()], log_dir, first_step=0)
    for step in range(3):
        values = np.full((len(found), len(STATISTICS)), 0.5 + step)
        writer.write(step, values, {"update_norm": 1.0})
        of_step = RecordedStep(step, found, dict(zip(STATISTICS, values.T, strict=True)))
        for _, finding in watch.look(of_step):
            writer.write_text(step, finding.text)
            writer.write_findings(step, [json.dumps(asdict(finding))])
    writer.close()


def runs_on_the_page(logs):
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(logs)
    multiplexer.Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, logs)
    plugin = GradientFlowLoader().load(base_plugin.TBContext(data_provider=provider))
    answer = Client(plugin.get_plugin_apps()["/runs"]).get("/")
    return [run["run"] for run in json.loads(answer.text)["runs"]]


def application():
    return keras.applications.MobileNetV2((32, 32, 3), alpha=0.35, weights=None)


def training_of(room):
    return importlib.import_module(room).prepare


def sentence_of(function, *arguments):
    try:
        function(*arguments)
    except (ImportError, ValueError) as error:
        return str(error)
    raise AssertionError(f"{function} raised no error")


def main(directory):
    log_dir = str(Path(directory) / "logs" / "run")
    model = trained_model()
    write_log(model, log_dir)
    table = load(log_dir)
    assert sorted(set(table.step)) == [0, 1, 2]
    assert len(table) == 3 * 8 * len(STATISTICS)
    assert read_findings(log_dir)
    assert len(instrument(application())) == 10
    assert is_chief()
    assert report([log_dir]) == 0
    assert (Path(log_dir) / "gradient_flow.html").exists()
    assert runs_on_the_page(str(Path(directory) / "logs")) == ["run"]
    assert "pip install 'reszoo[tensorflow]'" in sentence_of(load, "gs://bucket/log")
    for what, room in ((importlib.import_module, "data"), (training_of, "training")):
        assert "pip install 'reszoo[tensorflow]'" in sentence_of(what, f"reszoo.{room}")
    assert not any(name.split(".")[0] == "tensorflow" for name in sys.modules)


if __name__ == "__main__":
    main(sys.argv[1])
