"""A call at the end of the first batch."""

from collections.abc import Callable

from reszoo.training.callbacks.loop_callback import Logs, LoopCallback


class FirstBatch(LoopCallback):
    """Calls a function once, when the first batch of this process has been trained on.

    Args:
        call: The function.
    """

    def __init__(self, call: Callable[[], None]):
        super().__init__()
        self._call = call
        self._is_over = False

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if not self._is_over:
            self._is_over = True
            self._call()
