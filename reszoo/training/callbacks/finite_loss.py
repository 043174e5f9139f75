"""End of a training whose loss is not finite."""

import math

from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.state import NonFiniteError, TrainingState


class FiniteLoss(LoopCallback):
    """Ends the training by a `NonFiniteError` when the loss is not finite.

    Args:
        state: Position of the training, for the error.
    """

    def __init__(self, state: TrainingState):
        super().__init__()
        self._state = state

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if not math.isfinite(logs["loss"]):
            raise NonFiniteError(
                f"The loss is {logs['loss']} in epoch {self._state.epoch + 1}, batch {batch + 1}."
            )
