"""Pictures of the confusion matrix in the course of a training, for TensorBoard."""

from collections.abc import Sequence

from reszoo.training.callbacks.confusion_counts import ConfusionCounts
from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.event_files import EventFiles
from reszoo.training.metrics_file import steps_done
from reszoo.training.tensorboard_images import show_confusion


class ConfusionPicture(LoopCallback):
    """Writes a picture of the confusion matrix after some epochs.

    Args:
        files: Event files; the picture is written to the run `test`.
        confusion: The counts of every test.
        class_names: Names of the classes, in the order of the logits.
        every_epochs: Number of epochs between two pictures.
    """

    def __init__(
        self,
        files: EventFiles,
        confusion: ConfusionCounts,
        class_names: Sequence[str],
        every_epochs: int,
    ):
        super().__init__()
        self._files = files
        self._confusion = confusion
        self._class_names = class_names
        self._every_epochs = every_epochs

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        counts = self._confusion.counts
        if counts is None or (epoch + 1) % self._every_epochs:
            return
        show_confusion(self._files, counts, self._class_names, steps_done(self.model))
