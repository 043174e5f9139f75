"""The best epoch, and the end of a training that no longer improves."""

import math

from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.metrics_file import FIGURES
from reszoo.training.state import TrainingState


class BestEpoch(LoopCallback):
    """Keeps the best epoch, and can end a training that no longer improves.

    Args:
        state: Position of the training, in which the best epoch is kept.
        figure: Figure that is watched: `"val_accuracy"`, of which the highest is best, or
            `"val_loss"`, of which the lowest is.
        patience: Number of epochs without a better one after which the training ends; 0: never.

    Raises:
        ValueError: If the figure is neither of the two, or the patience is negative.
    """

    def __init__(self, state: TrainingState, figure: str = "val_accuracy", patience: int = 0):
        super().__init__()
        if figure not in ("val_accuracy", "val_loss"):
            raise ValueError(
                f'best.figure must be "val_accuracy" or "val_loss", but got {figure!r}.'
            )
        if patience < 0:
            raise ValueError(
                f"best.patience must be a number of epochs, 0 for none, but got {patience}."
            )
        self._state = state
        self._figure = figure
        self._patience = patience

    @property
    def out_of_patience(self) -> bool:
        """End of the patience: whether too many epochs have passed without a better one."""
        state = self._state
        waited = state.epoch - state.best_epoch
        # Within an epoch its test has not been run yet.
        return 0 < self._patience <= waited and state.best_epoch > 0 and state.batch == 0

    def take_up(self) -> None:
        """Finds the best of the epochs done, since a resumed run may watch another figure."""
        state = self._state
        if not state.has_history:
            return
        state.best, state.best_epoch = None, 0
        for figures in state.history:
            self._note(figures[FIGURES[self._figure]], figures["epoch"])

    def on_train_begin(self, logs: Logs = None) -> None:
        self.take_up()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._note(logs[self._figure], epoch + 1)
        if 0 < self._patience <= epoch + 1 - self._state.best_epoch:
            self.model.stop_training = True

    def _note(self, value: float, epoch: int) -> None:
        best = self._state.best
        if best is None or math.isnan(best) or self._better(value, best):
            self._state.best, self._state.best_epoch = value, epoch

    def _better(self, value: float, than: float) -> bool:
        return value < than if self._figure == "val_loss" else value > than
