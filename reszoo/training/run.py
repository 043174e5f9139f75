"""A whole run: from a configuration to a trained model in a work directory."""

import dataclasses
import json
import os
from pathlib import Path

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from reszoo.data import Augmentation, Crop, Pipeline, load_source
from reszoo.gradients.chief import is_chief
from reszoo.gradients.storage import StoredPath, as_path, is_stored, os_errors
from reszoo.json_files import read_json, to_json
from reszoo.training.averages import averaged_weights
from reszoo.training.callbacks import create_callbacks
from reszoo.training.checkpoints import Checkpoints
from reszoo.training.config import checked, complete, flat
from reszoo.training.confusion import (
    CONFUSION_FILE,
    ConfusionCounts,
    worst_classes,
    write_confusion,
)
from reszoo.training.event_files import EventFiles
from reszoo.training.lock import LeasedLock, WorkdirLock, lock_workdir
from reszoo.training.loop import check_ready, evaluate, fit
from reszoo.training.losses import create_loss
from reszoo.training.metrics import (
    METRICS_FILE,
    read_metrics,
    steps_done,
    write_atomically,
)
from reszoo.training.network import create_network
from reszoo.training.optimizers import (
    UpdateRule,
    create_learning_rate,
    create_optimizer,
    warmup_steps_of,
)
from reszoo.training.pictures import show_confusion
from reszoo.training.provenance import write_provenance
from reszoo.training.signature import check_same_data, signature_of
from reszoo.training.state import NonFiniteError, RunError, TrainingState
from reszoo.training.strategy import check_same_place, create_strategy
from reszoo.training.summary import SUMMARY_FILE, as_table, summarize, write_summary

# What may differ when a run is taken up again: how long, how fast, and what is looked at.
MAY_CHANGE = (
    "best",
    "checkpoint",
    "epochs",
    "jit_compile",
    "loggers",
    "nonfinite",
    "recording",
    "steps_per_loop",
    "strategy",
    "tensorboard",
)

MODEL_FILE = "model.keras"

SIGNS_OF_A_LOST_WORKER = (
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnavailableError,
)


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
        checkpoints: What saves it.
        confusion: What counts the answers of each test; one of the callbacks, as `checkpoints` is.
        state: Where the training is.
        lock: Keeps other runs out of the work directory; the chief has it.
    """

    config: ConfigDict
    workdir: Path | StoredPath
    pipeline: Pipeline
    strategy: tf.distribute.Strategy
    model: keras.Model
    callbacks: list[keras.callbacks.Callback]
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
            if self._is_done() and self.model_file.exists() and self.summary_file.exists():
                self._say(
                    f"All {self.state.epoch} epochs are done; the model is {self.model_file}. "
                    "Give a larger --config.epochs to go on, or another --workdir to start afresh."
                )
                return
            self._train()
            if is_chief(self.strategy):
                self._save_model()
                print(self._summarize())
            self._say(f"The model is {self.model_file}.")
        except tf.errors.OpError as error:
            self._explain_if_a_worker_was_lost(error)
            raise
        except OSError as error:
            raise RunError(
                f"{error}. What was saved is intact; run the same command again to go on."
            ) from error
        finally:
            if self.lock:
                self.lock.release()

    def _say(self, text):
        if is_chief(self.strategy):
            print(text, flush=True)

    def _explain_if_a_worker_was_lost(self, error):
        if isinstance(error, SIGNS_OF_A_LOST_WORKER) and _has_several_workers(self.strategy):
            raise RunError(
                f"another worker was lost ({type(error).__name__}). Start all workers again with "
                "the same commands to go on from the last checkpoint."
            ) from error

    def _is_done(self):
        return self.state.stopped or self.state.epoch >= self.config.epochs

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
        if options.action == "stop" or roll_backs >= options.roll_backs:
            after = f" after {roll_backs} roll-backs" if roll_backs else ""
            raise RunError(
                f"{error} Stopped{after}; the last checkpoint, {self.checkpoints.files[-1]}, is "
                "good. Lower optimizer.learning_rate in a new workdir, or set nonfinite.action to "
                '"roll_back".'
            ) from error
        self.checkpoints.restore()
        self.state.roll_backs = roll_backs + 1
        self._say(f"{error} Back to the last checkpoint, at {options.rate_factor} of the rate.")

    def _save_model(self):
        if is_stored(self.workdir):  # where nothing is seen before it is whole
            with averaged_weights(self.model), os_errors(self.model_file):
                self.model.save(str(self.model_file))
            return
        partial = self.workdir / "model.partial.keras"
        with averaged_weights(self.model):
            self.model.save(partial)
        os.replace(partial, self.model_file)

    def _summarize(self):
        """Writes what the run came to, and returns it as a table."""
        worst, counts = [], self.confusion.counts
        # After an interrupted end there was no test. Several processes leave it to `--mode=eval`.
        if counts is None and not _has_several_workers(self.strategy):
            counts = self._counts_on_one_device()
        if counts is not None:
            worst = self._record_confusion(counts)
        epochs = read_metrics(self.workdir / METRICS_FILE)
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
    workdir = _writable(as_path(workdir).absolute())
    _check_same_run(config, workdir / "config.json")
    _make_reproducible(config)
    pipeline = create_pipeline(config)
    check_same_data(workdir, signature_of(pipeline))
    state, chief = TrainingState(), is_chief(strategy)
    with strategy.scope():
        model = _create_compiled_model(config, pipeline)
        check_ready(model, config.batch_size, strategy, config.jit_compile)
        checkpoints = Checkpoints(
            workdir / "checkpoints",
            model,
            state,
            writes=chief,
            **config.checkpoint.to_dict(),
        )
        confusion = ConfusionCounts(pipeline.source.num_classes)
        callbacks = create_callbacks(
            config, workdir, pipeline, state, checkpoints, confusion, chief
        )
        # Only now, so that what is refused leaves no file behind.
        lock = lock_workdir(workdir) if chief else None
        checkpoints.restore()
    check_same_place(strategy, [state.epoch, state.batch])
    if chief:
        write_atomically(workdir / "config.json", to_json(config.to_dict(), indent=2) + "\n")
        signature_of(pipeline).write(workdir)
        write_provenance(workdir / "provenance.jsonl", config.seed)
    return Run(
        config,
        workdir,
        pipeline,
        strategy,
        model,
        callbacks,
        checkpoints,
        confusion,
        state,
        lock,
    )


def _make_reproducible(config):
    keras.config.set_dtype_policy(config.dtype)
    keras.utils.set_random_seed(config.seed)
    # It reorders products whose parts nobody else reads, so that looking at a gradient would change
    # the last bit of an update. Without it no step was measured slower.
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})


def _has_several_workers(strategy):
    resolver = strategy.cluster_resolver
    return resolver is not None and resolver.cluster_spec().as_dict() != {}


def _writable(workdir):
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if is_stored(workdir) or os.access(workdir, os.W_OK | os.X_OK):
            return workdir
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


def _check_same_run(config, path):
    if not path.exists():
        return
    before = _config_of(path)
    # Through JSON, as what was before: it has no tuples.
    now = json.loads(json.dumps(config.to_dict()))
    before, now = flat(json.loads(json.dumps(before.to_dict()))), flat(now)
    for field in sorted(before.keys() | now.keys()):
        if before.get(field) != now.get(field) and field.split(".")[0] not in MAY_CHANGE:
            raise ValueError(
                f"{path.parent} holds a run with {field}={before.get(field)!r}, but now it is "
                f"{now.get(field)!r}. Give another workdir, or the same configuration."
            )


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
