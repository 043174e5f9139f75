from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util import tensor_util

from reszoo.training.callbacks.tensorboard_scalars import TensorBoardScalars
from reszoo.training.event_files import EventFiles
from tests.training.callbacks.epoch import LOGS


def scalars(directory):
    events = EventAccumulator(str(directory)).Reload()
    return {
        tag: [
            (event.step, float(tensor_util.make_ndarray(event.tensor_proto)))
            for event in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }


def test_tensorboard_reads_the_scalars(tmp_path, model):
    writer = TensorBoardScalars(EventFiles(tmp_path))
    writer.set_model(model)
    writer.on_epoch_end(0, LOGS)
    writer.close()
    assert scalars(tmp_path / "train") == {
        "loss": [(22, 1.0)],
        "accuracy": [(22, 0.5)],
        "top5_accuracy": [(22, 0.875)],
        "learning_rate": [(22, 0.125)],
        "images_per_second": [(22, 100.0)],
    }
    assert scalars(tmp_path / "test") == {
        "loss": [(22, 2.0)],
        "accuracy": [(22, 0.25)],
        "top5_accuracy": [(22, 0.75)],
    }
