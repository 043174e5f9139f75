"""The gradient by the length of its path, in the course of a training."""

import os

import tensorflow as tf

from reszoo.data import Pipeline
from reszoo.files import append_text, as_path, write_whole
from reszoo.gradients import gradient_by_path_length
from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.losses import loss_of
from reszoo.training.metrics_file import steps_done

IMAGES = 32
HEADER = "step,length,sample,gradient_norm,number_of_paths\n"


class PathLengths(LoopCallback):
    """Measures the gradient by the length of its path, before the first step and after each epoch.

    The table of `reszoo.gradients.gradient_by_path_length` is appended to a file, with the number
    of the optimizer's steps done. All are of the same images: the first 32 of the training. Weights
    and random numbers stay as they are.

    Args:
        path: The file, of comma-separated values.
        pipeline: The batches of the run.
        samples: Number of sets of blocks to draw for each length.
        seed: Seed of the draws.
    """

    def __init__(self, path: str | os.PathLike, pipeline: Pipeline, samples: int, seed: int):
        super().__init__()
        self._path = as_path(path)
        self._pipeline = pipeline
        self._samples = samples
        self._seed = seed

    def on_train_begin(self, logs: Logs = None) -> None:
        kept = self._rows_up_to(steps_done(self.model))
        write_whole(self._path, HEADER + "".join(kept))
        if not kept:
            self._measure()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._measure()

    def _measure(self) -> None:
        images, labels = next(iter(self._pipeline.train_batches(epoch=0)))
        table = gradient_by_path_length(
            self.model,
            images[:IMAGES],
            labels[:IMAGES],
            loss_of(self.model),
            self._samples,
            self._seed,
        )
        table.insert(0, "step", steps_done(self.model))
        append_text(self._path, table.to_csv(header=False, index=False, lineterminator="\n"))

    def _rows_up_to(self, step: int) -> list[str]:
        """Returns the rows that a start continues, none if training has not begun.

        Later rows were undone, and are of a process that was killed before its checkpoint.
        """
        if not self._path.exists() or step == 0:
            return []
        rows = self._path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]
        return [row for row in rows if row.endswith("\n") and int(row.split(",")[0]) <= step]


def check_one_device(strategy: tf.distribute.Strategy) -> None:
    """Checks that a run is on one device, where these gradients can be taken.

    Args:
        strategy: The strategy of the run.

    Raises:
        ValueError: If it has several.
    """
    if strategy.num_replicas_in_sync > 1:
        raise ValueError(
            f"recording.path_lengths must be 0 on {strategy.num_replicas_in_sync} devices, for it "
            "takes gradients on one. Give reszoo.gradients.gradient_by_path_length the trained "
            "model."
        )
