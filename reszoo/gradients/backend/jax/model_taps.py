"""Taps of a whole model: installed while a step is run or traced, and read by the host."""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
import keras
import numpy as np

from reszoo import updates
from reszoo.gradients import backend
from reszoo.gradients.backend.jax.passes import Passes
from reszoo.gradients.backend.jax.reductions import in_double
from reszoo.gradients.backend.jax.taps import BlockTaps, parts_of
from reszoo.gradients.backend.jax.update_tap import UpdateTap, Values
from reszoo.gradients.blocks import find_blocks, found_in
from reszoo.gradients.first_batch import check_built, check_compiled
from reszoo.gradients.found_block import FoundBlock, acting_block
from reszoo.gradients.left_out import LeftOut
from reszoo.gradients.measures import BACKWARD_PLACES, NOISE_SUMS, WEIGHT_SUMS, measures_of
from reszoo.gradients.patching import replace
from reszoo.keras_internals import scalar_vjp
from reszoo.layers import ResidualBlock
from reszoo.updates import accumulation_steps

_WHY_UNREACHED = (
    "in a function that does not call stateless_call of a model, or were differentiated in one "
    "within the step, such as that of a jax.lax.scan"
)
_WHY_NOT_FORWARD = (
    "no gradient reached the output of {} in a recorded step. On JAX the sums of the forward pass "
    "come with it, so they are recorded as NaN."
)
_WHY_NO_MAXIMA = (
    "{} ran in a loop on the device, or too often, in a recorded step. The largest gradients of "
    "each run are not known, and recorded as NaN."
)


