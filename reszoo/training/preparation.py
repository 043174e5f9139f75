"""Preparation of a run, from its configuration and what is in its work directory."""

import os
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging
from ml_collections import ConfigDict

from reszoo.data import Pipeline
from reszoo.distribution import is_chief
from reszoo.files import StoredPath, as_path
from reszoo.training.callbacks.create import create_callbacks
from reszoo.training.callbacks.held_workdir import HeldWorkdir
from reszoo.training.config import checked, flat, without_effect
from reszoo.training.lock import lock_workdir
from reszoo.training.loop_checks import check_ready
from reszoo.training.model import create_compiled_model
from reszoo.training.pipeline import create_pipeline
from reszoo.training.resume import check_no_other_run, take_up
from reszoo.training.run import Run
from reszoo.training.strategy import check_same_run, create_strategy
from reszoo.training.workdir import make_writable, no_directory_left


def prepare(config: ConfigDict, workdir: str | os.PathLike) -> Run:
    """Makes everything that a run needs, and takes up what is in its work directory.

    Args:
        config: The configuration; `configs/digits_resnet18.py` explains its fields.
        workdir: The work directory, local or `gs://`, made if it is missing.

    Returns:
        The run, whose `train()` trains.

    Raises:
        ValueError: If the configuration does not fit together, or the work directory holds a run
            of another configuration or cannot be written.
    """
    config = checked(config)
    strategy = create_strategy(config.strategy)  # before anything else of TensorFlow
    workdir = as_path(workdir).absolute()
    with no_directory_left(workdir):
        make_writable(workdir)
        check_no_other_run(config, workdir)  # soon; it counts once nobody else writes
        _warn_of_no_effect(config)
        _make_reproducible(config)
        pipeline = create_pipeline(config)
        check_same_run(strategy, flat(config.to_dict()), pipeline.source.digest)
        run = _create_run(config, workdir, pipeline, strategy)
        take_up(run)
        return run


def _create_run(
    config: ConfigDict,
    workdir: Path | StoredPath,
    pipeline: Pipeline,
    strategy: tf.distribute.Strategy,
) -> Run:
    chief = is_chief(strategy)
    with strategy.scope():
        model = create_compiled_model(config, pipeline)
        check_ready(model, config.batch_size, strategy, config.jit_compile)
        callbacks = create_callbacks(config, workdir, pipeline, model, chief)
    # Only now, so that what is refused leaves no file behind.
    lock = lock_workdir(workdir) if chief else None
    if lock:
        callbacks.in_order.insert(0, HeldWorkdir(lock))
        callbacks.checkpoints.before_saving.insert(0, lock.check)
    return Run(
        config=config,
        workdir=workdir,
        pipeline=pipeline,
        strategy=strategy,
        model=model,
        callbacks=callbacks,
        lock=lock,
    )


def _warn_of_no_effect(config: ConfigDict) -> None:
    fields = without_effect(config)
    if fields:
        logging.warning("%d field(s) have no effect: %s.", len(fields), ", ".join(fields))


def _make_reproducible(config: ConfigDict) -> None:
    keras.config.set_dtype_policy(config.dtype)
    keras.utils.set_random_seed(config.seed)
    # It reorders products whose parts nobody else reads, so that looking at a gradient would change
    # the last bit of an update. Without it no step was measured slower.
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
