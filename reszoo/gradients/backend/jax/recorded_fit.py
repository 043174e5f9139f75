"""Train function of `fit` while recorders observe a model."""

import contextlib
import functools
import itertools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import keras

from reszoo.gradients.backend import Training
from reszoo.gradients.backend.jax.model_taps import ModelTaps
from reszoo.gradients.backend.jax.update_tap import Values
from reszoo.gradients.found_block import FoundBlock
from reszoo.gradients.kept_fit import TracedFunctions, TracedState, keep, kept
from reszoo.gradients.observed_fit import ObservedFit
from reszoo.gradients.patching import replace
from reszoo.keras_internals import MAKE_FUNCTION, restore_in_fit, train_function_of
from reszoo.layers import ResidualBlock

_NAME = "_recorded_fit"


def recorded_fit(model: keras.Model) -> "RecordedFit":
    """Returns the `RecordedFit` of a model: one for all recorders while it is in place.

    Args:
        model: The model that is trained.
    """
    in_place = fit_of(model)
    if in_place is not None:
        return in_place
    last = kept(model)
    return last if last is not None and last.is_current() else RecordedFit(model)


def fit_of(model: keras.Model) -> "RecordedFit | None":
    """Returns the `RecordedFit` that is in place, or `None`.

    Args:
        model: Any model.
    """
    return vars(model).get(_NAME)


