"""A whole run: from a configuration to a trained model in a work directory."""

import contextlib
import dataclasses
import os
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging
from ml_collections import ConfigDict

from reszoo.data import Augmentation, Crop, Pipeline, load_source
from reszoo.distribution import is_chief
from reszoo.files import StoredPath, as_path, is_stored, write_whole, written_whole
from reszoo.json_files import read_json, to_json
from reszoo.training.averages import averaged_weights
from reszoo.training.callbacks.checkpoints import Checkpoints
from reszoo.training.callbacks.create import create_callbacks
from reszoo.training.callbacks.guards import BestEpoch, HeldWorkdir, last_good
from reszoo.training.checkpoint_files import BEST_FILE
from reszoo.training.config import checked, complete, flat, without_effect
from reszoo.training.confusion import (
    CONFUSION_FILE,
    ConfusionCounts,
    worst_classes,
    write_confusion,
)
from reszoo.training.data_description import check_same_data, signature_of
from reszoo.training.event_files import EventFiles
from reszoo.training.failures import as_run_errors
from reszoo.training.identity import MAY_CHANGE as MAY_CHANGE
from reszoo.training.identity import identity_of
from reszoo.training.lock import LeasedLock, WorkdirLock, lock_workdir
from reszoo.training.loop import check_ready, evaluate, fit
from reszoo.training.losses import create_loss
from reszoo.training.metrics_file import (
    METRICS_FILE,
    lasting,
    mend_metrics,
    read_metrics,
    steps_done,
)
from reszoo.training.network import create_network
from reszoo.training.optimizers import (
    UpdateRule,
    create_learning_rate,
    create_optimizer,
    warmup_steps_of,
)
from reszoo.training.provenance import write_provenance
from reszoo.training.state import NonFiniteError, RunError, TrainingState
from reszoo.training.strategy import (
    check_same_place,
    check_same_run,
    create_strategy,
    has_several_workers,
)
from reszoo.training.summary import SUMMARY_FILE, as_table, summarize, write_summary
from reszoo.training.tensorboard_images import show_confusion

CONFIG_FILE = "config.json"
MODEL_FILE = "model.keras"


