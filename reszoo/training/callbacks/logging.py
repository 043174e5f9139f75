"""Figures of each epoch for the loggers of a run."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from absl import logging

from reszoo.files import as_path, write_whole
from reszoo.json_files import read_json, to_json
from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.loggers import LOGGERS, check_logger
from reszoo.training.metrics_file import epoch_figures
from reszoo.training.workdir import LOGGERS_FILE

_SENT = {str: {"run": (str, None), "step": int}}
_CURE = "Restore it, or delete it to send the figures from here on to new runs."


class Logging(LoopCallback):
    """Sends the figures of each epoch, those of the metrics file, to one logger or several.

    A resumed run continues the same run of the logger, and sends no step twice. A logger that fails
    or cannot start is named in a warning and does not stop the training.

    Args:
        names: Names of loggers: `"wandb"`, `"mlflow"`.
        workdir: The work directory; `loggers.json` in it records what was sent.
        config: The configuration of the run, with the fields' full names.

    Raises:
        ValueError: If a name is unknown, or the package of a logger is not installed.
    """

    def __init__(self, names: Sequence[str], workdir: str | os.PathLike, config: Mapping[str, Any]):
        super().__init__()
        for name in names:
            check_logger(name)
        self._workdir = as_path(workdir)
        self._config = config
        self._names = names
        self._sent = {}
        self._loggers = {}

    def on_train_begin(self, logs: Logs = None) -> None:
        path = self._workdir / LOGGERS_FILE
        self._sent = read_json(path, _SENT, _CURE) if path.exists() else {}
        for name in self._names:
            self._send(name, self._start, name)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        figures = epoch_figures(self.model, epoch, logs)
        step = figures.pop("step")
        for name in self._loggers:
            if step > self._sent[name]["step"]:
                self._send(name, self._log, name, step, figures)

    def close(self) -> None:
        """Sends the remaining figures and closes the loggers."""
        for name, logger in self._loggers.items():
            self._send(name, logger.close)
        self._loggers = {}

    def _start(self, name: str) -> None:
        before = self._sent.get(name, {"run": None, "step": -1})
        self._loggers[name] = LOGGERS[name](self._workdir, self._config, before["run"])
        self._note(name, before["step"])

    def _log(self, name: str, step: int, figures: Mapping[str, float]) -> None:
        self._loggers[name].log(step, figures)
        self._note(name, step)

    def _send(self, name: str, call: Callable[..., None], *arguments: Any) -> None:
        try:
            call(*arguments)
        except Exception as error:  # a failure of a logger must not end the training
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            logging.warning("The logger %r failed (%s). The training goes on.", name, reason)

    def _note(self, name: str, step: int) -> None:
        self._sent[name] = {"run": self._loggers[name].run_id, "step": step}
        write_whole(self._workdir / LOGGERS_FILE, to_json(self._sent) + "\n")
