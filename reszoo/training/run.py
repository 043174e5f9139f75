"""A run: from a configuration to a trained model in a work directory."""

import dataclasses
import os
import sys
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging
from ml_collections import ConfigDict

from reszoo.data import Pipeline
from reszoo.distribution import is_chief
from reszoo.files import StoredPath, as_path
from reszoo.training.announcement import announcement
from reszoo.training.callbacks.create import RunCallbacks, create_callbacks
from reszoo.training.callbacks.held_workdir import HeldWorkdir
from reszoo.training.config import checked, flat, without_effect
from reszoo.training.failures import as_run_errors
from reszoo.training.lock import LeasedLock, WorkdirLock, lock_workdir
from reszoo.training.loop import fit
from reszoo.training.loop_checks import check_ready
from reszoo.training.metrics_file import mend_metrics
from reszoo.training.model import create_compiled_model, learning_rate_of
from reszoo.training.pipeline import create_pipeline
from reszoo.training.results import Results
from reszoo.training.resume import check_no_other_run, take_up
from reszoo.training.state import NonFiniteError, RunError, TrainingState
from reszoo.training.strategy import check_same_run, create_strategy
from reszoo.training.terminal import columns, flush
from reszoo.training.workdir import METRICS_FILE, make_writable, no_directory_left


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is ready to start or to resume.

    Args:
        config: The configuration, complete.
        workdir: The work directory.
        pipeline: The batches of the run.
        strategy: The devices of the run.
        model: The compiled model, with the weights of the last checkpoint.
        callbacks: The callbacks of the run, with its state.
        lock: The lock of the work directory, which only the chief has.
    """

    config: ConfigDict
    workdir: Path | StoredPath
    pipeline: Pipeline
    strategy: tf.distribute.Strategy
    model: keras.Model
    callbacks: RunCallbacks
    lock: WorkdirLock | LeasedLock | None

    @property
    def state(self) -> TrainingState:
        """Position of the training."""
        return self.callbacks.state

    def train(self) -> None:
        """Trains for the remaining epochs, and saves the model.

        Raises:
            RunError: If the run has to stop before its end; the text says why.
        """
        try:
            with as_run_errors(self.workdir):
                self._train_to_the_end()
        finally:
            if self.lock:
                self.lock.release()

    def _train_to_the_end(self) -> None:
        self._check_held()
        self.callbacks.checkpoints.put_in_order()
        if is_chief(self.strategy):
            mend_metrics(self.workdir / METRICS_FILE, self.state)
        results = self.results
        if self._is_done() and results.are_there:
            model = f"the model is {results.model_file}"
            self._say(f"{self._why_it_ended()}; {model}. {self._how_to_go_on()}")
            return
        room = columns(sys.stdout)
        self._say(announcement(self.config, self.workdir, self.pipeline, self.strategy, room))
        self._train()
        self._check_held()
        if is_chief(self.strategy):
            results.save_model()
            print(results.write_summary(self.callbacks.confusion.counts))
        if self.state.epoch < self.config.epochs:
            self._say(f"{self._why_it_ended()}. {self._how_to_go_on()}")
        self._say(f"The model is {results.model_file}.")

    def _check_held(self) -> None:
        if self.lock:
            self.lock.check()

    def _say(self, text: str) -> None:
        if is_chief(self.strategy):
            print(text)
            flush(sys.stdout)

    def _is_done(self) -> bool:
        return self.callbacks.best.out_of_patience or self.state.epoch >= self.config.epochs

    def _why_it_ended(self) -> str:
        if self.state.epoch >= self.config.epochs:
            return f"All {self.state.epoch} epochs are done"
        options = self.config.best
        return (
            f"The run ended early, after {self.state.epoch} epochs ({options.figure} was best "
            f"after epoch {self.state.best_epoch}, and best.patience is {options.patience})"
        )

    def _how_to_go_on(self) -> str:
        early = self.state.epoch < self.config.epochs
        larger = "--config.best.patience, or 0 for none," if early else "--config.epochs"
        return f"Give a larger {larger} to go on, or another --workdir to start afresh."

    def _train(self) -> None:
        while not self._is_done():
            self._say_where_it_goes_on()
            self._say("Tracing the first step ...")
            try:
                self._fit()
            except NonFiniteError as error:
                self._roll_back(error)

    def _fit(self) -> None:
        rate_factor = self.config.nonfinite.rate_factor**self.state.roll_backs
        self.model.optimizer.learning_rate = learning_rate_of(
            self.config, self.pipeline.steps_per_epoch, rate_factor
        )
        fit(
            self.model,
            self.pipeline,
            epochs=self.config.epochs,
            state=self.state,
            callbacks=self.callbacks.in_order,
            strategy=self.strategy,
            jit_compile=self.config.jit_compile,
        )

    def _say_where_it_goes_on(self) -> None:
        if self.state.has_begun:
            batches = f", batch {self.state.batch}" if self.state.batch else ""
            self._say(f"Going on after epoch {self.state.epoch}{batches}, from {self.workdir}.")

    def _roll_back(self, error: NonFiniteError) -> None:
        """Restores the last checkpoint and lowers the learning rate, or ends the run."""
        options, roll_backs = self.config.nonfinite, self.state.roll_backs
        checkpoints = self.callbacks.checkpoints
        if options.action == "stop" or roll_backs >= options.roll_backs or not checkpoints.files:
            after = f" after {roll_backs} roll-backs" if roll_backs else ""
            raise RunError(
                f"{error} Stopped{after}. {checkpoints.last_in_words} Lower "
                "optimizer.learning_rate in a new workdir, or set nonfinite.action to "
                '"roll_back".'
            ) from error
        checkpoints.restore()
        self.state.roll_backs = roll_backs + 1
        self._say(f"{error} Back to the last checkpoint, at {options.rate_factor} of the rate.")

    @property
    def results(self) -> Results:
        """Results in the work directory."""
        return Results(
            self.config, self.workdir, self.pipeline, self.strategy, self.model, self.state
        )


def prepare(config: ConfigDict, workdir: str | os.PathLike) -> Run:
    """Creates everything that a run needs, and loads the last checkpoint of its work directory.

    Args:
        config: The configuration; `configs/digits_resnet18.py` explains its fields.
        workdir: The work directory, local or `gs://`, made if it is missing.

    Returns:
        The run; its `train()` starts the training.

    Raises:
        ValueError: If the configuration is not valid, or the work directory holds a run
            of another configuration or cannot be written.
    """
    config = checked(config)
    strategy = create_strategy(config.strategy)  # before anything else of TensorFlow
    workdir = as_path(workdir).absolute()
    with no_directory_left(workdir):
        make_writable(workdir)
        check_no_other_run(config, workdir)  # an early error; checked again under the lock
        _warn_of_no_effect(config)
        _make_reproducible(config)
        pipeline = create_pipeline(config)
        check_same_run(strategy, flat(config.to_dict()), pipeline.source.digest)
        run = _create_run(config, workdir, pipeline, strategy)
        take_up(config, workdir, pipeline, strategy, run.callbacks, run.lock)
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
    # Only now, so that a refused run leaves no file behind.
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
    # It reorders products whose parts have no other reader, so that reading a gradient would change
    # the last bit of an update. Without it no step was measurably slower.
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
