"""Models with steps added to the inputs of their blocks, on any backend."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from reszoo.gradients import backend
from reszoo.gradients.found_block import FoundBlock
from reszoo.gradients.patching import replace
from reszoo.keras_internals import hand_on_mask
from reszoo.layers import ResidualBlock, stored_activations

Tensor = Any
Blocks = Mapping[str, ResidualBlock | FoundBlock]

# The tensors of a block to which a step is added: x, and x on the skip and on the branch.
PATHS = ("both", "skip", "branch")


class _Loss:
    """The scalar that is differentiated.

    Args:
        loss: Takes the model's output; `None` for a random projection.
        seed: Seed of the projection.
    """

    def __init__(self, loss: Callable | None, seed: int):
        self._loss = loss
        self._seed = seed

    def __call__(self, outputs: Any) -> Tensor:
        for output in keras.tree.flatten(outputs):
            _check_is_float64("The output", output)
        if self._loss is None:
            return self._projection(outputs)
        value = ops.convert_to_tensor(self._loss(outputs))
        _check_is_float64("The loss", value)
        return ops.mean(value)

    def _projection(self, outputs: Any) -> Tensor:
        random = np.random.default_rng([self._seed, 2])
        outputs = keras.tree.flatten(outputs)
        weights = [random.normal(size=output.shape) for output in outputs]
        total: Any = 0.0
        for weight, output in zip(weights, outputs, strict=True):
            total += ops.sum(ops.multiply(weight, output))
        return total / np.sqrt(max(1, sum(w.size for w in weights)))


def _check_is_float64(what: str, x: Tensor) -> None:
    dtype = keras.backend.standardize_dtype(x.dtype)
    if dtype != "float64":
        raise ValueError(
            f"{what} must be float64, but is {dtype}: finite differences are too rough "
            "in anything less. Casts must not name a dtype; a loss of Keras takes "
            "dtype='float64'."
        )


class Perturbed:
    """A model with steps added to the inputs of its blocks.

    Updates of variables are discarded, so that every run begins with the same averages and seeds.

    Args:
        model: A model in float64.
        inputs: Its inputs, any structure of tensors in float64.
        blocks: Its blocks by name.
        training: Whether it is run as in training.
        loss: Takes the output, float64, and returns a scalar or a loss per example; `None` for
            a random projection.
        seed: Seed of the projection.

    Attributes:
        at_zero: The loss without any step, set by `gradients`.
        inputs_of_blocks: The input of each block in that run, by name.
    """

    def __init__(
        self,
        model: keras.layers.Layer,
        inputs: Any,
        blocks: Blocks,
        training: bool,
        loss: Callable | None,
        seed: int,
    ):
        self._model = model
        self._inputs = inputs
        self._blocks = blocks
        self._training = training
        self._loss = _Loss(loss, seed)
        self._added: Callable[[str, str, Tensor], Tensor] = lambda name, path, x: x
        self._values = [ops.copy(variable.value) for variable in model.variables]
        self._compiled = backend.compiled(self._with_steps)
        self.at_zero = 0.0
        self.inputs_of_blocks = {}

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Context in which the forks of the blocks are replaced by those of this object."""
        found_in = {
            id(b.found_in): b.found_in for b in self._blocks.values() if isinstance(b, FoundBlock)
        }
        with contextlib.ExitStack() as stack:
            # The steps must reach the paths inside of reversible blocks.
            stack.enter_context(stored_activations())
            for name, block in self._blocks.items():
                stack.callback(replace(block, "fork", self._fork(name, block.fork)))
            for searched in found_in.values():
                for replacement in searched.replacements():
                    stack.callback(replace(*replacement))
            yield

    def gradients(self) -> dict[str, dict[str, np.ndarray]]:
        """Returns the gradients in reverse mode of each block: at `x`, and of each path."""
        self.inputs_of_blocks = self._seen()
        self._no_steps = {
            name: dict.fromkeys(PATHS, np.zeros_like(x))
            for name, x in self.inputs_of_blocks.items()
        }
        total, gradients = backend.value_and_gradients(
            self._with_steps, self._no_steps, self._values
        )
        self.at_zero = float(self._compiled(self._no_steps, self._values))
        _check_repeats(float(total), self.at_zero)
        return gradients

    def loss_along(self, name: str, direction: np.ndarray, path: str) -> Callable[[float], float]:
        """Returns the loss as a function of the length of a step.

        Args:
            name: The block to whose input the step is added.
            direction: The step's direction, a vector of length 1 in the shape of the input.
            path: `"skip"`, `"branch"` or `"both"`, to which it is added.
        """

        def loss(length: float) -> float:
            steps = {**self._no_steps[name], path: length * direction}
            return float(self._compiled({**self._no_steps, name: steps}, self._values))

        return loss

    def _seen(self) -> dict[str, np.ndarray]:
        """Returns the input of each block in a run without steps."""
        seen = {name: [] for name in self._blocks}

        def added(name: str, path: str, x: Tensor) -> Tensor:
            if path == "both":
                backend.call_with_value(seen[name].append, x)
            return x

        backend.compiled(lambda values: self._run(added, values))(self._values)
        for name, calls in seen.items():
            _check_calls(name, calls)
        return {name: np.array(calls[0], np.float64) for name, calls in seen.items()}

    def _with_steps(self, steps: dict[str, dict[str, Tensor]], values: Sequence[Tensor]) -> Tensor:
        def added(name: str, path: str, x: Tensor) -> Tensor:
            # The same step in each call of a block, so that gradients of several calls add up.
            return ops.cast(ops.add(x, steps[name][path]), x.dtype)

        return self._run(added, values)

    def _run(self, added: Callable, values: Sequence[Tensor]) -> Tensor:
        # It stays so until the next run: a backward pass may run a block again.
        self._added = added
        with keras.StatelessScope(zip(self._model.variables, values, strict=True)):
            return self._loss(self._model(self._inputs, training=self._training))

    def _fork(self, name: str, own: Callable) -> Callable:
        def fork(x: Tensor) -> tuple[Tensor, Tensor]:
            skip, branch = own(hand_on_mask(x, self._added(name, "both", x)))
            return (
                hand_on_mask(x, self._added(name, "skip", skip)),
                hand_on_mask(x, self._added(name, "branch", branch)),
            )

        return fork


def _check_calls(name: str, calls: list[Tensor]) -> None:
    shapes = {tuple(call.shape) for call in calls}
    if len(shapes) != 1:
        how = f"runs on inputs of the shapes {sorted(shapes)}" if shapes else "does not run"
        raise ValueError(
            f"The block {name!r} {how}, so there is no one derivative to take. Give the others "
            "as blocks={name: block}."
        )


def _check_repeats(first: float, second: float) -> None:
    if not np.isfinite([first, second]).all():
        raise ValueError(f"The loss is {first}, so it has no derivative. Give other inputs.")
    if abs(first - second) > 1e-9 * max(abs(first), abs(second), 1e-3):
        raise ValueError(
            f"Two runs on the same inputs give the losses {first} and {second}, so differences say "
            "nothing. Random numbers must come from keras.random or a keras.random.SeedGenerator."
        )
