"""The graph of the model, for TensorBoard."""

import tensorflow as tf

from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.event_files import EventFiles
from reszoo.training.state import TrainingState


class ModelGraph(LoopCallback):
    """Writes the graph of the model, from images to logits, when the training begins.

    Args:
        files: Event files; the graph is written to the run `train`.
        state: Position of the training; a resumed run has written it before.
    """

    def __init__(self, files: EventFiles, state: TrainingState):
        super().__init__()
        self._files = files
        self._state = state

    def on_train_begin(self, logs: Logs = None) -> None:
        if self._state.has_begun:
            return
        answer = tf.function(lambda images: self.model(images, training=False), autograph=False)
        images = tf.TensorSpec((None, *self.model.input_shape[1:]))
        graph = answer.get_concrete_function(images).graph
        with self._files.writing("train", step=0):
            tf.summary.graph(graph)
