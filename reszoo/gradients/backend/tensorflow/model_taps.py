"""Taps of a whole model: installed while a step runs, and read by the host."""

import contextlib
import functools
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reszoo.accumulator import Accumulator
from reszoo.distribution import is_chief
from reszoo.gradients.backend.tensorflow.losses import Losses, differentiated
from reszoo.gradients.backend.tensorflow.passes import Passes, Turns, number_of
from reszoo.gradients.backend.tensorflow.taps import BlockTaps, Switch, when
from reszoo.gradients.backend.tensorflow.update_tap import UpdateTap
from reszoo.gradients.backend.tensorflow.whole_step import WholeStep
from reszoo.gradients.blocks import find_blocks, found_in
from reszoo.gradients.first_batch import check_built, check_compiled, has_all_weights
from reszoo.gradients.found_block import FoundBlock, acting_block
from reszoo.gradients.left_out import LeftOut, pass_of_all
from reszoo.gradients.measures import BACKWARD_PLACES, NOISE_SUMS, WEIGHT_SUMS, measures_of
from reszoo.gradients.patching import replace
from reszoo.keras_internals import backward_functions_in_order, compiled_alike, is_tf_function
from reszoo.layers import ResidualBlock
from reszoo.updates import accumulation_steps, loss_scale, optimizer_classes

_WHY_UNREACHED = (
    "in a tf.function that was traced before, or were not differentiated by a tf.GradientTape"
)


_WHY_LOST = (
    "{} ran in a recorded step without the addition that ends it where instrument found it, so "
    "that its gradients are recorded as NaN: the code of the layer differs from call to call."
)


