"""Resuming of a run from its work directory, if the files there are of the same run."""

from pathlib import Path

import tensorflow as tf
from absl import logging
from ml_collections import ConfigDict

from reszoo.data import Pipeline
from reszoo.files import StoredPath, write_whole
from reszoo.json_files import read_json, to_json
from reszoo.training.callbacks.create import RunCallbacks
from reszoo.training.checkpoint_files import BEST_FILE
from reszoo.training.config import complete
from reszoo.training.data_description import check_same_data, describe_data
from reszoo.training.identity import identity_of
from reszoo.training.lock import LeasedLock, WorkdirLock
from reszoo.training.metrics_file import lasting, read_metrics
from reszoo.training.provenance import write_provenance
from reszoo.training.strategy import check_same_place
from reszoo.training.workdir import (
    CHECKPOINTS_DIRECTORY,
    CONFIG_FILE,
    METRICS_FILE,
    MODEL_FILE,
    PROVENANCE_FILE,
    SUMMARY_FILE,
)


def take_up(
    config: ConfigDict,
    workdir: Path | StoredPath,
    pipeline: Pipeline,
    strategy: tf.distribute.Strategy,
    callbacks: RunCallbacks,
    lock: WorkdirLock | LeasedLock | None,
) -> None:
    """Resumes a run from its work directory, after a check of all its files.

    Args:
        config: The configuration, complete.
        workdir: The work directory, to which the chief writes configuration and data description.
        pipeline: The batches of the run.
        strategy: The devices of the run.
        callbacks: The callbacks of the run; their state and weights become those of the last
            checkpoint.
        lock: The lock of the work directory, in the chief; it is released on failure.

    Raises:
        ValueError: If the directory belongs to another run, or files of this one are lost.
    """
    fresh = not callbacks.checkpoints.files
    try:
        with strategy.scope():
            _restore(config, workdir, pipeline, callbacks)
        check_same_place(strategy, [callbacks.state.epoch, callbacks.state.batch])
        if lock:
            lock.check()
            text = to_json(config.to_dict(), indent=2) + "\n"
            write_whole(workdir / CONFIG_FILE, text)
            describe_data(pipeline).write(workdir)
            write_provenance(workdir / PROVENANCE_FILE, config.seed)
    except BaseException:
        if lock and fresh:
            lock.delete()
        elif lock:
            lock.release()
        raise


def _restore(
    config: ConfigDict, workdir: Path | StoredPath, pipeline: Pipeline, callbacks: RunCallbacks
) -> None:
    checkpoints, state = callbacks.checkpoints, callbacks.state
    config_file = workdir / CONFIG_FILE
    # Another start may have written it since the first check.
    check_no_other_run(config, workdir)
    check_same_data(workdir, describe_data(pipeline))
    if not checkpoints.restore():
        _check_nothing_lost(workdir)
        return
    if not config_file.exists():
        if not checkpoints.restored:
            raise ValueError(
                f"{workdir} holds checkpoints but no {CONFIG_FILE}, so nobody knows whether "
                "they are of this configuration. Put it back, or give another workdir."
            )
        logging.warning(
            "%s was not there. It is written again, for the checkpoints are of this configuration.",
            config_file,
        )
    if not state.has_history:  # of an earlier version
        lines = read_metrics(workdir / METRICS_FILE)
        state.history = tuple(lasting(line) for line in lines if line["epoch"] <= state.epoch)
    callbacks.best.take_up()
    if state.batch and state.epoch >= config.epochs:
        raise ValueError(
            f"{workdir} holds a run that is in its epoch {state.epoch + 1} already. Give "
            f"--config.epochs={state.epoch + 1} or more, or another workdir."
        )


def _check_nothing_lost(workdir: Path | StoredPath) -> None:
    """Checks that a run without checkpoints has left no files that a new start would overwrite."""
    names = (METRICS_FILE, MODEL_FILE, SUMMARY_FILE, f"{CHECKPOINTS_DIRECTORY}/{BEST_FILE}")
    left = [name for name in names if _holds_something(workdir / name)]
    if left:
        raise ValueError(
            f"{workdir} holds {', '.join(left)} of a run, but "
            f"{workdir / CHECKPOINTS_DIRECTORY} has no checkpoint to go on from. Put the "
            "checkpoints back, or give another workdir to start afresh."
        )


def _holds_something(path: Path | StoredPath) -> bool:
    return path.exists() and len(path.read_bytes()) > 0


def check_no_other_run(config: ConfigDict, workdir: Path | StoredPath) -> None:
    """Checks that a work directory holds no run of another configuration.

    Raises:
        ValueError: If it does, or the configuration there cannot be read.
    """
    path = workdir / CONFIG_FILE
    if path.exists():
        identity_of(config).check_same(identity_of(_config_of(path)), str(workdir))


def _config_of(path: Path | StoredPath) -> ConfigDict:
    cure = (
        "Restore it from the configuration that the run was started with, or give another workdir."
    )
    fields = read_json(path, {}, cure)
    try:
        return complete(ConfigDict(fields))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"{path} cannot be read: {reason}. {cure}") from error
