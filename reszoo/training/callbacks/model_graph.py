"""The graph of the model, for TensorBoard."""

import tensorflow as tf

from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.event_files import EventFiles


class ModelGraph(LoopCallback):
    """Writes the graph of the model, from images to logits.

    It does so after the first epoch, so that no first step waits for it.

    Args:
        files: Event files; the graph is written to the run `train`.
    """

    def __init__(self, files: EventFiles):
        super().__init__()
        self._files = files

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        if epoch:
            return
        answer = tf.function(lambda images: self.model(images, training=False), autograph=False)
        images = tf.TensorSpec((None, *self.model.input_shape[1:]))
        graph = answer.get_concrete_function(images).graph
        with self._files.writing("train", step=0):
            tf.summary.graph(graph)
