"""The first training images, for TensorBoard."""

from reszoo.data import Pipeline
from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.event_files import EventFiles
from reszoo.training.tensorboard_images import show_examples


class ExampleImages(LoopCallback):
    """Writes a picture of the first training images, as the model gets them.

    It does so after the first epoch, so that no first step waits for it.

    Args:
        files: Event files; the picture is written to the run `train`.
        pipeline: The batches of the run.
    """

    def __init__(self, files: EventFiles, pipeline: Pipeline):
        super().__init__()
        self._files = files
        self._pipeline = pipeline

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if epoch:
            return
        images, labels = next(iter(self._pipeline.train_batches(epoch=0)))
        names = self._pipeline.source.class_names
        show_examples(self._files, images.numpy(), labels.numpy(), names)
