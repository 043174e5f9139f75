import json
import os
import struct
import sys
import types
from typing import ClassVar

import keras
import pytest

from reszoo.training import loggers
from reszoo.training.callbacks import logging
from reszoo.training.callbacks.logging import Logging
from reszoo.training.metrics_file import FIGURES

CONFIG = {"epochs": 3, "model.name": "resnet18", "schedule.boundaries": ()}
LOGS = dict.fromkeys(FIGURES, 0.5)


class Fake:
    """Keeps what it is sent in a list that all of its kind share."""

    sent: ClassVar[list] = []

    def __init__(self, workdir, config, run_id):
        self.run_id = run_id or "new"

    def log(self, step, figures):
        if figures["epoch"] == 13:
            raise ConnectionError("no network")
        self.sent.append((self.run_id, step, figures["epoch"]))

    def close(self):
        self.sent.append("closed")


@pytest.fixture
def tracked_at():
    """Returns a function that sets where MLflow keeps runs, for this test alone."""
    mlflow = pytest.importorskip("mlflow")
    yield mlflow.set_tracking_uri
    mlflow.set_tracking_uri(None)
    os.environ.pop("MLFLOW_TRACKING_URI", None)  # which it also sets


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile("sgd")
    return model


def send(model, names, workdir, epochs):
    """Sends epochs of 7 steps, as one start of a run would."""
    callback = Logging(names, workdir, CONFIG)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch in epochs:
        model.optimizer.iterations.assign(7 * (epoch + 1))
        callback.on_epoch_end(epoch, LOGS | {"loss": 1.0 / (epoch + 1)})
    callback.close()


def test_a_run_goes_on_where_it_was_and_sends_no_step_twice(model, tmp_path, monkeypatch):
    monkeypatch.setitem(loggers.LOGGERS, "wandb", Fake)
    monkeypatch.setattr(logging, "check_logger", lambda name: None)
    monkeypatch.setattr(Fake, "sent", [])
    send(model, ["wandb"], tmp_path, range(2))
    # Killed before its second checkpoint was written.
    send(model, ["wandb"], tmp_path, range(1, 3))
    assert Fake.sent == [
        ("new", 7, 1), ("new", 14, 2), "closed", ("new", 21, 3), "closed",
    ]  # fmt: skip
    assert json.loads((tmp_path / "loggers.json").read_text()) == {
        "wandb": {"run": "new", "step": 21}
    }


@pytest.mark.parametrize("content", ["", "[]", '{"wandb": 3}', '{"wandb": {"run": "a"}}'])
def test_a_broken_file_of_what_was_sent_is_named(model, tmp_path, monkeypatch, content):
    monkeypatch.setitem(loggers.LOGGERS, "wandb", Fake)
    monkeypatch.setattr(logging, "check_logger", lambda name: None)
    monkeypatch.setattr(Fake, "sent", [])
    (tmp_path / "loggers.json").write_text(content)
    with pytest.raises(ValueError, match=r"loggers\.json cannot be read: .* or delete it"):
        send(model, ["wandb"], tmp_path, [1])


def test_a_logger_that_fails_does_not_stop_the_training(model, tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(loggers.LOGGERS, "wandb", Fake)
    monkeypatch.setattr(logging, "check_logger", lambda name: None)
    monkeypatch.setattr(Fake, "sent", [])
    send(model, ["wandb"], tmp_path, [11, 12, 13])
    assert Fake.sent == [("new", 84, 12), ("new", 98, 14), "closed"]
    assert "'wandb' failed (ConnectionError: no network)" in caplog.text


def test_what_is_missing(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"no logger 'comet'\. Give wandb, mlflow"):
        Logging(["comet"], tmp_path, {})
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ValueError, match=r"reszoo\[mlflow\]"):
        Logging(["mlflow"], tmp_path, {})


# SQLAlchemy 2.1 about what MLflow 3.17 asks of it.
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_mlflow_has_every_epoch_once(model, tmp_path, monkeypatch, tracked_at):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    tracked_at(f"sqlite:///{tmp_path}/mlflow.db")
    send(model, ["mlflow"], tmp_path, range(2))
    send(model, ["mlflow"], tmp_path, range(1, 3))
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    assert run.info.run_name == tmp_path.name
    assert run.data.params == {name: str(value) for name, value in CONFIG.items()}
    history = client.get_metric_history(run.info.run_id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(7, 1), (14, 1 / 2), (21, 1 / 3)]
    assert run.info.status == "FINISHED"


def test_wandb_has_every_epoch_once(model, tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    wandb.teardown()
    wandb.setup()  # as where the process has used W&B before, in another mode
    monkeypatch.setenv("WANDB_MODE", "offline")
    send(model, ["wandb"], tmp_path, range(2))
    send(model, ["wandb"], tmp_path, range(1, 3))  # at once, as after a roll-back
    files = sorted(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    records = [record for file in files for record in wandb_records(file)]
    runs = {record.run.run_id for record in records if record.HasField("run")}
    assert runs == {json.loads((tmp_path / "loggers.json").read_text())["wandb"]["run"]}
    sent = [history(record) for record in records if record.HasField("history")]
    assert [(row["_step"], row["train_loss"]) for row in sent] == [(7, 1), (14, 1 / 2), (21, 1 / 3)]
    assert sent[0]["epoch"] == 1


def test_without_a_login_wandb_is_given_up_without_a_question(model, tmp_path, monkeypatch, caplog):
    settings = types.SimpleNamespace(mode="online")
    wandb = types.ModuleType("wandb")
    wandb.setup = lambda: types.SimpleNamespace(settings=settings)
    wandb.login = lambda prompt, verify: prompt
    wandb.init = lambda **options: pytest.fail("it would ask in the terminal")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setattr(logging, "check_logger", lambda name: None)
    send(model, ["wandb"], tmp_path, range(2))
    (failure,) = (r.getMessage() for r in caplog.records if "logger" in r.getMessage())
    assert "'wandb' failed (RuntimeError: nobody is logged in; type `wandb login`" in failure
    assert failure.endswith("). The training goes on.")


def test_mlflow_without_a_network_is_given_up_soon(
    model, tmp_path, monkeypatch, caplog, tracked_at
):
    monkeypatch.setattr(loggers, "MLFLOW_RETRIES", ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0"))
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
    tracked_at("http://127.0.0.1:9")
    send(model, ["mlflow"], tmp_path, range(2))
    (failure,) = (r.getMessage() for r in caplog.records if "logger" in r.getMessage())
    assert failure.startswith("The logger 'mlflow' failed (MlflowException: ")
    assert failure.endswith("). The training goes on.")
    assert "\n" not in failure


def history(record):
    return {
        item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item
    }


def wandb_records(path):
    """Reads an offline run: a header, then LevelDB's log format, here of less than one block."""
    from wandb.proto import wandb_internal_pb2

    data, position, records = path.read_bytes(), 7, []
    assert len(data) < 2**15
    while position < len(data):
        _, length, kind = struct.unpack_from("<IHB", data, position)
        assert kind == 1  # a whole record
        position += 7 + length
        records.append(wandb_internal_pb2.Record.FromString(data[position - length : position]))
    return records
