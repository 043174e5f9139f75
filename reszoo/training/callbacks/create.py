"""The callbacks of a run, from its configuration."""

import dataclasses
from pathlib import Path

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from reszoo.data import Pipeline
from reszoo.files import StoredPath
from reszoo.gradients import (
    Alarm,
    DeadBranch,
    Exploding,
    GradientRecorder,
    NonFinite,
    SaturatedScale,
    Vanishing,
)
from reszoo.gradients.blocks import find_blocks
from reszoo.gradients.log import GRADIENTS_DIRECTORY
from reszoo.gradients.path_lengths import check_series
from reszoo.training.callbacks.best_epoch import BestEpoch
from reszoo.training.callbacks.checkpoints import Checkpoints
from reszoo.training.callbacks.confusion_counts import ConfusionCounts
from reszoo.training.callbacks.confusion_picture import ConfusionPicture
from reszoo.training.callbacks.example_images import ExampleImages
from reszoo.training.callbacks.finite_loss import FiniteLoss
from reszoo.training.callbacks.hyperparameters import Hyperparameters
from reszoo.training.callbacks.logging import Logging
from reszoo.training.callbacks.loop_callback import LoopCallback
from reszoo.training.callbacks.metrics_log import MetricsLog
from reszoo.training.callbacks.model_graph import ModelGraph
from reszoo.training.callbacks.path_lengths import PathLengths, check_one_device
from reszoo.training.callbacks.profiler import Profiler
from reszoo.training.callbacks.progress import Progress
from reszoo.training.callbacks.stop_on_signal import StopOnSignal
from reszoo.training.callbacks.tensorboard_scalars import TensorBoardScalars
from reszoo.training.config import flat
from reszoo.training.event_files import EventFiles
from reszoo.training.identity import identity_of
from reszoo.training.state import TrainingState
from reszoo.training.workdir import CHECKPOINTS_DIRECTORY, METRICS_FILE, PATH_LENGTHS_FILE

# By the names that they have in a configuration, each with its limit.
_ALARMS = {
    "nonfinite": lambda _: NonFinite(),
    "vanishing": lambda limit: Vanishing(fraction=limit),
    "exploding": lambda limit: Exploding(multiple=limit),
    "dead_branch": lambda limit: DeadBranch(recorded_steps=limit),
    "saturated_scale": lambda limit: SaturatedScale(share=limit),
}


@dataclasses.dataclass(frozen=True)
class RunCallbacks:
    """The callbacks of a run.

    Args:
        in_order: All callbacks, in the order in which they are called; the next ones included.
        state: Position of the training; the loop and the callbacks keep it up to date.
        best: The callback that keeps the best epoch.
        checkpoints: The callback that saves the run.
        confusion: The callback that counts the answers of each test.
    """

    in_order: list[keras.callbacks.Callback]
    state: TrainingState
    best: BestEpoch
    checkpoints: Checkpoints
    confusion: ConfusionCounts


def create_callbacks(
    config: ConfigDict,
    workdir: Path | StoredPath,
    pipeline: Pipeline,
    model: keras.Model,
    chief: bool,
) -> RunCallbacks:
    """Returns the callbacks of a run. Must be called in the scope of its strategy.

    Args:
        config: The configuration, complete.
        workdir: The work directory, to which the callbacks write.
        pipeline: The batches of the run.
        model: The compiled model.
        chief: Whether this process is the one that shows progress and writes files.

    Raises:
        ValueError: If an option is out of range.
    """
    state = TrainingState()
    best = BestEpoch(state, **config.best.to_dict())
    checkpoints = Checkpoints(
        workdir / CHECKPOINTS_DIRECTORY,
        model,
        state,
        writes=chief,
        identity=identity_of(config, pipeline.source.digest),
        **config.checkpoint.to_dict(),
    )
    confusion = ConfusionCounts(pipeline.source.num_classes)
    shown = [
        Progress(config.batch_size, state),
        MetricsLog(workdir / METRICS_FILE, state),
        *_tensorboard(config, workdir, pipeline, state, confusion),
        *_loggers(config, workdir),
        *_path_lengths(config, workdir, pipeline, model),
    ]
    recorders = _recorders(config.recording, workdir / GRADIENTS_DIRECTORY)
    checkpoints.before_saving = [recorder.flush for recorder in recorders]
    in_order = [
        FiniteLoss(state),
        best,
        confusion,
        *(shown if chief else []),
        *_profiler(config, workdir, pipeline, chief),
        *recorders,
        checkpoints,  # after the logs, which then hold everything up to a checkpoint
        StopOnSignal(checkpoints, state),
    ]
    return RunCallbacks(in_order, state, best, checkpoints, confusion)


def _tensorboard(
    config: ConfigDict,
    workdir: Path | StoredPath,
    pipeline: Pipeline,
    state: TrainingState,
    confusion: ConfusionCounts,
) -> list[LoopCallback]:
    files, options = EventFiles(workdir), config.tensorboard
    callbacks: list[LoopCallback] = [
        TensorBoardScalars(files),
        Hyperparameters(files, flat(config.to_dict()), state),
    ]
    if options.examples:
        callbacks.append(ExampleImages(files, pipeline))
    if options.graph:
        callbacks.append(ModelGraph(files))
    if options.confusion_every_epochs:
        names, every_epochs = pipeline.source.class_names, options.confusion_every_epochs
        callbacks.append(ConfusionPicture(files, confusion, names, every_epochs))
    return callbacks


def _loggers(config: ConfigDict, workdir: Path | StoredPath) -> list[Logging]:
    return [Logging(config.loggers, workdir, flat(config.to_dict()))] if config.loggers else []


def _path_lengths(
    config: ConfigDict, workdir: Path | StoredPath, pipeline: Pipeline, model: keras.Model
) -> list[PathLengths]:
    samples = config.recording.path_lengths
    if not samples:
        return []
    check_one_device(tf.distribute.get_strategy())
    check_series(find_blocks(model))
    return [PathLengths(workdir / PATH_LENGTHS_FILE, pipeline, samples, config.seed)]


def _profiler(
    config: ConfigDict, workdir: Path | StoredPath, pipeline: Pipeline, writes: bool
) -> list[Profiler]:
    steps, batches = config.tensorboard.profile_steps, config.epochs * pipeline.steps_per_epoch
    if not steps:
        return []
    if steps[0] >= batches:
        raise ValueError(
            f"tensorboard.profile_steps must begin within the {batches:,} batches of the run, but "
            f"got {steps}."
        )
    return [Profiler(workdir / "train", steps, pipeline.steps_per_epoch, writes)]


def _recorders(options: ConfigDict, log_dir: Path | StoredPath) -> list[GradientRecorder]:
    if options.every_steps == 0:
        return []
    alarms = _alarms(options)
    return [GradientRecorder(str(log_dir), options.every_steps, options.statistics, alarms)]


def _alarms(options: ConfigDict) -> list[Alarm]:
    if "paths" not in options.statistics:  # which all of them look at
        return []
    return [_ALARMS[name](limit) for name, limit in options.alarms.items() if limit]