class RecordedFit(ObservedFit):
    """Recorded steps in `fit`, until training ends, fails, or begins again.

    It replaces the model's `make_train_function` and `train_function`, once for all recorders. Of
    two steps, which Keras makes, one is the model's own, and the other is recorded; for each batch
    the host chooses one. While batches run, the model's variables have no values: these are in the
    state that the step is given. It is kept with the model's own train function, so that a later
    fit compiles nothing anew.

    Args:
        model: The model that is trained.

    Attributes:
        own_function: The train function that the model has without a recorder.
    """

    def __init__(self, model: keras.Model):
        super().__init__(model)
        self.own_function: Any = None
        self._traced_state: TracedState | None = None
        self._traced = TracedFunctions()
        self._is_kept = True
        self._state: Any = None
        self._applied = 0
        self._batches = 0

    def is_current(self) -> bool:
        """Returns whether the functions that were traced are those of the model as it is now."""
        return self._traced_state == TracedState.of(self.model, self.model.train_step)

    def install(self, training: Training) -> None:
        """Records a training from the next batch on.

        Args:
            training: The training of one recorder, of the same model.
        """
        if keras.config.is_nnx_enabled():
            raise ValueError(
                "Gradients cannot be recorded on JAX while Keras uses NNX, which trains by the "
                "train_step of the model's class. Unset KERAS_NNX_ENABLED before Keras is imported."
            )
        if not self.trainings:
            self._put_in_place()
        self.trainings.append(training)

    def taps(
        self, sets: Iterable[str], blocks: Mapping[str, ResidualBlock | FoundBlock] | None
    ) -> ModelTaps:
        """Returns taps for a training: those of the last fit, if they observe the same, or new.

        Args:
            sets: Names of the sets of statistics.
            blocks: The blocks by name; `None` for every `ResidualBlock` of the model.
        """
        return self._traced.taps(sets, blocks, functools.partial(ModelTaps, self.model))

    def batches_applied(self) -> int | None:
        """Returns the number of batches that the optimizer applied; `None` between executions."""
        if self._state is None:
            return None
        counter = Values(self.model.optimizer, self._state[2]).applied()
        # A step that was interrupted has taken its state with it.
        if not counter.is_deleted():
            self._applied = int(counter)
        return self._applied

    def _put_in_place(self) -> None:
        model = self.model
        self._read_methods()
        if self._traced_state is None:
            self._make_functions()
        self._replace(_NAME, self)
        self._replace("make_train_function", self._make_train_function)
        model.train_function = self._run

    def _make_functions(self) -> None:
        self._observed_step = self.model.train_step
        self._plain = self._step_of_fit()
        self.own_function = train_function_of(self.model, self._plain)
        self._run_batches = train_function_of(self.model, self._step)

    def _recorded_function(self) -> Callable:
        """Returns the step of a recorded batch, with the taps of all trainings."""
        taps = [training.taps for training in self.trainings]
        return self._traced.function(taps, False, self._new_recorded_function)

    def _new_recorded_function(self) -> Callable:
        put_back = replace(self.model, "train_step", self._recorded_step(self._observed_step))
        try:
            with self._variables_at(self._state):  # Keras asks where their values are
                return self._step_of_fit()
        finally:
            put_back()

    def _step_of_fit(self) -> Callable:
        """Returns the model's step, compiled as Keras compiles it."""
        steps, in_use = [], self.model.train_function
        put_back = replace(self.model, MAKE_FUNCTION, lambda step: steps.append(step))
        try:
            self._own_make_train_function(force=True)
        finally:
            put_back()
            self.model.train_function = in_use
        if not steps:
            raise ValueError(
                f"The gradients of {self.model.name!r} cannot be recorded in fit on JAX, because "
                "it makes its train function in a way of its own. Remove its make_train_function, "
                "or record a step of your own with GradientRecorder.recorded."
            )
        return steps[-1]

    def _recorded_step(self, step: Callable) -> Callable:
        def train_step(state: Any, data: Any) -> Any:
            observed = step
            for training in self.trainings:
                observed = _with_record_in_outputs(training.taps.observed(observed))
            return observed(state, data)

        return train_step

    def _restore_train_function(self) -> None:
        self.model.train_function = self.own_function
        self._traced.end_fit()
        if self._traced_state is not None:
            keep(self.own_function, self)

    def _make_anew(self) -> None:
        self._is_kept, self._traced_state = False, None
        self._traced = TracedFunctions()
        self._make_functions()
        self.model.train_function = self._run

    def _run(self, state: Any, iterator: Any) -> Any:
        """Replaces the function that `fit` calls for every execution."""
        self.executions += 1
        self._state, self._batches = state, 0
        try:
            if self._traced_state is None and self._is_kept:
                self._traced_state = TracedState.of(self.model, self._observed_step)
            for training in self.trainings:
                training.begin_execution(self.model.steps_per_execution)
            outputs, state = self._run_batches(state, iterator)
            with self._variables_readable(state):
                self._end_execution(self._batches)
            return outputs, state
        except StopIteration:
            raise
        except BaseException:
            self._restore_variables()
            self._close()
            raise
        finally:
            self._state = None

    def _restore_variables(self) -> None:
        """Has the variables get the values that they had before what failed."""
        # A step that was interrupted while it ran has taken its state with it.
        if not any(value.is_deleted() for value in jax.tree.leaves(self._state)):
            restore_in_fit(self.model, self._state)

    def _variables_readable(self, state: Any) -> contextlib.AbstractContextManager:
        """Returns a context in which alarms of a batch that is due can read the model's variables.

        There is none without alarms: it takes longer than all else that the host does.
        """
        if not any(training.due and training.has_alarms for training in self.trainings):
            return contextlib.nullcontext()
        return self._variables_at(state)

    def _variables_at(self, state: Any) -> keras.StatelessScope:
        """Returns a context in which the model's variables have the values of a state."""
        model = self.model
        variables = (
            *model.trainable_variables,
            *model.non_trainable_variables,
            *model.optimizer.variables,
            *model.metrics_variables,
        )
        return keras.StatelessScope(zip(variables, itertools.chain(*state), strict=True))

    def _step(self, state: Any, data: Any) -> Any:
        """Runs one batch."""
        due = [t for t in self.trainings if t.due and t.taps.is_next(self.batches_applied)]
        try:
            if due:
                outputs, self._state = self._recorded_function()(state, data)
                outputs = self._kept(outputs, due)
            else:
                outputs, self._state = self._plain(state, data)
        except BaseException:
            for training in self.trainings:
                training.count_interrupted()
            raise
        self._batches += 1
        return outputs, self._state

    def _kept(self, outputs: Any, due: list[Training]) -> Any:
        """Returns the outputs of the model's own step, and keeps the records of those due."""
        for training in reversed(self.trainings):
            outputs, record = outputs
            if training in due:
                training.taps.keep(record)
        return outputs


def _with_record_in_outputs(observed: Callable) -> Callable:
    def step(state: Any, data: Any) -> Any:
        (outputs, state), record = observed(state, data)
        return (outputs, record), state

    return step
