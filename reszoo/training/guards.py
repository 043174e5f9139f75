"""What watches over a training: signals to end, losses that are not finite, no improvement."""

import math
import signal
import threading
from collections.abc import Mapping

import keras

from reszoo.gradients.scale import accumulation_steps
from reszoo.training.checkpoints import Checkpoints
from reszoo.training.state import NonFiniteError, RunError, TrainingState


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
        if self._stopping:
            self._checkpoints.save()
        self._stopping = False
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

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None):
        state, value = self._state, logs[self._figure]
        if state.best is None or self._better(value, state.best):
            state.best, state.best_epoch = value, epoch + 1
        elif self._patience and epoch + 1 - state.best_epoch >= self._patience:
            state.stopped = True
            self.model.stop_training = True

    def _better(self, value, than):
        return value < than if self._figure == "val_loss" else value > than