class ModelTaps:
    """Taps of the residual blocks of a model and of its optimizers.

    Between steps the model is unchanged: the taps are installed when a recorded step is run or
    traced, and removed when it ends, with or without an error.

    Args:
        model: A built and compiled model.
        sets: Names of the sets of statistics whose sums are computed.
        blocks: The blocks by name; `None` for every `ResidualBlock` of the model.

    Attributes:
        updates_model: Whether the count of the model's optimizer is that of the batches that ran. A
            loop of one's own may keep its state to itself.

    Raises:
        ValueError: If the model has no residual block, is not compiled, or lacks one of these
            blocks.
    """

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
        self._parts = parts_of(measures)
        self._of_weights = bool({"weights", "noise_scale", "variables"}.intersection(self.sets))
        self._of_noise = "noise_scale" in self.sets
        self._counted, self._first, self._begun = 0, -1, None
        self._records: list[Any] = []
        self._compiled = {}
        self.updates_model = True
        paths = [variable.path for variable in self.variables]
        self._left_out = LeftOut(model.name, self.blocks, paths, measures, _WHY_UNREACHED)

    def clear(self) -> None:
        """Forgets what the last training left behind, before another begins."""
        self.set_due(0, -1)
        self._left_out.tell_again()

    @property
    def parts(self) -> int:
        """Number of parts of a batch: accumulated batches. Devices share one batch."""
        return accumulation_steps(self.model.optimizer)

    @property
    def writes(self) -> bool:
        """Role of this process: true if it writes the log."""
        return jax.process_index() == 0

    def set_due(self, batches: int, first: int) -> None:
        """Sets which batch to record.

        Args:
            batches: Number of batches that have been tried.
            first: The first batch to record, counted from 0. With several batches per update, the
                update is recorded if it begins with that batch or fewer than one update after it.
        """
        self._counted, self._first, self._begun = batches, first, None
        self._records.clear()

    def is_next(self, applied: Callable[[], int]) -> bool:
        """Counts a batch that is about to run, and returns whether it is recorded.

        Args:
            applied: Returns the number of batches that the optimizer has applied.
        """
        batch, self._counted = self._counted, self._counted + 1
        size = accumulation_steps(self.model.optimizer)
        if size == 1:
            return batch == self._first
        before = applied()
        begins = self._first <= batch < self._first + size and before % size == 0
        if begins and not self._records:
            self._begun = before
        return self._begun is not None and self._begun <= before < self._begun + size

    def update_state(self) -> tuple[bool, bool]:
        """Returns whether the update to record has begun, and whether it is over."""
        if self._begun is None:
            return False, False
        size = accumulation_steps(self.model.optimizer)
        if self.updates_model:
            applied = backend.batches_applied(self.model)
        else:
            applied = int(self._records[-1]["applied"]) if self._records else self._begun
        return True, self._begun <= applied - size

    def observed(self, step: Callable) -> Callable:
        """Returns a step that returns its result and the record of its sums.

        Args:
            step: A function of a state, whose third part is the optimizer's, and of other
                arguments.
        """

        @functools.wraps(step)
        def observed_step(state: Any, *args: Any, **kwargs: Any) -> Any:
            passes = Passes(self._parts, len(self.blocks))
            # The last of several batches of an update is told by the count of the optimizer.
            observes = self._of_weights or self.parts > 1
            update = UpdateTap(self.variables, self._of_noise) if observes else None
            with in_double():
                scale = jnp.asarray(self._scale(state), jnp.float64)
            for running in passes.running:
                running.scale = scale
            with self._in_place(passes, update):
                result = step(state, *args, **kwargs)
            record = {**passes.sums(), "scale": scale, **(update.sums() if update else {})}
            return result, _on_all_devices(record)

        return observed_step

    def recorded(self, step: Callable, asks: bool = True) -> Callable:
        """Returns a step of a loop of one's own, recorded whenever the batch is due.

        Args:
            step: A function of a state, `(trainable, non-trainable and optimizer's variables)`, and
                of other arguments; compiled by `jax.jit` or not.
            asks: Without effect: the host decides.

        Returns:
            A function with the same arguments and result, to be called outside of `jax.jit`.
        """
        self.updates_model = False

        def recorded_step(state: Any, *args: Any, **kwargs: Any) -> Any:
            _check_state(state, self.model)
            values = Values(self.model.optimizer, state[2])
            if not self.is_next(lambda: int(values.applied())):
                return step(state, *args, **kwargs)
            result, record = self._compiled_step(step)(state, *args, **kwargs)
            self.keep(record)
            return result

        return recorded_step

    def _compiled_step(self, step: Callable) -> Callable:
        """Returns the observed step, compiled if the step is."""
        if step not in self._compiled:
            is_compiled = hasattr(step, "lower") and hasattr(step, "__wrapped__")
            observed = self.observed(step.__wrapped__ if is_compiled else step)
            self._compiled[step] = jax.jit(observed) if is_compiled else observed
        return self._compiled[step]

    def keep(self, record: Any) -> None:
        """Keeps the record of a batch until `take`.

        Args:
            record: The second result of an observed step.
        """
        self._records.append(record)

    def take(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], float | None, int]:
        """Returns all sums, in one transfer, and sets them to zero.

        Returns:
            The sums of the blocks, each of shape `(blocks,)`, and those of the weights, each of
            shape `(weights,)`, float64, by name; the loss, `None` if it is not known; and the
            number of recorded batches.
        """
        records = jax.device_get(self._records)
        self._records = []
        if not records:
            return {}, {}, None, 0
        of_blocks, of_weights = self._of_blocks(records), self._of_all_weights(records)
        reached = np.max([_reached(record) for record in records], axis=0)
        ran = np.max([record["ran"] for record in records], axis=0) > 0
        passes = max(record["passes"] for record in records)
        self._left_out.leave_out_blocks(of_blocks, ran, reached, passes)
        for part, place in (("merge", "forward"), ("activation", "activation")):
            unseen = np.max([record["reached"][part] for record in records], axis=0) == 0
            names = [name for m in self._parts[part] if m.place == place for name in m.powers]
            self._left_out.leave_out(of_blocks, names, unseen, _WHY_NOT_FORWARD)
        self._left_out.leave_out_weights(of_weights)
        loss = None
        if all(record["has_loss"] for record in records):
            loss = float(sum(record["loss"] / record["scale"] for record in records))
        self._left_out.tell_of_loss(loss, passes)
        return of_blocks, of_weights, loss, len(records)

    def _of_blocks(self, records: list[Any]) -> dict[str, np.ndarray]:
        sums = {}
        for part, measures in self._parts.items():
            powers = [(name, power) for m in measures for name, power in m.powers.items()]
            for column, (name, power) in enumerate(powers):
                values = [r[part][..., column] / r["scale"] ** power for r in records]
                if part == "maxima":  # a row for each call
                    sums[name] = np.max(values, axis=(0, 2))
                else:
                    sums[name] = np.sum(values, axis=0)
        if self._parts["maxima"]:
            counts = np.max([record["maxima"][..., -1] for record in records], axis=(0, 2))
            names = [name for m in self._parts["maxima"] for name in m.powers]
            self._left_out.leave_out(sums, names, counts > 1, _WHY_NO_MAXIMA)
        return sums

    def _of_all_weights(self, records: list[Any]) -> dict[str, np.ndarray]:
        sums = {}
        if not self._of_weights:
            return sums
        for part, names in (("weights", WEIGHT_SUMS), ("parts", NOISE_SUMS)):
            for column, (name, power) in enumerate(names.items()):
                if part in records[0]:
                    values = [r[part][:, column] / r["scale"] ** power for r in records]
                    sums[name] = np.sum(values, axis=0)
        return sums

    def _scale(self, state: Any) -> Any:
        """Returns the factor of the loss, times the number of batches of an update."""
        optimizer = self.model.optimizer
        return Values(optimizer, state[2]).loss_scale() * accumulation_steps(optimizer)

    @contextlib.contextmanager
    def _in_place(self, passes: Passes, update: UpdateTap | None) -> Iterator[None]:
        """Context in which the taps are installed."""
        with contextlib.ExitStack() as put_back:

            def put(owner: Any, name: str, replacement: Any) -> None:
                put_back.callback(replace(owner, name, replacement))

            for running, block in zip(passes.running, self.blocks.values(), strict=True):
                block = acting_block(block)
                taps = BlockTaps(block, self._parts, running)
                for attribute, replacement in taps.replacements().items():
                    put(block, attribute, replacement)
            for searched in self._found_in:
                for replacement in searched.replacements() if searched.acting() is None else ():
                    put(*replacement)
            # For all models and optimizers, wherever a step finds or creates them.
            own = keras.layers.Layer.stateless_call
            put(keras.layers.Layer, "stateless_call", _differentiated(own, passes))
            own = self.model.compute_loss_and_updates
            put(self.model, "compute_loss_and_updates", _with_weights(own, passes))
            room, name = scalar_vjp()
            if hasattr(room, name):  # no other part of a record needs it
                put(room, name, passes.with_loss(getattr(room, name)))
            if update is not None:
                for kind in updates.optimizer_classes():
                    if "stateless_apply" in vars(kind):
                        own = kind.stateless_apply
                        put(kind, "stateless_apply", self._stateless_apply(own, update))
            yield

    def _stateless_apply(self, original: Callable, update: UpdateTap) -> Callable:
        """Returns the replacement of `stateless_apply`; only the outermost one observes."""

        @functools.wraps(original)
        def stateless_apply(
            optimizer: keras.optimizers.Optimizer,
            optimizer_variables: Any,
            grads: Any,
            trainable_variables: Any,
        ) -> Any:
            # Gradients of another number of batches than the step's cannot be compared with it.
            alike = accumulation_steps(optimizer) == accumulation_steps(self.model.optimizer)
            arguments = (optimizer_variables, grads, trainable_variables)
            if update.is_inside or not alike:
                return original(optimizer, *arguments)
            return update(optimizer, original, *arguments)

        return stateless_apply


