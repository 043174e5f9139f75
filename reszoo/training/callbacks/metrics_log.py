"""The lines of the metrics file, written after each epoch."""

import os

from reszoo.files import append_text, as_path
from reszoo.json_files import to_json
from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.metrics_file import epoch_figures, mend_metrics
from reszoo.training.state import TrainingState


class MetricsLog(LoopCallback):
    """Appends one line of JSON to a file after each epoch.

    | key | meaning |
    |---|---|
    | `epoch` | epochs done |
    | `step` | optimizer steps done |
    | `train_loss`, `train_accuracy` | means over the epoch's training images, during training |
    | `test_loss`, `test_accuracy` | means over all test images, after the epoch |
    | `test_top5_accuracy` | share of the test images whose class is among the five best answers |
    | `learning_rate` | learning rate of the next step |
    | `images_per_second` | training images, over the epoch's training time |

    A figure that is not a finite number is `null`.

    Args:
        path: The file.
        state: Position of the training. Lines of later epochs are removed when training begins:
            the run was interrupted before the checkpoint of that epoch, and writes them again.
            Lines that are missing or broken are written again from the history.
    """

    def __init__(self, path: str | os.PathLike, state: TrainingState):
        super().__init__()
        self._path = as_path(path)
        self._state = state

    def on_train_begin(self, logs: Logs = None) -> None:
        mend_metrics(self._path, self._state)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        figures = epoch_figures(self.model, epoch, logs)
        append_text(self._path, to_json(figures) + "\n")
