"""What shows, records and saves a run."""

from pathlib import Path

import keras
from ml_collections import ConfigDict

from reszoo.data import Pipeline
from reszoo.files import StoredPath
from reszoo.gradients import GradientRecorder
from reszoo.training.callbacks.checkpoints import Checkpoints
from reszoo.training.callbacks.guards import BestEpoch, FiniteLoss, StopOnSignal
from reszoo.training.callbacks.profiler import Profiler
from reszoo.training.callbacks.progress import Progress
from reszoo.training.config import flat
from reszoo.training.confusion import ConfusionCounts
from reszoo.training.event_files import EventFiles
from reszoo.training.loggers import Logging
from reszoo.training.metrics_file import METRICS_FILE, MetricsLog, TensorBoardScalars
from reszoo.training.state import TrainingState
from reszoo.training.tensorboard_images import ConfusionPicture, ExampleImages, ModelGraph


def create_callbacks(
    config: ConfigDict,
    workdir: Path | StoredPath,
    pipeline: Pipeline,
    state: TrainingState,
    kept: tuple[BestEpoch, Checkpoints, ConfusionCounts],
    chief: bool,
) -> list[keras.callbacks.Callback]:
    """Returns the callbacks of a run, in the order in which they are called.

    Args:
        config: The configuration, complete.
        workdir: The work directory.
        pipeline: The batches.
        state: Where the training is.
        kept: Those that the run itself asks: what notes the best epoch, what saves it, and what
            counts the answers of each test.
        chief: Whether this process is the one that shows and writes.

    Raises:
        ValueError: If an option is out of range.
    """
    best, checkpoints, confusion = kept
    shown = [
        Progress(config.batch_size, state),
        MetricsLog(workdir / METRICS_FILE, state),
        *_tensorboard(config.tensorboard, workdir, pipeline, state, confusion),
        *_loggers(config, workdir),
    ]
    recorders = _recorders(config.recording, workdir / "gradients")
    checkpoints.before_saving = [recorder.flush for recorder in recorders]
    return [
        FiniteLoss(state),
        best,
        confusion,
        *(shown if chief else []),
        *_profiler(config, workdir, pipeline, chief),
        *recorders,
        checkpoints,  # after the logs: what is in a checkpoint is in them already
        StopOnSignal(checkpoints, state),
    ]


def _tensorboard(options, workdir, pipeline, state, confusion):
    files = EventFiles(workdir)
    callbacks = [TensorBoardScalars(files)]
    if options.examples:
        callbacks.append(ExampleImages(files, pipeline, state))
    if options.graph:
        callbacks.append(ModelGraph(files, state))
    if options.confusion_every_epochs:
        names, every_epochs = pipeline.source.class_names, options.confusion_every_epochs
        callbacks.append(ConfusionPicture(files, confusion, names, every_epochs))
    return callbacks


def _loggers(config, workdir):
    return [Logging(config.loggers, workdir, flat(config.to_dict()))] if config.loggers else []


def _profiler(config, workdir, pipeline, writes):
    steps, batches = config.tensorboard.profile_steps, config.epochs * pipeline.steps_per_epoch
    if not steps:
        return []
    if steps[0] >= batches:
        raise ValueError(
            f"tensorboard.profile_steps must begin within the {batches:,} batches of the run, but "
            f"got {steps}."
        )
    return [Profiler(workdir / "train", steps, pipeline.steps_per_epoch, writes)]


def _recorders(config, log_dir):
    options = config.to_dict()
    if options["every_steps"] == 0:
        return []
    return [GradientRecorder(str(log_dir), **options)]
