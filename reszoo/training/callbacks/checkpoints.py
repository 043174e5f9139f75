"""Checkpoints of a run: saved during training, restored when the run is resumed."""

import errno
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import keras
import numpy as np
from absl import logging

from reszoo.files import StoredPath, as_path, copy_whole
from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.checkpoint_files import (
    BEST_FILE,
    DamagedError,
    move_aside,
    name_of,
    place_of,
    read_arrays,
    step_files,
    write_arrays,
)
from reszoo.training.identity import Identity, identity_from_json, identity_to_json
from reszoo.training.state import (
    NonFiniteError,
    RunError,
    TrainingState,
    state_from_json,
    state_to_json,
)
from reszoo.updates import accumulation_steps


class Checkpoints(LoopCallback):
    """Saves the model, its optimizer and the position of the training.

    A resumed run is bit for bit the same as one without an interruption. Checkpoints are saved
    before the first step, after every epoch, and every `every_steps` steps. A checkpoint is one
    file that ends in the SHA-256 of its content; it gets its name only when it is complete and on
    the disk. `best.npz` is the checkpoint of the epoch with the best watched figure.

    Nothing that may be of use is ever deleted: checkpoints later than the one that the training
    resumes from, and damaged ones, get a name that ends in `.aside`, and a warning says so. Only
    complete checkpoints count towards `keep`.

    Attributes:
        restored: The identity in the restored checkpoint; `None` if none was restored, or one of an
            earlier version.
        before_saving: Functions that are called before a checkpoint is written, so that the logs
            hold everything up to it.

    Args:
        directory: Directory of the checkpoints.
        model: A compiled model whose optimizer is built.
        state: Position of the training; restoring a checkpoint changes it.
        every_steps: Number of updates of the weights between two checkpoints of an epoch; 0: none.
        keep: Number of the latest checkpoints that are kept.
        writes: Whether this process writes checkpoints; of several only the chief does.
        identity: The identity of the run; a checkpoint of another run is refused.

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
        directory: str | os.PathLike,
        model: keras.Model,
        state: TrainingState,
        *,
        every_steps: int = 0,
        keep: int = 2,
        writes: bool = True,
        identity: Identity | None = None,
    ):
        super().__init__()
        if every_steps < 0:
            raise ValueError(f"checkpoint.every_steps must not be negative, but got {every_steps}.")
        if keep < 1:
            raise ValueError(f"checkpoint.keep must be at least 1, but got {keep}.")
        self.directory = as_path(directory)
        self.restored: Identity | None = None
        self.before_saving: list[Callable[[], None]] = []
        self._saved_model = model
        self._state = state
        self._every_steps = every_steps
        self._keep = keep
        self._writes = writes
        self._identity = identity
        self._known_as_whole: dict[Path | StoredPath, tuple[int, ...]] = {}

    @property
    def files(self) -> list[Path | StoredPath]:
        """Checkpoints in the directory, the earliest first."""
        return step_files(self.directory)

    @property
    def last_in_words(self) -> str:
        """Sentence about the last checkpoint, for errors of values that are not finite."""
        if not self.files:
            return (
                "There is no checkpoint, for the first weights are not finite; see model.weights."
            )
        return f"The last checkpoint, {self.files[-1]}, is good."

    def restore(self, path: str | os.PathLike | None = None) -> bool:
        """Loads the last complete checkpoint, if there is one.

        A damaged one is skipped, and a warning says so.

        Args:
            path: A checkpoint to load instead of the last.

        Returns:
            Whether a checkpoint was loaded.

        Raises:
            ValueError: If all checkpoints are damaged, or one is of another model or run.
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

    def put_in_order(self) -> None:
        """Makes the files agree with the checkpoint that the training resumes from.

        Later checkpoints are moved aside, incomplete files of a killed process are deleted, and
        `best.npz` is written if a kill came before it. The callback does this when training
        begins.
        """
        if not self._writes:
            return
        for partial in self.directory.glob("*.partial*"):
            partial.unlink()
        place = (self._state.epoch, self._state.batch)
        later = [file for file in self.files if place_of(file) > place]
        if later:
            aside = [move_aside(file).name for file in later]
            logging.warning(
                "%d checkpoint(s) in %s are later than epoch %d, batch %d, where the training goes "
                "on. They are kept as %s.",
                len(later),
                self.directory,
                *place,
                ", ".join(aside),
            )
        self._catch_up_best()

    def save(self) -> Path | StoredPath | None:
        """Saves a checkpoint now.

        Returns:
            The file; `None` if this process writes none.

        Raises:
            NonFiniteError: If a weight is not finite; nothing is written then.
            RunError: If the file cannot be written; earlier checkpoints stay as they were.
        """
        variables = _variables(self._saved_model)
        arrays = {name: variable.value.numpy() for name, variable in variables.items()}
        _check_finite(arrays, variables)
        if not self._writes:
            return None
        for flush in self.before_saving:
            flush()
        texts = {"state": state_to_json(self._state)}
        if self._identity:
            texts["identity"] = identity_to_json(self._identity)
        path = self.directory / name_of(self._state.epoch, self._state.batch)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            write_arrays(path, texts | arrays)
        except OSError as error:
            raise _cannot_write(path, error, self.files) from error
        self._known_as_whole[path] = _stamp(path)
        self._delete_older_than(path)
        return path

    def on_train_begin(self, logs: Logs = None) -> None:
        self.put_in_order()
        # A failure to write shows before the first step, and a roll-back has a checkpoint to load.
        if self._writes and not self.files:
            self.save()

    @property
    def batches_ahead(self) -> float:
        """Batches that may run before the next checkpoint is saved."""
        every = self._every_batches()
        return every - self._state.batch % every if every else math.inf

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        every = self._every_batches()
        if every and (batch + 1) % every == 0:
            self.save()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        path = self.save()
        if path and self._state.best_epoch == self._state.epoch:
            copy_whole(path, self.directory / BEST_FILE)

    def _every_batches(self) -> int:
        # Saved only after whole updates, since a recorder records an update as a whole.
        return self._every_steps * accumulation_steps(self._saved_model.optimizer)

    def _delete_older_than(self, path: Path | StoredPath) -> None:
        """Deletes the checkpoints before the newest one that exceed `keep`."""
        older = [file for file in self.files if place_of(file) < place_of(path)]
        if len(older) < self._keep:
            return
        whole = [file for file in older if self._is_whole(file)]
        for file in whole[: max(0, len(whole) + 1 - self._keep)]:
            file.unlink()
            self._known_as_whole.pop(file, None)

    def _is_whole(self, file: Path | StoredPath) -> bool:
        """Returns whether a checkpoint can be read; one that is damaged is moved aside."""
        if self._known_as_whole.get(file) == _stamp(file):
            return True
        try:
            read_arrays(file)
        except DamagedError as error:
            logging.warning("%s It is kept as %s.", error, move_aside(file).name)
            return False
        except ValueError as error:
            logging.warning("%s It is left where it is.", error)
            return False
        self._known_as_whole[file] = _stamp(file)
        return True

    def _catch_up_best(self) -> None:
        """Copies the best epoch's checkpoint to `best.npz`, or warns that it no longer exists."""
        best, epoch = self.directory / BEST_FILE, self._state.best_epoch
        found = _epoch_of(best) if best.exists() else None
        if found == (epoch or None):
            return
        source = self.directory / name_of(epoch, 0)
        there = epoch > 0 and source in self.files and self._is_whole(source)
        if found is not None and not (there and 0 < found < epoch):
            logging.warning(
                "%s is of epoch %s, but the best epoch is %d by now. It is kept as %s.",
                best,
                found or "unknown",
                epoch,
                move_aside(best).name,
            )
        if there:
            copy_whole(source, best)
        elif epoch:
            logging.warning(
                "The checkpoint of epoch %d, the best, is no longer in %s, so %s is missing until "
                "an epoch is better.",
                epoch,
                self.directory,
                BEST_FILE,
            )

    def _load(self, path: Path | StoredPath) -> None:
        arrays = read_arrays(path)
        try:
            state = state_from_json(str(arrays.pop("state")))
            text = arrays.pop("identity", None)
            identity = None if text is None else identity_from_json(str(text))
        except (KeyError, ValueError) as error:
            raise DamagedError(
                f"The checkpoint {path} is none of this version of reszoo: {error}."
            ) from error
        if identity and self._identity:
            self._identity.check_same(identity, str(path))
        variables = _variables(self._saved_model)
        found = {name: array.shape for name, array in arrays.items()}
        if found != {name: tuple(variable.shape) for name, variable in variables.items()}:
            raise ValueError(
                f"The checkpoint {path} was written by another model or optimizer. Use another "
                "workdir, or delete this one to start afresh."
            )
        for name, variable in variables.items():
            # NumPy saves bfloat16 as bytes without a type.
            dtype = variable.value.dtype.as_numpy_dtype
            array = arrays[name]
            variable.assign(array.view(dtype) if array.dtype.kind == "V" else array)
        self._state.assign(state)
        self.restored = identity
        self._known_as_whole[path] = _stamp(path)


