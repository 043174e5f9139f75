"""Saves a run now and then, and takes it up again."""

import dataclasses
import errno
import hashlib
import io
import json
import math
import os
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
from absl import logging

from reszoo.gradients.scale import accumulation_steps
from reszoo.gradients.storage import StoredPath, as_path, is_stored
from reszoo.training.state import NonFiniteError, RunError, TrainingState

STEP_FILES = "step-*.npz"
BEST_FILE = "best.npz"
_DIGEST_BYTES = hashlib.sha256().digest_size


class DamagedError(ValueError):
    """A checkpoint that is not what was written."""


class Checkpoints(keras.callbacks.Callback):
    """Saves the model, its optimizer and where the training is.

    What is saved is enough to go on as if there had been no interruption, bit for bit. It is saved
    before the first step, after every epoch, and every `every_steps` steps. A checkpoint is one
    file that ends in the SHA-256 of what it holds; it appears under its name only when it is
    complete and on the disk. `best.npz` is that of the epoch with the best watched figure.

    Attributes:
        before_saving: Functions that are called before a checkpoint is written, so that what it
            goes on from is in the logs.

    Args:
        directory: Where the checkpoints are.
        model: A compiled model whose optimizer is built.
        state: Where the training is; restoring a checkpoint changes it.
        every_steps: Number of updates of the weights between two checkpoints of an epoch; 0: none.
        keep: How many of the latest checkpoints are kept.
        writes: Whether to write any; of several processes only the chief does.

    Raises:
        ValueError: If a number is out of range.

    Example:

    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    >>> model.compile("sgd")
    >>> model.optimizer.build(model.trainable_variables)
    >>> Checkpoints("/tmp/no_checkpoints_here", model, TrainingState()).restore()
    False
    """

    def __init__(
        self,
        directory: str | Path,
        model: keras.Model,
        state: TrainingState,
        *,
        every_steps: int = 0,
        keep: int = 2,
        writes: bool = True,
    ):
        super().__init__()
        if every_steps < 0:
            raise ValueError(f"checkpoint.every_steps cannot be negative, but got {every_steps}.")
        if keep < 1:
            raise ValueError(f"checkpoint.keep is at least 1, but got {keep}.")
        self.directory = as_path(directory)
        self.before_saving = []
        self._saved_model = model
        self._state = state
        self._every_steps = every_steps
        self._keep = keep
        self._writes = writes

    @property
    def files(self) -> list[Path | StoredPath]:
        """The checkpoints that are there, the oldest first."""
        return sorted(self.directory.glob(STEP_FILES))

    def restore(self, path: str | Path | None = None) -> bool:
        """Loads the last checkpoint that is whole, if there is one.

        A damaged one is left aside, and a warning says so.

        Args:
            path: A checkpoint to load instead of the last.

        Returns:
            Whether there was one.

        Raises:
            ValueError: If all checkpoints are damaged, or one is that of another model.
        """
        candidates = [as_path(path)] if path else self.files[::-1]
        for candidate in candidates:
            try:
                self._load(candidate)
                return True
            except DamagedError as error:
                logging.warning("%s It is left aside, and the one before it is used.", error)
        if candidates:
            raise ValueError(
                f"Every checkpoint in {candidates[0].parent} is damaged. Use another workdir, or "
                "delete this one to start afresh."
            )
        return False

    def save(self) -> Path | StoredPath | None:
        """Saves now.

        Returns:
            The file; `None` if this process writes none.

        Raises:
            NonFiniteError: If a weight is not finite; nothing is written then.
            RunError: If the file cannot be written; what was there before is intact.
        """
        arrays = {
            name: variable.value.numpy() for name, variable in _variables(self._saved_model).items()
        }
        _check_finite(arrays)
        if not self._writes:
            return None
        for flush in self.before_saving:
            flush()
        # Not the optimizer's steps: a step that overflowed does not count there.
        name = f"step-{self._state.epoch:06d}-{self._state.batch:09d}.npz"
        path = self.directory / name
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            _write(path, _packed(arrays, self._state))
        except OSError as error:
            raise _cannot_write(path, error, self.files) from error
        for old in self.files[: -self._keep]:
            old.unlink()
        return path

    def on_train_begin(self, logs=None):
        if not self._writes:
            return
        for partial in self.directory.glob("*.partial"):
            partial.unlink()
        # An early failure to write is better than a late one, and there is a way back from here.
        if not self.files:
            self.save()

    @property
    def batches_ahead(self) -> float:
        """How many batches may run before the next one is saved."""
        every = self._every_batches()
        return every - self._state.batch % every if every else math.inf

    def on_train_batch_end(self, batch, logs=None):
        every = self._every_batches()
        if every and (batch + 1) % every == 0:
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        path = self.save()
        if path and self._state.best_epoch == self._state.epoch:
            _replace_by_copy(path, self.directory / BEST_FILE)

    def _every_batches(self):
        # Only whole updates are saved, for a recorder sees an update as a whole.
        return self._every_steps * accumulation_steps(self._saved_model.optimizer)

    def _load(self, path):
        arrays = _unpacked(path)
        state = TrainingState(**json.loads(str(arrays.pop("state"))))
        state.totals = tuple(state.totals)
        variables = _variables(self._saved_model)
        found = {name: array.shape for name, array in arrays.items()}
        if found != {name: tuple(variable.shape) for name, variable in variables.items()}:
            raise ValueError(
                f"The checkpoint {path} was written by another model or optimizer. Use another "
                "workdir, or delete this one to start afresh."
            )
        for name, variable in variables.items():
            # NumPy keeps bfloat16 as bare bytes.
            dtype = variable.value.dtype.as_numpy_dtype
            array = arrays[name]
            variable.assign(array.view(dtype) if array.dtype.kind == "V" else array)
        self._state.assign(state)


