"""The first training images, for TensorBoard."""

from reszoo.data import Pipeline
from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.event_files import EventFiles
from reszoo.training.state import TrainingState
from reszoo.training.tensorboard_images import show_examples


class ExampleImages(LoopCallback):
    """Writes a picture of the first training images, as the model gets them.

    Args:
        files: Event files; the picture is written to the run `train`.
        pipeline: The batches of the run.
        state: Position of the training; a resumed run has written them before.
    """

    def __init__(self, files: EventFiles, pipeline: Pipeline, state: TrainingState):
        super().__init__()
        self._files = files
        self._pipeline = pipeline
        self._state = state

    def on_train_begin(self, logs: Logs = None) -> None:
        if self._state.has_begun:
            return
        images, labels = next(iter(self._pipeline.train_batches(epoch=0)))
        names = self._pipeline.source.class_names
        show_examples(self._files, images.numpy(), labels.numpy(), names)
