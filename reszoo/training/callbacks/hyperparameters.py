"""The configuration of a run for TensorBoard: as text, and as hyperparameters."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

from reszoo.names import escaped_markdown, printable
from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.event_files import EventFiles
from reszoo.training.metrics_file import steps_done
from reszoo.training.state import TrainingState


class Hyperparameters(LoopCallback):
    """Writes the configuration when the training begins, and the best accuracy after each epoch.

    The tab HParams shows the fields of each run beside the figures of its tests, the scalar
    `best_accuracy` among them, and the tab Text a table of the fields.

    Args:
        files: Event files; all is written to the run `test`.
        fields: The fields of the configuration, by their full names.
        state: Position of the training; a resumed run has written them before.
    """

    def __init__(self, files: EventFiles, fields: Mapping[str, Any], state: TrainingState):
        super().__init__()
        self._files = files
        self._fields = fields
        self._state = state

    def on_train_begin(self, logs: Logs = None) -> None:
        if self._state.has_begun:
            return
        with self._files.writing("test", step=0):
            tf.summary.text("config", _as_markdown(self._fields))
            hparams.hparams({name: _as_value(value) for name, value in self._fields.items()})

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        best = max(figures["test_accuracy"] for figures in self._state.history)
        with self._files.writing("test", steps_done(self.model)):
            tf.summary.scalar("best_accuracy", best)


def _as_markdown(fields: Mapping[str, Any]) -> str:
    rows = (
        f"| {escaped_markdown(name)} | {escaped_markdown(printable(repr(value)))} |"
        for name, value in fields.items()
    )
    return "\n".join(["| field | value |", "|---|---|", *rows])


def _as_value(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str) else repr(value)
