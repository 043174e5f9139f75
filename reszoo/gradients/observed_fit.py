"""Part of a recorded `fit` that is the same on every backend of Keras."""

import contextlib
from collections.abc import Callable
from typing import Any

import keras

from reszoo.gradients.backend import Training
from reszoo.gradients.patching import replace


class ObservedFit:
    """Trainings of one model that are recorded in `fit`, and the methods that are replaced for it.

    A subclass reads the model's methods, and then replaces them, when the first training is
    installed. It defines `_make_anew` and `_restore_train_function`.

    Args:
        model: The model that is trained.

    Attributes:
        trainings: The recorded trainings, one per recorder.
        executions: Number of calls of the train function that have begun.
    """

    def __init__(self, model: keras.Model):
        self.model: Any = model  # Keras declares that its train_function is None.
        self.trainings: list[Training] = []
        self.executions = 0
        self._put_back = contextlib.ExitStack()

    def remove(self, training: Training) -> None:
        """Stops recording a training. After the last one the model's own methods are restored.

        Args:
            training: A training that was installed.
        """
        if training not in self.trainings:
            return
        self.trainings.remove(training)
        if not self.trainings:
            # A replacement that other code has set since calls these, which then record nothing.
            self._put_back.close()
            self._restore_train_function()

    def _restore_train_function(self) -> None:
        raise NotImplementedError

    def _make_anew(self) -> None:
        """Makes all functions again, of a model that changed while it trains."""
        raise NotImplementedError

    def _read_methods(self) -> None:
        self._history = getattr(self.model, "history", None)
        self._own_make_train_function = self.model.make_train_function

    def _replace(self, name: str, replacement: Any) -> None:
        self._put_back.callback(replace(self.model, name, replacement))

    def _make_train_function(self, force: bool = False) -> Callable | None:
        """Replaces the model's `make_train_function`."""
        if self.trainings and self._history is not getattr(self.model, "history", None):
            # A new fit begins: the previous one was interrupted, so on_train_end was not called.
            self._close()
        if not self.trainings:
            return self._own_make_train_function(force)
        if self.model.train_function is None or force:
            self._make_anew()
            for training in self.trainings:
                training.renew_taps()
        return self.model.train_function

    def _end_execution(self, batches: int) -> None:
        """Ends an execution for all trainings, also where the log of one cannot be written."""
        with contextlib.ExitStack() as stack:
            for training in reversed(self.trainings):
                stack.callback(training.end_execution, batches)

    def _close(self) -> None:
        with contextlib.ExitStack() as stack:  # where one cannot be closed, the others are
            for training in self.trainings:
                stack.callback(self.remove, training)
                stack.callback(training.close)
