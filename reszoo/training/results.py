"""Results of a run: its trained model, its confusion matrix and its summary."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from reszoo.data import Pipeline
from reszoo.files import StoredPath, written_whole
from reszoo.gradients.log import GRADIENTS_DIRECTORY
from reszoo.json_files import read_json
from reszoo.training.averages import averaged_weights
from reszoo.training.callbacks.confusion_counts import ConfusionCounts
from reszoo.training.confusion import ClassFigures, worst_classes, write_confusion
from reszoo.training.event_files import EventFiles
from reszoo.training.gradients_summary import summarize_gradients
from reszoo.training.loop import evaluate
from reszoo.training.metrics_file import mend_metrics, steps_done
from reszoo.training.state import RunError, TrainingState
from reszoo.training.strategy import has_several_workers
from reszoo.training.summary import as_table, summarize, write_summary
from reszoo.training.tensorboard_images import show_confusion
from reszoo.training.terminal import columns
from reszoo.training.workdir import CONFUSION_FILE, METRICS_FILE, MODEL_FILE, SUMMARY_FILE


@dataclasses.dataclass(frozen=True)
class Results:
    """Results of a run in its work directory.

    Args:
        config: The configuration, complete.
        workdir: The work directory, to which the results are written.
        pipeline: The batches of the run.
        strategy: The devices of the run.
        model: The trained model.
        state: Position of the training.
    """

    config: ConfigDict
    workdir: Path | StoredPath
    pipeline: Pipeline
    strategy: tf.distribute.Strategy
    model: keras.Model
    state: TrainingState

    @property
    def model_file(self) -> Path | StoredPath:
        """File of the trained model."""
        return self.workdir / MODEL_FILE

    @property
    def summary_file(self) -> Path | StoredPath:
        """File of the finished run's metrics."""
        return self.workdir / SUMMARY_FILE

    @property
    def are_there(self) -> bool:
        """Completeness: whether all results exist and none is of an earlier end of the run."""
        if not (self.model_file.exists() and self.summary_file.exists()):
            return False
        try:
            summary = read_json(self.summary_file, {"epochs": int, "steps": int}, "")
        except ValueError:  # a broken summary is written again
            return False
        return (summary["epochs"], summary["steps"]) == (self.state.epoch, steps_done(self.model))

    def save_model(self) -> None:
        """Saves the trained model, with the averages of its weights where the optimizer has any."""
        with written_whole(self.model_file) as partial, averaged_weights(self.model):
            self.model.save(str(partial))

    def write_summary(self, counts: np.ndarray | None) -> str:
        """Writes the summary of the run, and returns it as a table.

        Args:
            counts: The confusion matrix of the last test; `None` if there was none.

        Raises:
            RunError: If no epoch has known figures.
        """
        worst = []
        # No test ran here if the end was interrupted. Several processes leave it to `--mode=eval`.
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
        data, gradients = self.config.data.name, self._gradients()
        summary = summarize(self.model, self.pipeline, data, epochs, worst, gradients)
        write_summary(self.summary_file, summary)
        return as_table(summary, self.workdir, columns(sys.stdout))

    def _gradients(self) -> dict[str, Any] | None:
        if not self.config.recording.every_steps:
            return None
        return summarize_gradients(str(self.workdir / GRADIENTS_DIRECTORY))

    def _counts_on_one_device(self) -> np.ndarray | None:
        confusion = ConfusionCounts(self.pipeline.source.num_classes)
        with averaged_weights(self.model):
            evaluate(self.model, self.pipeline, callbacks=[confusion])
        return confusion.counts

    def _record_confusion(self, counts: np.ndarray) -> list[ClassFigures]:
        """Writes a confusion matrix to a file and for TensorBoard; returns the worst classes."""
        names = self.pipeline.source.class_names
        write_confusion(self.workdir / CONFUSION_FILE, counts, names)
        every_epochs = self.config.tensorboard.confusion_every_epochs
        if not every_epochs or self.state.epoch % every_epochs:  # otherwise already written
            files = EventFiles(self.workdir)
            show_confusion(files, counts, names, steps_done(self.model))
            files.close()
        return worst_classes(counts, names)
