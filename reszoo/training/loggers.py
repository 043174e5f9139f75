"""Sends the figures of a run to Weights & Biases or to MLflow."""

import importlib.util
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import keras
from absl import logging

from reszoo.files import StoredPath, as_path, is_stored, write_whole
from reszoo.json_files import read_json, to_json
from reszoo.training.metrics_file import epoch_figures

LOGGERS_FILE = "loggers.json"

# Without a network W&B would wait for 90 seconds and MLflow for 4 minutes. Their own environment
# variables say otherwise.
WANDB_SECONDS = ("WANDB_INIT_TIMEOUT", 30)
MLFLOW_RETRIES = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")

_SENT = {str: {"run": (str, None), "step": int}}
_CURE = "Restore it, or delete it to send the figures from here on to new runs."


class Logger(Protocol):
    """What figures can be sent to.

    A class of one's own takes the work directory, the configuration and the identity of the run
    that goes on, `None` for a new one.
    """

    run_id: str

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Sends figures of a step."""

    def close(self) -> None:
        """Sends what is left."""


class WandbLogger:
    """Sends figures to Weights & Biases.

    Its own environment variables say where and how: `WANDB_PROJECT`, `WANDB_MODE=offline`.

    Args:
        workdir: The work directory; its name is that of the run, and `wandb/` in it has its files,
            or that in the current directory for a run on `gs://`.
        config: The configuration of the run.
        run_id: The run that goes on, `None` for a new one.
    """

    def __init__(self, workdir: Path | StoredPath, config: Mapping[str, Any], run_id: str | None):
        import wandb

        # Its own files are open while it runs, so they are on a disk.
        directory = None if is_stored(workdir) else str(workdir)
        variable, seconds = WANDB_SECONDS
        self._started_at = time.time()
        self._run = wandb.init(
            id=run_id,
            resume="allow",
            name=workdir.name,
            dir=directory,
            config=dict(config),
            settings=None if variable in os.environ else {"init_timeout": seconds},
        )
        self.run_id = self._run.id

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Sends figures of a step."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """Sends what is left."""
        self._run.finish()
        # W&B names the files of a start by its second, and would write over them in the same one,
        # as after a roll-back.
        time.sleep(max(0.0, self._started_at // 1 + 1 - time.time()))


class MLflowLogger:
    """Sends figures to MLflow.

    Its own environment variables say where: `MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME`.

    Args:
        workdir: The work directory; its name is that of the run.
        config: The configuration of the run; its fields are the parameters of a new run.
        run_id: The run that goes on, `None` for a new one.
    """

    def __init__(self, workdir: Path | StoredPath, config: Mapping[str, Any], run_id: str | None):
        import mlflow

        os.environ.setdefault(*MLFLOW_RETRIES)
        self._mlflow = mlflow
        name = None if run_id else workdir.name
        self.run_id = mlflow.start_run(run_id=run_id, run_name=name).info.run_id
        if run_id is None:
            mlflow.log_params(dict(config))

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Sends figures of a step."""
        self._mlflow.log_metrics(dict(figures), step=step, run_id=self.run_id)

    def close(self) -> None:
        """Ends the run."""
        self._mlflow.end_run()


# By name, which is that of the package and of the extra too.
LOGGERS = {"wandb": WandbLogger, "mlflow": MLflowLogger}


class Logging(keras.callbacks.Callback):
    """Sends the figures of each epoch, those of the metrics file, to one logger or several.

    A run that is taken up again goes on in the same run there, and sends no step twice. A logger
    that fails, or cannot start, is named in a warning and does not stop the training.

    Args:
        names: Names of loggers: `"wandb"`, `"mlflow"`.
        workdir: The work directory; `loggers.json` in it holds what was sent.
        config: The configuration of the run, with the fields' full names.

    Raises:
        ValueError: If there is no such logger, or its package is missing.
    """

    def __init__(self, names: Sequence[str], workdir: str | Path, config: Mapping[str, Any]):
        super().__init__()
        for name in names:
            _check(name)
        self._workdir = as_path(workdir)
        self._config = config
        self._names = names
        self._sent = {}
        self._loggers = {}

    def on_train_begin(self, logs=None):
        path = self._workdir / LOGGERS_FILE
        self._sent = read_json(path, _SENT, _CURE) if path.exists() else {}
        for name in self._names:
            self._send(name, self._start, name)

    def on_epoch_end(self, epoch, logs=None):
        figures = epoch_figures(self.model, epoch, logs)
        step = figures.pop("step")
        for name in self._loggers:
            if step > self._sent[name]["step"]:
                self._send(name, self._log, name, step, figures)

    def close(self) -> None:
        """Sends what is left."""
        for name, logger in self._loggers.items():
            self._send(name, logger.close)
        self._loggers = {}

    def _start(self, name):
        before = self._sent.get(name, {"run": None, "step": -1})
        self._loggers[name] = LOGGERS[name](self._workdir, self._config, before["run"])
        self._note(name, before["step"])

    def _log(self, name, step, figures):
        self._loggers[name].log(step, figures)
        self._note(name, step)

    def _send(self, name, call, *arguments):
        try:
            call(*arguments)
        except Exception as error:  # no logger is worth a training
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            logging.warning("The logger %r failed (%s). The training goes on.", name, reason)

    def _note(self, name, step):
        self._sent[name] = {"run": self._loggers[name].run_id, "step": step}
        write_whole(self._workdir / LOGGERS_FILE, to_json(self._sent) + "\n")


def _check(name):
    if name not in LOGGERS:
        raise ValueError(f"There is no logger {name!r}. Give {', '.join(LOGGERS)}.")
    if importlib.util.find_spec(name) is None:
        raise ValueError(
            f'The logger {name!r} needs its package. Install it with: pip install "reszoo[{name}]"'
        )