def _variables(model):
    # Numbered rather than named: names differ between two processes.
    return {
        f"{owner}/{index:05d}": variable
        for owner, variables in (
            ("model", model.variables),
            ("optimizer", model.optimizer.variables),
        )
        for index, variable in enumerate(variables)
    }


def _check_finite(arrays):
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise NonFiniteError(f"The variable {name} is not finite, so nothing was saved.")


def _packed(arrays, state):
    buffer = io.BytesIO()
    np.savez(buffer, state=json.dumps(dataclasses.asdict(state)), **arrays)
    return buffer.getbuffer()


def _write(path, data):
    if is_stored(path):  # where nothing is seen before it is whole
        path.write_bytes(bytes(data) + hashlib.sha256(data).digest())
        return
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.write(hashlib.sha256(data).digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _sync_directory(directory):
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unpacked(path):
    try:
        content = memoryview(path.read_bytes())
    except OSError as error:
        raise ValueError(f"The checkpoint {path} cannot be read ({error.strerror}).") from error
    data, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(data).digest() != digest:
        raise DamagedError(f"The checkpoint {path} is damaged: its checksum is wrong.")
    try:
        with np.load(io.BytesIO(data)) as arrays:
            return dict(arrays)
    except zipfile.BadZipFile as error:
        raise DamagedError(f"The checkpoint {path} is damaged: {error}.") from error


def _replace_by_copy(source, target):
    if is_stored(target):
        target.write_bytes(source.read_bytes())
        return
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:  # a file system without links
        shutil.copyfile(source, partial)
    os.replace(partial, target)


def _cannot_write(path, error, intact):
    kept = f"The last checkpoint, {intact[-1]}, is intact. " if intact else ""
    cure = "Free some space" if error.errno == errno.ENOSPC else "Make it writable"
    return RunError(
        f"The checkpoint {path} could not be written ({error.strerror}). {kept}{cure}, and run "
        "the same command again to go on."
    )
