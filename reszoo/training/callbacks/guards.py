"""What watches over a training: signals to end, losses that are not finite, no improvement."""

import math
import signal
import threading
from collections.abc import Mapping

import keras

from reszoo.gradients.scale import accumulation_steps
from reszoo.training.callbacks.checkpoints import Checkpoints
from reszoo.training.lock import LeasedLock, WorkdirLock
from reszoo.training.metrics_file import FIGURES
from reszoo.training.state import NonFiniteError, RunError, TrainingState


class HeldWorkdir(keras.callbacks.Callback):
    """Ends the training by `RunError` once another run has taken the work directory.

    Not by a signal: where SIGINT is ignored, as of what a shell runs in the background, Python does
    not hear it either.

    Args:
        lock: What holds the work directory.
    """

    def __init__(self, lock: WorkdirLock | LeasedLock):
        super().__init__()
        self._lock = lock

    def on_train_begin(self, logs=None):
        self._lock.check()

    def on_train_batch_end(self, batch, logs=None):
        self._lock.check()

    def on_test_batch_end(self, batch, logs=None):
        self._lock.check()

    def on_epoch_end(self, epoch, logs=None):
        self._lock.check()


class FiniteLoss(keras.callbacks.Callback):
    """Ends the training by a `NonFiniteError` when the loss is not finite.

    Args:
        state: Where the training is.
    """

    def __init__(self, state: TrainingState):
        super().__init__()
        self._state = state

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            raise NonFiniteError(
                f"The loss is {logs['loss']} in epoch {self._state.epoch + 1}, batch {batch + 1}."
            )


class StopOnSignal(keras.callbacks.Callback):
    """Saves, and ends the training by `RunError`, at the first update after a SIGTERM.

    Clusters send it before they take a machine away. It is enough that one process gets it.

    Args:
        checkpoints: What saves.
        state: Where the training is.

    Attributes:
        told_to_stop: Whether this process has received the signal.
    """

    def __init__(self, checkpoints: Checkpoints, state: TrainingState):
        super().__init__()
        self._checkpoints = checkpoints
        self._state = state
        self.told_to_stop = False
        self._stopping = False
        self._before = None

    def on_train_begin(self, logs=None):
        # Python allows it in the main thread only.
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._receive)

    def stop(self) -> None:
        """Ends the training, which the loop calls in all processes once one was told to stop.

        Raises:
            RunError: If the training is at the end of an update; only whole ones are saved.
        """
        if self._state.batch % accumulation_steps(self.model.optimizer) == 0:
            self._stopping = True
            raise RunError(
                "told to stop (SIGTERM); everything is saved. Run the same command again to go on."
            )

    def close(self):
        """Saves if told to stop, and handles the signal as before."""
        # Not within a test: there the model may have the averages of its weights.
        try:
            if self._stopping:
                self._checkpoints.save()
        except NonFiniteError as error:
            raise RunError(
                f"told to stop (SIGTERM). {error} {last_good(self._checkpoints)}"
            ) from error
        finally:
            self._stopping = False
            self._handle_as_before()

    def _handle_as_before(self):
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)
        self._before = None

    def _receive(self, number, frame):
        self.told_to_stop = True


class BestEpoch(keras.callbacks.Callback):
    """Notes which epoch was the best, and can end the training when none is better for long.

    Args:
        state: Where the training is.
        figure: Which figure is watched: `"val_accuracy"`, where more is better, or `"val_loss"`,
            where less is.
        patience: After this many epochs without a better one the training ends; 0: never.

    Raises:
        ValueError: If the figure is another, or the patience is negative.
    """

    def __init__(self, state: TrainingState, figure: str = "val_accuracy", patience: int = 0):
        super().__init__()
        if figure not in ("val_accuracy", "val_loss"):
            raise ValueError(
                f'The best epoch is that by "val_accuracy" or "val_loss", but got {figure!r}.'
            )
        if patience < 0:
            raise ValueError(f"patience is a number of epochs, 0 for none, but got {patience}.")
        self._state = state
        self._figure = figure
        self._patience = patience

    @property
    def out_of_patience(self) -> bool:
        """Whether the training ends here, because no epoch was better for long."""
        state = self._state
        waited = state.epoch - state.best_epoch
        # Within an epoch its test is yet to come.
        return 0 < self._patience <= waited and state.best_epoch > 0 and state.batch == 0

    def take_up(self) -> None:
        """Looks for the best of the epochs done, which may be another than by another figure."""
        state = self._state
        if not state.has_history:
            return
        state.best, state.best_epoch = None, 0
        for figures in state.history:
            self._note(figures[FIGURES[self._figure]], figures["epoch"])

    def on_train_begin(self, logs=None):
        self.take_up()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None):
        self._note(logs[self._figure], epoch + 1)
        if 0 < self._patience <= epoch + 1 - self._state.best_epoch:
            self.model.stop_training = True

    def _note(self, value, epoch):
        best = self._state.best
        if best is None or math.isnan(best) or self._better(value, self._state.best):
            self._state.best, self._state.best_epoch = value, epoch

    def _better(self, value, than):
        return value < than if self._figure == "val_loss" else value > than


def last_good(checkpoints: Checkpoints) -> str:
    """Returns a sentence about what there is to go on from after a loss that was not finite.

    Args:
        checkpoints: What saves.
    """
    if not checkpoints.files:
        return "There is no checkpoint, for the first weights are not finite; see model.weights."
    return f"The last checkpoint, {checkpoints.files[-1]}, is good."
