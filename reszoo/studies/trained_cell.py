"""Training of a cell: by a configuration, through the same loop and recorder as `train.py`."""

import contextlib
import dataclasses
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from reszoo.files import written_whole
from reszoo.gradients import load
from reszoo.gradients.log.format import GRADIENTS_DIRECTORY
from reszoo.training import RunError, prepare
from reszoo.training.metrics_file import read_metrics
from reszoo.training.run import Run
from reszoo.training.state import NonFiniteError
from reszoo.training.workdir import (
    CHECKPOINTS_DIRECTORY,
    METRICS_FILE,
    MODEL_FILE,
)

# Where Debian's package dataset-fashion-mnist has its files.
_FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
_FIRST_WEIGHTS = "first_weights.npz"


@dataclasses.dataclass(frozen=True)
class TrainedRun:
    """A finished training.

    Args:
        run: The run, with the trained model.
        first_weights: Values of all weights before the first step, by path.
        diverged: The reason why training ended early, or "".
    """

    run: Run
    first_weights: Mapping[str, np.ndarray]
    diverged: str

    @property
    def accuracy(self) -> float:
        """Share of the test images that are right after the last epoch, NaN if it diverged."""
        return self._last("test_accuracy")

    @property
    def test_loss(self) -> float:
        """Mean loss of the test images after the last epoch, NaN if it diverged."""
        return self._last("test_loss")

    def _last(self, figure: str) -> float:
        if self.diverged:
            return np.nan
        return float(read_metrics(self.run.workdir / METRICS_FILE)[-1][figure])

    @property
    def gradients(self) -> pd.DataFrame:
        """The log of the recorder, from `reszoo.gradients.load`."""
        return load(str(self.run.workdir / GRADIENTS_DIRECTORY))


def train(
    config: ConfigDict, folder: Path, at_start: Callable[[keras.Model], None] | None = None
) -> TrainedRun:
    """Trains by a configuration; a training that was killed goes on from its last checkpoint.

    The checkpoints and the saved model are removed at the end; the metrics and the log stay.

    Args:
        config: The configuration, as `train.py` takes it.
        folder: The work directory.
        at_start: Called with the model before the first step, to set weights whose first values a
            configuration does not choose.

    Raises:
        RunError: If the training had to stop for another reason than a loss that is not finite.
    """
    run, diverged = prepare(config, folder), ""
    if at_start and not run.state.has_begun:
        at_start(run.model)
    first = folder / _FIRST_WEIGHTS
    if not first.exists():
        with written_whole(first) as partial, open(partial, "wb") as file:
            np.savez(file, **{weight.path: weight.numpy() for weight in run.model.weights})
    try:
        with contextlib.redirect_stdout(sys.stderr):  # which the driver writes to a file
            run.train()
    except RunError as error:
        if not isinstance(error.__cause__, NonFiniteError):
            raise  # told to stop, or a full disk: the cell is measured again, from the checkpoint
        diverged = str(error)
    shutil.rmtree(folder / CHECKPOINTS_DIRECTORY, ignore_errors=True)
    (folder / MODEL_FILE).unlink(missing_ok=True)
    with np.load(first) as weights:
        return TrainedRun(run, dict(weights), diverged)


def is_finished(config: ConfigDict, folder: Path) -> bool:
    """Returns whether a training by a configuration is at its end.

    Args:
        config: The configuration.
        folder: Its work directory.
    """
    metrics = read_metrics(folder / METRICS_FILE)
    return bool(metrics) and metrics[-1]["epoch"] == config.epochs


def fashion_mnist() -> str:
    """Source of Fashion-MNIST: Debian's package if it is installed, else TensorFlow Datasets."""
    return f"idx:{_FASHION_MNIST}" if _FASHION_MNIST.is_dir() else "tfds:fashion_mnist"


def configuration(fields: Mapping[str, Any]) -> ConfigDict:
    """Returns a configuration from its fields by dotted names.

    Args:
        fields: Values by name, such as `{"model.name": "resnet20", "epochs": 1}`.

    Example:

    >>> configuration({"model.name": "resnet20", "epochs": 1}).model.name
    'resnet20'
    """
    config = ConfigDict()
    for name, value in fields.items():
        *groups, last = name.split(".")
        part: Any = config
        for group in groups:
            if group not in part:
                part[group] = ConfigDict()
            part = part[group]
        part[last] = value
    return config