def _variables(model: keras.Model) -> dict[str, keras.Variable]:
    # Numbered rather than named, since names differ between processes.
    return {
        f"{owner}/{index:05d}": variable
        for owner, variables in (
            ("model", model.variables),
            ("optimizer", model.optimizer.variables),
        )
        for index, variable in enumerate(variables)
    }


def _check_finite(
    arrays: Mapping[str, np.ndarray], variables: Mapping[str, keras.Variable]
) -> None:
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise NonFiniteError(
                f"The variable {variables[name].path} is not finite, so nothing was saved."
            )


def _stamp(path: Path | StoredPath) -> tuple[int, ...]:
    """Returns attributes of a file that change with its content; none on an object store."""
    if isinstance(path, StoredPath):
        return ()
    found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _epoch_of(path: Path | StoredPath) -> int:
    """Returns the number of epochs done at a checkpoint; 0 if it cannot be read."""
    try:
        return state_from_json(str(read_arrays(path)["state"])).epoch
    except (KeyError, ValueError):
        return 0


def _cannot_write(
    path: Path | StoredPath, error: OSError, intact: Sequence[Path | StoredPath]
) -> RunError:
    kept = f"The last checkpoint, {intact[-1]}, is intact. " if intact else ""
    cure = "Free some space" if error.errno == errno.ENOSPC else "Make it writable"
    return RunError(
        f"The checkpoint {path} could not be written ({error.strerror}). {kept}{cure}, and run "
        "the same command again to go on."
    )
