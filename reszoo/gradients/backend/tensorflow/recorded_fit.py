"""Train function of `fit` while recorders observe a model."""

import functools
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from reszoo.gradients.backend import Training
from reszoo.gradients.backend.tensorflow.model_taps import ModelTaps
from reszoo.gradients.first_batch import build_from
from reszoo.gradients.found_block import FoundBlock
from reszoo.gradients.kept_fit import TracedFunctions, TracedState, keep, kept
from reszoo.gradients.observed_fit import ObservedFit
from reszoo.gradients.patching import replace
from reszoo.layers import ResidualBlock

# Errors by which an exhausted iterator ends a step; Keras's fit expects them.
_END_OF_DATA = (StopIteration, tf.errors.OutOfRangeError)
_NAME = "_recorded_fit"


def recorded_fit(model: keras.Model) -> "RecordedFit":
    """Returns the `RecordedFit` of a model: one for all recorders while it is in place.

    Args:
        model: The model that is trained.
    """
    in_place = vars(model).get(_NAME)
    if in_place is not None:
        return in_place
    last = kept(model)
    return last if last is not None and last.is_current() else RecordedFit(model)


class RecordedFit(ObservedFit):
    """Recorded steps in `fit`, until training ends, fails, or begins again.

    It replaces the model's `train_step`, `make_train_function` and `train_function`, once for all
    recorders, and counts the batches where they run. It is kept with the model's own train
    function, so that a later fit traces nothing anew.

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
        self._recording = False
        self._is_built = False
        self._is_kept = True

    def is_current(self) -> bool:
        """Returns whether the functions that were traced are those of the model as it is now."""
        return self._traced_state == TracedState.of(self.model, self.model.train_step)

    def install(self, training: Training) -> None:
        """Records a training from the next batch on.

        Args:
            training: The training of one recorder, of the same model.
        """
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

    def _put_in_place(self) -> None:
        model = self.model
        self._read_methods()
        self._own_step = model.train_step
        is_new = self._traced_state is None
        if is_new:
            self._own_make_train_function(force=True)
            self.own_function = model.train_function
        self._replace(_NAME, self)
        self._replace("train_step", self._step)
        self._replace("make_train_function", self._make_train_function)
        if is_new:
            self._make_plain_function()
        elif self._counter is not None:
            self._counted = int(self._counter.numpy())
        model.train_function = self._run

    def _make_plain_function(self) -> None:
        """Makes the function that runs batches which are not due.

        That is the model's own one, unless batches have to be counted. Under XLA it is measurably
        faster than one that tests on the device whether a batch is due.
        """
        self._observed_step = self.model.train_step
        with self.model.distribute_strategy.scope():
            self._counter = _new_counter() if self.model.steps_per_execution > 1 else None
        self._counted = 0
        self._plain = self.own_function if self._counter is None else self._new_function()

    def _new_function(self) -> Callable:
        """Returns a train function of the observed step, which is traced when it first runs."""
        in_use = self.model.train_function
        put_back = replace(self.model, "train_step", self._observed_step)
        try:
            self._own_make_train_function(force=True)
            return self.model.train_function
        finally:
            put_back()
            self.model.train_function = in_use

    def _recorded_function(self) -> Callable:
        """Returns the function that runs recorded batches, with the taps of all trainings."""
        taps = [training.taps for training in self.trainings]
        return self._traced.function(taps, self._asks, self._new_function)

    def _restore_train_function(self) -> None:
        if self._traced_state is None or self.model.train_function != self._run:
            self._own_make_train_function(force=True)
            return
        self.model.train_function = self.own_function
        self._traced.end_fit()
        keep(self.own_function, self)

    def _make_anew(self) -> None:
        """Makes all functions again, of a model that changed while it trains; none is kept."""
        self._is_kept, self._traced_state = False, None
        self._traced = TracedFunctions()
        self._own_make_train_function(force=True)
        self.own_function = self.model.train_function
        self._make_plain_function()
        self.model.train_function = self._run

    @tf.autograph.experimental.do_not_convert
    def _step(self, *args: Any, **kwargs: Any) -> Any:
        """Replaces the model's `train_step`."""
        step = self._own_step
        if self.trainings and self._counter is not None:
            self._counter.assign_add(1)
        if self._recording:
            for training in self.trainings:
                step = training.taps.recorded(step, self._asks)
        return step(*args, **kwargs)

    @property
    def _asks(self) -> bool:
        """Need of the recorded function to test on the device if a batch is due: not all are."""
        return (
            len(self.trainings) > 1
            or self._counter is not None
            or self.trainings[0].batches_per_step > 1
        )

    def _run(self, iterator: Any) -> Any:
        """Replaces the function that `fit` calls for every execution."""
        self.executions += 1
        try:
            if not self._is_built:  # tested once: a layer that no batch runs is never built
                self._is_built = True
                if not _build_for(self.model, iterator):
                    return self._run_unrecorded(iterator)
            if self._traced_state is None and self._is_kept:
                self._traced_state = TracedState.of(self.model, self._own_step)
            for training in self.trainings:
                training.begin_execution(self.model.steps_per_execution)
            outputs = self._run_one_of_two(iterator)
            self._end_execution(self._number_of_batches())
            return outputs
        except _END_OF_DATA:
            raise
        except BaseException:
            self._close()
            raise

    def _run_unrecorded(self, iterator: Any) -> Any:
        """Runs the first batches, where only running them can build the model."""
        warnings.warn(
            f"The first batch of {self.model.name!r} is not recorded: the model is not built, and "
            "cannot be built without running it. Call the model on a batch before fit to have it "
            "recorded from the first on.",
            stacklevel=3,
        )
        outputs = self._plain(iterator)
        number = self._number_of_batches()
        for training in self.trainings:
            training.count_unrecorded(number)
        return outputs

    def _run_one_of_two(self, iterator: Any) -> Any:
        self._recording = any(training.due for training in self.trainings)
        try:
            return (self._recorded_function() if self._recording else self._plain)(iterator)
        except _END_OF_DATA:
            raise
        except BaseException:
            for training in self.trainings:
                training.count_interrupted()
            raise
        finally:
            self._recording = False

    def _number_of_batches(self) -> int:
        """Returns the number of batches that ran: fewer than possible where the data ended."""
        if self._counter is None:
            return 1
        before, self._counted = self._counted, int(self._counter.numpy())
        return self._counted - before


def _build_for(model: keras.Model, iterator: Any) -> bool:
    """Builds a model for the batches of an iterator that `fit` gives its train function."""
    with model.distribute_strategy.scope():
        return build_from(model, lambda: tf.nest.map_structure(_symbolic, iterator.element_spec))


def _symbolic(spec: tf.TensorSpec) -> keras.KerasTensor:
    return keras.KerasTensor(spec.shape, spec.dtype.name)


def _new_counter() -> tf.Variable:
    return tf.Variable(
        tf.constant(0, tf.int64),
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