@dataclasses.dataclass(frozen=True)
class Run:
    """A run that is ready to start, or to go on.

    Args:
        config: The configuration.
        workdir: The work directory.
        pipeline: The batches.
        strategy: Where it runs.
        model: The compiled model, with the weights of the last checkpoint.
        callbacks: What shows, records and saves it.
        best: What notes its best epoch; one of the callbacks, as the next two are.
        checkpoints: What saves it.
        confusion: What counts the answers of each test.
        state: Where the training is.
        lock: Keeps other runs out of the work directory; the chief has it.
    """

    config: ConfigDict
    workdir: Path | StoredPath
    pipeline: Pipeline
    strategy: tf.distribute.Strategy
    model: keras.Model
    callbacks: list[keras.callbacks.Callback]
    best: BestEpoch
    checkpoints: Checkpoints
    confusion: ConfusionCounts
    state: TrainingState
    lock: WorkdirLock | LeasedLock | None

    @property
    def model_file(self) -> Path | StoredPath:
        """Where the trained model is saved."""
        return self.workdir / MODEL_FILE

    @property
    def summary_file(self) -> Path | StoredPath:
        """Where the figures of the finished run are."""
        return self.workdir / SUMMARY_FILE

    def train(self) -> None:
        """Trains for the epochs that are left, and saves the model.

        Raises:
            RunError: If the run has to stop before its end; the text says why.
        """
        try:
            with as_run_errors(self.workdir):
                self._train_to_the_end()
        finally:
            if self.lock:
                self.lock.release()

    def _train_to_the_end(self):
        self._check_held()
        self.checkpoints.put_in_order()
        if is_chief(self.strategy):
            mend_metrics(self.workdir / METRICS_FILE, self.state)
        if self._is_done() and self._has_ended():
            model = f"the model is {self.model_file}"
            self._say(f"{self._why_it_ended()}; {model}. {self._how_to_go_on()}")
            return
        self._train()
        self._check_held()
        if is_chief(self.strategy):
            self._save_model()
            print(self._summarize())
        if self.state.epoch < self.config.epochs:
            self._say(f"{self._why_it_ended()}. {self._how_to_go_on()}")
        self._say(f"The model is {self.model_file}.")

    def _check_held(self):
        if self.lock:
            self.lock.check()

    def _say(self, text):
        if is_chief(self.strategy):
            print(text, flush=True)

    def _is_done(self):
        return self.best.out_of_patience or self.state.epoch >= self.config.epochs

    def _has_ended(self):
        """Returns whether all that a run leaves at its end is there, of this end and no earlier."""
        if not (self.model_file.exists() and self.summary_file.exists()):
            return False
        try:
            summary = read_json(self.summary_file, {"epochs": int, "steps": int}, "")
        except ValueError:  # it is written again
            return False
        return (summary["epochs"], summary["steps"]) == (self.state.epoch, steps_done(self.model))

    def _why_it_ended(self):
        if self.state.epoch >= self.config.epochs:
            return f"All {self.state.epoch} epochs are done"
        options = self.config.best
        return (
            f"The run ended early, after {self.state.epoch} epochs ({options.figure} was best "
            f"after epoch {self.state.best_epoch}, and best.patience is {options.patience})"
        )

    def _how_to_go_on(self):
        early = self.state.epoch < self.config.epochs
        larger = "--config.best.patience, or 0 for none," if early else "--config.epochs"
        return f"Give a larger {larger} to go on, or another --workdir to start afresh."

    def _train(self):
        while not self._is_done():
            self._say_where_it_goes_on()
            try:
                self._fit()
            except NonFiniteError as error:
                self._roll_back(error)

    def _fit(self):
        rate_factor = self.config.nonfinite.rate_factor**self.state.roll_backs
        self.model.optimizer.learning_rate = _learning_rate(
            self.config, self.pipeline.steps_per_epoch, rate_factor
        )
        fit(
            self.model,
            self.pipeline,
            epochs=self.config.epochs,
            state=self.state,
            callbacks=self.callbacks,
            strategy=self.strategy,
            jit_compile=self.config.jit_compile,
        )

    def _say_where_it_goes_on(self):
        if self.state.epoch or self.state.batch:
            batches = f", batch {self.state.batch}" if self.state.batch else ""
            self._say(f"Going on after epoch {self.state.epoch}{batches}, from {self.workdir}.")

    def _roll_back(self, error):
        """Goes back to the last checkpoint, to go on at a lower rate; or ends the run."""
        options, roll_backs = self.config.nonfinite, self.state.roll_backs
        if (
            options.action == "stop"
            or roll_backs >= options.roll_backs
            or not self.checkpoints.files
        ):
            after = f" after {roll_backs} roll-backs" if roll_backs else ""
            raise RunError(
                f"{error} Stopped{after}. {last_good(self.checkpoints)} Lower "
                "optimizer.learning_rate in a new workdir, or set nonfinite.action to "
                '"roll_back".'
            ) from error
        self.checkpoints.restore()
        self.state.roll_backs = roll_backs + 1
        self._say(f"{error} Back to the last checkpoint, at {options.rate_factor} of the rate.")

    def _save_model(self):
        with written_whole(self.model_file) as partial, averaged_weights(self.model):
            self.model.save(str(partial))

    def _summarize(self):
        """Writes what the run came to, and returns it as a table."""
        worst, counts = [], self.confusion.counts
        # After an interrupted end there was no test. Several processes leave it to `--mode=eval`.
        if counts is None and not has_several_workers(self.strategy):
            counts = self._counts_on_one_device()
        if counts is not None:
            worst = self._record_confusion(counts)
        epochs = mend_metrics(self.workdir / METRICS_FILE, self.state)
        if not epochs:
            raise RunError(
                f"{self.workdir / METRICS_FILE} has no epoch, so there is no summary. The model is "
                f"{self.model_file}; --mode=eval tests it."
            )
        summary = summarize(self.model, self.pipeline, self.config.data.name, epochs, worst)
        write_summary(self.summary_file, summary)
        return as_table(summary, self.workdir)

    def _counts_on_one_device(self):
        confusion = ConfusionCounts(self.pipeline.source.num_classes)
        with averaged_weights(self.model):
            evaluate(self.model, self.pipeline, callbacks=[confusion])
        return confusion.counts

    def _record_confusion(self, counts):
        """Writes a confusion matrix to a file and for TensorBoard; returns the worst classes."""
        names = self.pipeline.source.class_names
        write_confusion(self.workdir / CONFUSION_FILE, counts, names)
        every_epochs = self.config.tensorboard.confusion_every_epochs
        if not every_epochs or self.state.epoch % every_epochs:  # otherwise it is there already
            files = EventFiles(self.workdir)
            show_confusion(files, counts, names, steps_done(self.model))
            files.close()
        return worst_classes(counts, names)


