"""Train function of `fit` while recorders observe a model."""

import contextlib
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import keras
import torch

from reszoo.gradients.backend import Training
from reszoo.gradients.backend.torch.model_taps import ModelTaps
from reszoo.gradients.first_batch import build_from
from reszoo.gradients.found_block import FoundBlock
from reszoo.gradients.observed_fit import ObservedFit
from reszoo.gradients.patching import replace
from reszoo.layers import ResidualBlock

_NAME = "_recorded_fit"


def recorded_fit(model: keras.Model) -> "RecordedFit":
    """Returns the `RecordedFit` of a model: one for all recorders while it is in place.

    Args:
        model: The model that is trained.
    """
    return vars(model).get(_NAME) or RecordedFit(model)


class RecordedFit(ObservedFit):
    """Recorded steps in `fit`, until training ends, fails, or begins again.

    It replaces the model's `make_train_function` and `train_function`, once for all recorders, and
    `train_step` while a batch is recorded.

    Args:
        model: The model that is trained.
    """

    def __init__(self, model: keras.Model):
        super().__init__(model)
        self._is_built = False

    def install(self, training: Training) -> None:
        """Records a training from the next batch on.

        Args:
            training: The training of one recorder, of the same model.
        """
        if not self.trainings:
            self._read_methods()
            self._replace(_NAME, self)
            self._replace("make_train_function", self._make_train_function)
            if self.model.train_function is None:
                self._own_make_train_function()
            self._put_in_place()
        self.trainings.append(training)

    def taps(
        self, sets: Iterable[str], blocks: Mapping[str, ResidualBlock | FoundBlock] | None
    ) -> ModelTaps:
        """Returns new taps for a training. No function is traced with them.

        Args:
            sets: Names of the sets of statistics.
            blocks: The blocks by name; `None` for every `ResidualBlock` of the model.
        """
        return ModelTaps(self.model, sets, blocks)

    def _put_in_place(self) -> None:
        self._own = self.model.train_function
        self.model.train_function = self._run

    def _restore_train_function(self) -> None:
        if self.model.train_function == self._run:
            self.model.train_function = self._own
        else:
            self._own_make_train_function(force=True)

    def _make_anew(self) -> None:
        self._own_make_train_function(force=True)
        self._put_in_place()

    def _run(self, data: Any) -> Any:
        """Replaces the function that `fit` calls for every batch."""
        self.executions += 1
        try:
            if not self._is_built:  # tested once: a layer that no batch runs is never built
                self._is_built = True
                if not build_from(self.model, lambda: keras.tree.map_structure(_symbolic, data[0])):
                    return self._run_unrecorded(data)
            for training in self.trainings:
                training.begin_execution(1)
            outputs = self._run_own(data)
            self._end_execution(1)
            return outputs
        except BaseException:
            self._close()
            raise

    def _run_unrecorded(self, data: Any) -> Any:
        """Runs the first batch, where only running it can build the model."""
        warnings.warn(
            f"The first batch of {self.model.name!r} is not recorded: the model is not built, and "
            "cannot be built without running it. Call the model on a batch before fit to have it "
            "recorded from the first on.",
            stacklevel=3,
        )
        outputs = self._own(data)
        for training in self.trainings:
            training.count_unrecorded(1)
        return outputs

    def _run_own(self, data: Any) -> Any:
        """Runs the model's own train function, which looks up `train_step` when it runs."""
        step = self.model.train_step
        due = [training for training in self.trainings if training.due]
        for training in due:
            step = training.taps.recorded(step)
        with contextlib.ExitStack() as stack:
            if due:
                stack.callback(replace(self.model, "train_step", step))
                # Compiled code would not call the taps.
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            try:
                return self._own(data)
            except BaseException:
                for training in self.trainings:
                    training.count_interrupted()
                raise


def _symbolic(x: Any) -> Any:
    if x is None:
        return None
    return keras.KerasTensor(x.shape, keras.backend.standardize_dtype(x.dtype))