def _on_all_devices(record: Any) -> Any:
    """Returns a record that each process has as a whole."""
    distribution = keras.distribution.distribution()
    if distribution is None:
        return record
    mesh = distribution.device_mesh.backend_mesh
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.lax.with_sharding_constraint(record, everywhere)


def _check_state(state: Any, model: keras.Model) -> None:
    """Refuses a state of another form, and a step that is compiled from outside."""
    if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(state)):
        raise ValueError(
            "The step that GradientRecorder.recorded returned runs inside jax.jit, where nothing "
            "can be read. Compile the step before: recorder.recorded(jax.jit(step))."
        )
    parts: Any = state if isinstance(state, tuple | list) else ()
    expected = [len(model.trainable_variables), len(model.optimizer.variables)]
    if len(parts) < 3 or [len(parts[0]), len(parts[2])] != expected:
        raise ValueError(
            "The first argument of a recorded step must be a tuple of the values of "
            "model.trainable_variables, model.non_trainable_variables and "
            "model.optimizer.variables, each a list, as in Keras's guide to custom loops in JAX."
        )


def _differentiated(original: Callable, passes: Passes) -> Callable:
    """Returns the replacement of `Layer.stateless_call`."""

    @functools.wraps(original)
    def stateless_call(
        layer: keras.layers.Layer, trainable_variables: Any, *args: Any, **kwargs: Any
    ) -> Any:
        with passes.differentiated(trainable_variables) as weights:
            return original(layer, weights, *args, **kwargs)

    return stateless_call


def _with_weights(original: Callable, passes: Passes) -> Callable:
    """Returns the replacement of a model's `compute_loss_and_updates`."""

    @functools.wraps(original)
    def compute_loss_and_updates(trainable_variables: Any, *args: Any, **kwargs: Any) -> Any:
        with passes.differentiated(trainable_variables) as weights:
            return original(weights, *args, **kwargs)

    return compute_loss_and_updates


def _reached(record: Any) -> np.ndarray:
    """Returns the number of passes at each of `BACKWARD_PLACES`, of shape `(blocks, places)`."""
    reached = record["reached"]
    of_places = {"fork": reached["fork"], "input": reached["fork"], "merge": reached["merge"]}
    return np.stack([of_places[place] for place in BACKWARD_PLACES], axis=1)
