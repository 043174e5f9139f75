"""The first training images, for TensorBoard."""

from reszoo.data import Pipeline
from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.event_files import EventFiles
from reszoo.training.state import TrainingState
from reszoo.training.tensorboard_images import show_examples


class ExampleImages(LoopCallback):
    """Shows the first training images as the model sees them, when the training begins.

    Args:
        files: Where to write; the run is `train`.
        pipeline: The batches.
        state: Where the training is; one that goes on has shown them.
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