def prepare(config: ConfigDict, workdir: str | Path) -> Run:
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
    with _no_directory_left(workdir):
        _check_writable(workdir)
        _check_same_run(identity_of(config), workdir)  # soon; it counts once nobody else writes
        _warn_of_no_effect(config)
        _make_reproducible(config)
        pipeline = create_pipeline(config)
        check_same_run(strategy, flat(config.to_dict()), pipeline.source.digest)
        return _taken_up(_create_run(config, workdir, pipeline, strategy))


def _create_run(config, workdir, pipeline, strategy):
    state, chief = TrainingState(), is_chief(strategy)
    with strategy.scope():
        model = _create_compiled_model(config, pipeline)
        check_ready(model, config.batch_size, strategy, config.jit_compile)
        best = BestEpoch(state, **config.best.to_dict())
        checkpoints = Checkpoints(
            workdir / "checkpoints",
            model,
            state,
            writes=chief,
            identity=identity_of(config, pipeline.source.digest),
            **config.checkpoint.to_dict(),
        )
        confusion = ConfusionCounts(pipeline.source.num_classes)
        callbacks = create_callbacks(
            config, workdir, pipeline, state, (best, checkpoints, confusion), chief
        )
    # Only now, so that what is refused leaves no file behind.
    lock = lock_workdir(workdir) if chief else None
    if lock:
        callbacks.insert(0, HeldWorkdir(lock))
        checkpoints.before_saving.insert(0, lock.check)
    return Run(
        config,
        workdir,
        pipeline,
        strategy,
        model,
        callbacks,
        best,
        checkpoints,
        confusion,
        state,
        lock,
    )


def _taken_up(run):
    """Returns a run that goes on from what is in its work directory; all of it is looked at."""
    workdir, fresh = run.workdir, not run.checkpoints.files
    try:
        with run.strategy.scope():
            _restore(run)
        check_same_place(run.strategy, [run.state.epoch, run.state.batch])
        if run.lock:
            run.lock.check()
            text = to_json(run.config.to_dict(), indent=2) + "\n"
            write_whole(workdir / CONFIG_FILE, text)
            signature_of(run.pipeline).write(workdir)
            write_provenance(workdir / "provenance.jsonl", run.config.seed)
    except BaseException:
        if run.lock and fresh:
            run.lock.delete()
        elif run.lock:
            run.lock.release()
        raise
    return run


def _restore(run):
    checkpoints, state = run.checkpoints, run.state
    config_file = run.workdir / CONFIG_FILE
    # Another start may have written it since it was looked at first.
    _check_same_run(identity_of(run.config), run.workdir)
    check_same_data(run.workdir, signature_of(run.pipeline))
    if not checkpoints.restore():
        _check_nothing_lost(run)
        return
    if not config_file.exists():
        if not checkpoints.restored:
            raise ValueError(
                f"{run.workdir} holds checkpoints but no {CONFIG_FILE}, so nobody knows whether "
                "they are of this configuration. Put it back, or give another workdir."
            )
        logging.warning(
            "%s was not there. It is written again, for the checkpoints are of this configuration.",
            config_file,
        )
    if not state.has_history:  # of an earlier version
        lines = read_metrics(run.workdir / METRICS_FILE)
        state.history = tuple(lasting(line) for line in lines if line["epoch"] <= state.epoch)
    run.best.take_up()
    if state.batch and state.epoch >= run.config.epochs:
        raise ValueError(
            f"{run.workdir} holds a run that is in its epoch {state.epoch + 1} already. Give "
            f"--config.epochs={state.epoch + 1} or more, or another workdir."
        )


def _check_nothing_lost(run):
    """Raises if a run without checkpoints has left something that a fresh start would overwrite."""
    names = (METRICS_FILE, MODEL_FILE, SUMMARY_FILE, f"checkpoints/{BEST_FILE}")
    left = [name for name in names if _holds_something(run.workdir / name)]
    if left:
        raise ValueError(
            f"{run.workdir} holds {', '.join(left)} of a run, but {run.checkpoints.directory} has "
            "no checkpoint to go on from. Put the checkpoints back, or give another workdir to "
            "start afresh."
        )