class ModelTaps:
    """Taps of the residual blocks of a model and of its optimizers.

    Between steps the model is unchanged: the taps are installed when a recorded step is run or
    traced, and removed when it ends, with or without an error. A `tf.function` traced meanwhile
    keeps them.

    Args:
        model: A built and compiled model.
        sets: Names of the sets of statistics whose sums are computed.
        blocks: The blocks by name; `None` for every `ResidualBlock` of the model.

    Raises:
        ValueError: If the model has no residual block, is not compiled, or lacks one of these
            blocks.
    """

    updates_model = True

    def __init__(
        self,
        model: keras.Model,
        sets: Iterable[str],
        blocks: Mapping[str, ResidualBlock | FoundBlock] | None = None,
    ):
        check_compiled(model)
        check_built(model)
        self.model = model
        self.sets = frozenset(sets)
        self.blocks = find_blocks(model) if blocks is None else dict(blocks)
        self._found_in = found_in(model, self.blocks)
        self.variables = list(model.trainable_variables)
        measures = measures_of(self.sets)
        with model.distribute_strategy.scope():
            # Otherwise its `apply` builds it, with the weights that do not exist yet.
            if not model.optimizer.built and has_all_weights(model):
                model.optimizer.build(self.variables)
            self.switch = Switch(model.optimizer)
            self._anchor = tf.Variable(tf.constant(0.0), trainable=True)
            self._of_blocks = {
                name: [(m, Accumulator([len(m.powers)], m.maximum)) for m in measures]
                for name in self.blocks
            }
            self.passes = Passes(list(self.blocks.values()), lambda: self._step.is_here())
            self._turns = [Turns(self.passes, i) for i in range(len(self.blocks))]
            self._losses = Losses()
            self._updates = self._noise = None
            if {"weights", "noise_scale", "variables"}.intersection(self.sets):
                self._updates = Accumulator([len(self.variables), len(WEIGHT_SUMS)])
            if "noise_scale" in self.sets:
                self._noise = Accumulator([len(self.variables), len(NOISE_SUMS)])
            self._step = WholeStep(self._accumulators(), len(self._known()), self._hand_over)
        self._read_and_clear = tf.function(self._read_and_clear)
        self._functions = {}
        self._may_be_due = False
        self._users = 0
        self._replica = threading.local()
        self._put_back = contextlib.ExitStack()
        paths = [variable.path for variable in self.variables]
        self._left_out = LeftOut(model.name, self.blocks, paths, measures, _WHY_UNREACHED)

    def clear(self) -> None:
        """Forgets what the last training left behind, before another begins."""
        self._take_all()
        self.switch.set(0, -1)
        self._left_out.tell_again()

    @property
    def parts(self) -> int:
        """Number of parts of a batch: replicas, times accumulated batches."""
        replicas = self.model.distribute_strategy.num_replicas_in_sync
        return replicas * accumulation_steps(self.model.optimizer)

    def recorded(self, step: Callable, asks: bool = True) -> Callable:
        """Returns a step that is recorded whenever the switch is on.

        Args:
            step: A function of one replica that computes gradients and calls
                `model.optimizer.apply`. Of a `tf.function` the host runs another one, with taps,
                while a batch may be recorded.
            asks: Whether it tests on the device if a batch is recorded. It need not where it runs
                for recorded batches alone.

        Returns:
            A function with the same arguments and result.
        """
        if is_tf_function(step):
            return self._chosen_by_host(step)

        def recorded_step(*args: Any, **kwargs: Any) -> Any:
            with self._in_place(asks, (args, kwargs)):
                return step(*args, **kwargs)

        return recorded_step

    def _chosen_by_host(self, step: Any) -> Callable:
        """Returns a function that runs a `tf.function`, or one like it with taps."""

        def chosen(*args: Any, **kwargs: Any) -> Any:
            if not tf.executing_eagerly():  # within another function, which is traced once
                return self.recorded(step.python_function)(*args, **kwargs)
            if not self._may_be_due:
                return step(*args, **kwargs)
            if step not in self._functions:
                recorded = self.recorded(step.python_function)
                self._functions[step] = compiled_alike(step, recorded)
            return self._functions[step](*args, **kwargs)

        return chosen

    @property
    def writes(self) -> bool:
        """Role of this process: true if it writes the log."""
        return is_chief(self.model.distribute_strategy)

    def set_due(self, batches: int, first: int) -> None:
        """Sets which batch to record. Called by the host.

        Args:
            batches: Number of batches that have been tried.
            first: The first batch to record, counted from 0.
        """
        self._may_be_due = True
        self.switch.set(batches, first)

    def update_state(self) -> tuple[bool, bool]:
        """Returns whether the update to record has begun, and whether it is over."""
        return self.switch.state()

    def take(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], float | None, int]:
        """Returns all sums, in one transfer, and sets them to zero.

        Returns:
            The sums of the blocks, each of shape `(blocks,)`, and those of the weights, each of
            shape `(weights,)`, float64, by name; the loss, `None` if it is not known; and the
            number of recorded batches.
        """
        self._may_be_due = False
        (seen, passes), flat = np.split(self._take_all(), [2])
        of_turns, flat = np.split(flat, [len(self._turns) * (1 + 2 * len(BACKWARD_PLACES))])
        shapes: list[Any] = [
            accumulator.variable.shape.as_list() for accumulator in self._accumulators()
        ]
        ends = np.cumsum([math.prod(shape) for shape in shapes])
        parts = (
            part.reshape(shape)
            for part, shape in zip(np.split(flat, ends[:-1]), shapes, strict=True)
        )
        losses = next(parts)
        of_blocks = {}
        for pairs in self._of_blocks.values():
            for measure, _ in pairs:
                part = next(parts)
                values = part.max(axis=0) if measure.maximum else part
                for name, value in zip(measure.powers, values, strict=True):
                    of_blocks.setdefault(name, []).append(value)
        of_weights = {}
        # There are none where the weights are not observed.
        for names, part in zip((WEIGHT_SUMS, NOISE_SUMS), parts, strict=False):
            of_weights |= zip(names, part.T, strict=True)
        of_blocks = {name: np.array(values) for name, values in of_blocks.items()}
        loss = None
        if seen:
            replicas = self.model.distribute_strategy.num_replicas_in_sync
            of_turns = of_turns.reshape(len(self._turns), -1) / replicas
            reached = of_turns[:, 2::2]
            recorded = number_of(of_turns[:, 1::2][reached > 0])
            loss = _loss(losses, pass_of_all(recorded, passes), seen * replicas)
            self._left_out.tell_of_loss(loss, passes)
            self._left_out.leave_out_blocks(of_blocks, of_turns[:, 0] > 0, reached, passes)
            self._left_out.leave_out_weights(of_weights)
            lost = np.array([turns.is_lost for turns in self._turns])
            names = [name for name in of_blocks if name not in WEIGHT_SUMS]
            self._left_out.leave_out(of_blocks, names if lost.any() else (), lost, _WHY_LOST)
        return of_blocks, of_weights, loss, int(seen)

    def _accumulators(self) -> list[Accumulator]:
        of_blocks = [accumulator for pairs in self._of_blocks.values() for _, accumulator in pairs]
        return [self._losses.sums, *of_blocks, *filter(None, (self._updates, self._noise))]

    def _read_and_clear(self) -> tf.Tensor:
        """Returns all sums, wherever a step has added them, and sets them to zero.

        A step adds to the variables of the parts, or is written as a whole; the other is zero.
        """
        variables = [accumulator.variable for accumulator in self._accumulators()]
        of_turns = [variable for turns in self._turns for variable in turns.variables]
        variables = [*of_turns, *variables]
        sums = [v if v.shape.rank == 1 else tf.reshape(v, [-1]) for v in variables]
        sums = tf.concat([self.passes.counted.value()[None], *sums], axis=0)
        sums += self._step.written.value()[1:]
        for variable in [self.passes.counted, *variables, self._step.written]:
            variable.assign(tf.zeros(variable.shape, variable.dtype))
        self.switch.turn_off()
        return tf.concat([tf.cast(self.switch.seen.value(), tf.float64)[None], sums], axis=0)

    def _take_all(self) -> np.ndarray:
        """Returns the number of recorded batches, what is known of their passes, and all sums."""
        taken = self._read_and_clear().numpy() if self._step.uses_variables else self._step.take()
        self.switch.seen.assign(0)
        return taken

    def _known(self) -> list[float]:
        """Returns what is known of a whole step while it is traced, in the order of `take`."""
        return [*self.passes.known, *itertools.chain(*(t.known for t in self._turns))]

    def _hand_over(self) -> None:
        for part in (self.passes, *self._turns):
            part.write_known()

    @contextlib.contextmanager
    def _in_place(self, asks: bool, batch: Any) -> Iterator[None]:
        """Context in which the taps are installed; replicas enter and leave in any order."""
        outermost = not getattr(self._replica, "inside", False)
        if outermost:
            self._replica.inside = True
            self._users += 1
            if self._users == 1:
                self._put_in_place()
        try:
            if outermost:
                self.switch.asks = asks
                self._replica.scaled_by = None
                self._replica.in_pass = self._replica.in_update = False
                # A batch that does not exist, because the data has ended, is not counted.
                with tf.control_dependencies(_tensors_in(batch)):
                    self.switch.begin_batch()
                replicas = tf.distribute.get_strategy().num_replicas_in_sync
                self._step.begin(is_possible=replicas == 1 and not asks)
                for part in (self.passes, *self._turns):
                    part.begin_step()
            yield
            if outermost:
                self._step.end(self.switch.seen.value(), self._known())
        finally:
            if outermost:
                self._step.leave()
                self._replica.inside = False
                self._users -= 1
                if self._users == 0:
                    self._put_back.close()

    def _put_in_place(self) -> None:
        for turns, (name, block) in zip(self._turns, self.blocks.items(), strict=True):
            accumulators = self._of_blocks[name]
            block = acting_block(block)
            if tf.executing_eagerly():  # a traced step stays as it was traced
                turns.is_lost = False
            taps = BlockTaps(
                block, accumulators, self.switch, self._anchor, turns, self._step, self._scale
            )
            for attribute, replacement in taps.replacements().items():
                self._replace(block, attribute, replacement)
        for searched in self._found_in:
            for replacement in searched.replacements() if searched.acting() is None else ():
                self._replace(*replacement)
        # For all optimizers and tapes, wherever a step finds or creates them; only in its thread.
        self._replace(tf.GradientTape, "gradient", self._gradient(tf.GradientTape.gradient))
        if tf.executing_eagerly():
            self._replace(*backward_functions_in_order())
        for kind in optimizer_classes():
            if "scale_loss" in vars(kind):
                self._replace(kind, "scale_loss", self._scale_loss(kind.scale_loss))
            if "apply" in vars(kind) and self._updates is not None:
                self._replace(kind, "apply", self._apply(kind.apply, self._updates))

    def _scale(self) -> tf.Tensor | float:
        """Returns the divisor of the tape's gradients: the last loss scale, times accumulation."""
        optimizer = self._replica.scaled_by
        scale = 1.0 if optimizer is None else loss_scale(optimizer)
        return scale * accumulation_steps(self.model.optimizer)

    def _gradient(self, original: Callable) -> Callable:
        """Returns the replacement of `tf.GradientTape.gradient`, which counts the passes."""

        @functools.wraps(original)
        def gradient(
            tape: tf.GradientTape, target: Any, sources: Any, *args: Any, **kwargs: Any
        ) -> Any:
            if not self._is_first("in_pass"):
                return original(tape, target, sources, *args, **kwargs)
            self._replica.in_pass = True
            try:
                self.passes.begin(sources)
                self._add_loss(target, *args, **kwargs)
                return original(tape, target, sources, *args, **kwargs)
            finally:
                self._replica.in_pass = False

        return gradient

    def _add_loss(self, target: Any, output_gradients: Any = None, *_: Any, **__: Any) -> None:
        """Adds the loss of the pass that begins, if the batch is recorded."""
        loss = differentiated(target, output_gradients)
        if loss is None:
            return

        def add() -> list[tf.Tensor]:
            sums = self._losses.of_pass(self.passes.number(), loss, self._scale())
            self._step.add(self._losses.sums, sums)
            return [sums]

        when(self.switch.on(), add)

    def _scale_loss(self, original: Callable) -> Callable:
        """Returns the replacement of an optimizer's `scale_loss`, which stores the optimizer."""

        @functools.wraps(original)
        def scale_loss(optimizer: keras.optimizers.Optimizer, loss: tf.Tensor) -> tf.Tensor:
            if getattr(self._replica, "inside", False):
                self._replica.scaled_by = optimizer
            return original(optimizer, loss)

        return scale_loss

    def _apply(self, original: Callable, updates: Accumulator) -> Callable:
        """Returns the replacement of an optimizer's `apply`; only the outermost one observes."""

        @functools.wraps(original)
        def apply(
            optimizer: keras.optimizers.Optimizer,
            grads: Iterable,
            trainable_variables: Iterable | None = None,
        ) -> Any:
            own = functools.partial(original, optimizer)
            # Gradients of another number of batches than the step's cannot be compared with it.
            alike = accumulation_steps(optimizer) == accumulation_steps(self.model.optimizer)
            if not self._is_first("in_update") or not alike:
                return own(grads, trainable_variables)
            self._replica.in_update = True
            try:
                update = UpdateTap(
                    optimizer,
                    own,
                    self.variables,
                    updates,
                    self._noise,
                    self.switch,
                    self._step,
                )
                return update(grads, trainable_variables)
            finally:
                self._replica.in_update = False

        return apply

    def _is_first(self, what: str) -> bool:
        return getattr(self._replica, "inside", False) and not getattr(self._replica, what)

    def _replace(self, owner: Any, name: str, replacement: Any) -> None:
        self._put_back.callback(replace(owner, name, replacement))


def _loss(losses: np.ndarray, number: int | None, batches: float) -> float | None:
    """Returns the loss of a pass; `None` if it is not known in each batch on each replica."""
    if number is None or number > len(losses) or losses[number - 1, 1] != batches:
        return None
    return float(losses[number - 1, 0])


def _tensors_in(batch: Any) -> list[tf.Tensor]:
    return [x for x in tf.nest.flatten(batch, expand_composites=True) if tf.is_tensor(x)]
