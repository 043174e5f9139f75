"""End of a training that is told to stop by a signal."""

import signal
import threading
from types import FrameType

from reszoo.training.callbacks.checkpoints import Checkpoints
from reszoo.training.callbacks.loop_callback import Logs, LoopCallback
from reszoo.training.state import NonFiniteError, RunError, TrainingState
from reszoo.training.terminal import tell_at_once
from reszoo.updates import accumulation_steps


class StopOnSignal(LoopCallback):
    """Saves, and ends the training by `RunError`, at the first update after SIGTERM or Ctrl-C.

    Clusters send SIGTERM before they reclaim a machine. One process that receives it is enough. A
    second Ctrl-C ends the training at once.

    Args:
        checkpoints: The checkpoints, of which one is saved.
        state: Position of the training.

    Attributes:
        told_to_stop: Whether this process has received the signal.
    """

    def __init__(self, checkpoints: Checkpoints, state: TrainingState):
        super().__init__()
        self._checkpoints = checkpoints
        self._state = state
        self.told_to_stop = False
        self._stopping = False
        self._signal = "SIGTERM"
        self._before = {}

    def on_train_begin(self, logs: Logs = None) -> None:
        # Python allows handlers of signals in the main thread only.
        if threading.current_thread() is not threading.main_thread():
            return
        self._before[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._receive)
        # Whoever handles it differently, or ignores it as in the background, goes on to.
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._before[signal.SIGINT] = signal.signal(signal.SIGINT, self._receive)

    def stop(self) -> None:
        """Ends the training. The loop calls it in all processes once one was told to stop.

        Raises:
            RunError: If the training is at the end of an update; within one nothing is saved.
        """
        if self._state.batch % accumulation_steps(self.model.optimizer) == 0:
            self._stopping = True
            raise RunError(
                f"told to stop ({self._signal}); everything is saved. Run the same command again "
                "to go on."
            )

    def close(self) -> None:
        """Saves if told to stop, and restores the earlier handlers of the signals."""
        # Not during a test, when the model may have the averages of its weights.
        try:
            if self._stopping:
                self._checkpoints.save()
        except NonFiniteError as error:
            raise RunError(
                f"told to stop ({self._signal}). {error} {self._checkpoints.last_in_words}"
            ) from error
        finally:
            self._stopping = False
            self._handle_as_before()

    def _handle_as_before(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.told_to_stop = True
        if number == signal.SIGINT:
            self._signal = "Ctrl-C"
            signal.signal(signal.SIGINT, signal.default_int_handler)
            tell_at_once("Saving, then stopping. Ctrl-C again to stop at once.")