def _holds_something(path):
    return path.exists() and len(path.read_bytes()) > 0


def _warn_of_no_effect(config):
    fields = without_effect(config)
    if fields:
        logging.warning("%d field(s) have no effect: %s.", len(fields), ", ".join(fields))


def _make_reproducible(config):
    keras.config.set_dtype_policy(config.dtype)
    keras.utils.set_random_seed(config.seed)
    # It reorders products whose parts nobody else reads, so that looking at a gradient would change
    # the last bit of an update. Without it no step was measured slower.
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


@contextlib.contextmanager
def _no_directory_left(workdir):
    """Deletes the directories that were made for a run that is refused or interrupted."""
    made = []
    if not is_stored(workdir):
        made = [path for path in (workdir, *workdir.parents) if not os.path.exists(path)]
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):  # there is something in it
            for path in made:
                path.rmdir()
        raise


def _check_writable(workdir):
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if is_stored(workdir) or os.access(workdir, os.W_OK | os.X_OK):
            return
        reason = "Permission denied"
    except OSError as error:
        reason = error.strerror
    raise ValueError(
        f"The workdir {workdir} cannot be written ({reason}). Give a directory that can."
    )


def create_pipeline(config: ConfigDict) -> Pipeline:
    """Returns the batches of a run.

    Args:
        config: The configuration; what it leaves out gets its default.

    Raises:
        ValueError: If there is no such data set, or the options do not fit it.
    """
    config = complete(config)
    options = config.data.to_dict()
    source = load_source(options.pop("name"), options.pop("corrupt_images"))
    augmentation = Augmentation(flip=options.pop("flip"), **config.augmentation.to_dict())
    del options["crop"]
    del options["mean"], options["std"]  # the model's
    return Pipeline(
        source,
        batch_size=config.batch_size,
        seed=config.seed,
        crop=create_crop(config),
        augmentation=augmentation,
        batches_per_update=config.optimizer.accumulation_steps,
        **options,
    )


def create_crop(config: ConfigDict) -> Crop | None:
    """Returns which part of its images a run uses; `None` if that is the whole of them.

    Args:
        config: The configuration; what it leaves out gets its default.

    Raises:
        ValueError: If an option is out of range.
    """
    config = complete(config)
    return Crop(**config.crop.to_dict()) if config.data.crop else None


def _create_compiled_model(config, pipeline):
    model = create_network(config, pipeline)
    optimizer = _create_optimizer(config, pipeline.steps_per_epoch, model.trainable_variables)
    model.compile(
        optimizer,
        loss=create_loss(config.loss, pipeline.source),
        metrics=["accuracy"],
        jit_compile=config.jit_compile,
        steps_per_execution=config.steps_per_loop,
    )
    model.optimizer.build(model.trainable_variables)
    return model


def _create_optimizer(config, steps_per_epoch, variables):
    options = config.optimizer
    rule = UpdateRule(options.clip_norm, options.ema_momentum, options.accumulation_steps)
    return create_optimizer(
        options.name,
        _learning_rate(config, steps_per_epoch),
        weight_decay=options.weight_decay,
        momentum=options.momentum,
        rule=rule,
        variables=variables,
    )


def _learning_rate(config, steps_per_epoch, factor=1.0):
    options = config.schedule.to_dict()
    warmup_epochs = config.optimizer.warmup_epochs
    return create_learning_rate(
        config.optimizer.learning_rate * factor,
        warmup_steps=warmup_steps_of(warmup_epochs, steps_per_epoch, config.epochs),
        total_steps=config.epochs * steps_per_epoch,
        **options,
    )


def _check_same_run(identity, workdir):
    path = workdir / CONFIG_FILE
    if path.exists():
        identity.check_same(identity_of(_config_of(path)), str(workdir))


def _config_of(path):
    cure = (
        "Restore it from the configuration that the run was started with, or give another workdir."
    )
    fields = read_json(path, {}, cure)
    try:
        return complete(ConfigDict(fields))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"{path} cannot be read: {reason}. {cure}") from error
