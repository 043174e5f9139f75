"""Loggers of the figures of a run: Weights & Biases and MLflow."""

import importlib.util
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from reszoo.files import StoredPath, is_stored

# Without a network W&B would wait for 90 seconds and MLflow for 4 minutes. Their own environment
# variables take precedence.
WANDB_SECONDS = ("WANDB_INIT_TIMEOUT", 30)
MLFLOW_RETRIES = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")


class Logger(Protocol):
    """A service to which metrics are sent.

    A custom class is constructed with the work directory, the configuration and the logger's
    identifier of the run to continue, `None` for a new one.
    """

    run_id: str

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Sends the figures of a step."""

    def close(self) -> None:
        """Sends the remaining figures and ends the connection."""


class WandbLogger:
    """Sends figures to Weights & Biases.

    Its environment variables choose project and mode: `WANDB_PROJECT`, `WANDB_MODE=offline`.

    Args:
        workdir: The work directory, which gives the run its name. Files are in its `wandb/`, or in
            `wandb/` of the current directory for a run on `gs://`.
        config: The configuration of the run.
        run_id: Identifier of the run to continue, `None` for a new one.
    """

    def __init__(self, workdir: Path | StoredPath, config: Mapping[str, Any], run_id: str | None):
        import wandb

        # W&B keeps its files open, so they must be on a disk.
        directory = None if is_stored(workdir) else str(workdir)
        # Without a login `init` would ask for one in the terminal, and wait.
        # What W&B read of the environment once, it keeps.
        mode: Any = os.environ.get("WANDB_MODE") or wandb.setup().settings.mode
        if mode == "online" and not wandb.login(prompt=False, verify=False):
            raise RuntimeError(
                "nobody is logged in; type `wandb login`, or set WANDB_API_KEY or "
                "WANDB_MODE=offline"
            )
        variable, seconds = WANDB_SECONDS
        self._started_at = time.time()
        settings: Any = None if variable in os.environ else {"init_timeout": seconds}
        self._run = wandb.init(
            id=run_id,
            resume="allow",
            name=workdir.name,
            mode=mode,
            dir=directory,
            config=dict(config),
            settings=settings,
        )
        self.run_id = self._run.id

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        """Sends the figures of a step."""
        self._run.log(dict(figures), step=step)

    def close(self) -> None:
        """Sends the remaining figures and ends the run."""
        self._run.finish()
        # W&B names the files of a start by its second, and overwrites them within the same second,
        # as after a roll-back.
        time.sleep(max(0.0, self._started_at // 1 + 1 - time.time()))


class MLflowLogger:
    """Sends figures to MLflow.

    Its environment variables set the place: `MLFLOW_TRACKING_URI`, `MLFLOW_EXPERIMENT_NAME`.

    Args:
        workdir: The work directory, which gives the run its name.
        config: The configuration of the run; its fields are the parameters of a new run.
        run_id: Identifier of the run to continue, `None` for a new one.
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
        """Sends the figures of a step."""
        self._mlflow.log_metrics(dict(figures), step=step, run_id=self.run_id)

    def close(self) -> None:
        """Ends the run."""
        self._mlflow.end_run()


# By name, which is also the name of the package and of the extra.
LOGGERS = {"wandb": WandbLogger, "mlflow": MLflowLogger}


def check_logger(name: str) -> None:
    """Checks that a logger exists and that its package is installed.

    Args:
        name: One of `LOGGERS`.

    Raises:
        ValueError: If the name is unknown or the package is missing.
    """
    if name not in LOGGERS:
        raise ValueError(f"There is no logger {name!r}. Give {', '.join(LOGGERS)}.")
    if importlib.util.find_spec(name) is None:
        raise ValueError(
            f'The logger {name!r} needs its package. Install it with: pip install "reszoo[{name}]"'
        )
