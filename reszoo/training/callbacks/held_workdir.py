"""End of a training whose work directory another run has taken."""

from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.lock import LeasedLock, WorkdirLock


class HeldWorkdir(LoopCallback):
    """Ends the training by `RunError` once another run has taken the work directory.

    A signal would not do: SIGINT is ignored in processes that a shell runs in the background.

    Args:
        lock: The lock of the work directory.
    """

    def __init__(self, lock: WorkdirLock | LeasedLock):
        super().__init__()
        self._lock = lock

    def on_train_begin(self, logs: Logs = None) -> None:
        self._lock.check()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._lock.check()

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        self._lock.check()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._lock.check()
