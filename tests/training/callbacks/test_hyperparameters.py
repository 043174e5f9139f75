from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata
from tensorboard.util import tensor_util

from reszoo.training.callbacks.hyperparameters import Hyperparameters
from reszoo.training.event_files import EventFiles
from reszoo.training.state import TrainingState

FIELDS = {"data.name": "folder:a|b", "epochs": 3, "optimizer.momentum": 0.9, "loggers": ()}


def write(workdir, model, state):
    files = EventFiles(workdir)
    callback = Hyperparameters(files, FIELDS, state)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, accuracy in enumerate([0.5, 0.75, 0.25]):
        state.history = (*state.history, {"epoch": epoch + 1, "test_accuracy": accuracy})
        callback.on_epoch_end(epoch, {})
    files.close()
    return EventAccumulator(str(workdir / "test")).Reload()


def test_the_fields_are_hyperparameters_and_a_text_with_the_best_accuracy(tmp_path, model):
    events = write(tmp_path, model, TrainingState())
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    found = metadata.parse_session_start_info_plugin_data(content).hparams
    assert found["epochs"].number_value == 3
    assert found["optimizer.momentum"].number_value == 0.9
    assert found["data.name"].string_value == "folder:a|b"
    assert found["loggers"].string_value == "()"
    (text,) = events.Tensors("config")
    rows = tensor_util.make_ndarray(text.tensor_proto).item().decode().splitlines()
    assert len(rows) == 2 + len(FIELDS)
    assert "epochs" in rows[3]
    best = [
        float(tensor_util.make_ndarray(e.tensor_proto)) for e in events.Tensors("best_accuracy")
    ]
    assert best == [0.5, 0.75, 0.75]


def test_a_run_that_goes_on_does_not_write_them_again(tmp_path, model):
    events = write(tmp_path, model, TrainingState(epoch=1))
    assert events.Tags()["tensors"] == ["best_accuracy"]
