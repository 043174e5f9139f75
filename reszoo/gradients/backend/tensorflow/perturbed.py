"""Models with steps added to the inputs of their blocks, for finite differences."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from reszoo.gradients.found_block import FoundBlock
from reszoo.gradients.patching import replace
from reszoo.keras_internals import hand_on_mask
from reszoo.layers import ResidualBlock, stored_activations

Blocks = Mapping[str, ResidualBlock | FoundBlock]

# Factors of a step at the fork for each derivative: on the skip and on the branch.
STEPS_TO = {"both": (1.0, 1.0), "skip": (1.0, 0.0), "branch": (0.0, 1.0)}


class _Loss:
    """The scalar that is differentiated.

    Args:
        loss: Takes the model's output; `None` for a random projection.
        seed: Seed of the projection.
    """

    def __init__(self, loss: Callable | None, seed: int):
        self._loss = loss
        self._seed = seed

    def __call__(self, outputs: Any) -> tf.Tensor:
        for output in keras.tree.flatten(outputs):
            self._check_dtype("The output", output)
        if self._loss is None:
            return self._projection(outputs)
        value = tf.convert_to_tensor(self._loss(outputs))
        self._check_dtype("The loss", value)
        return tf.reduce_mean(value)

    def _projection(self, outputs: Any) -> tf.Tensor:
        random = np.random.default_rng([self._seed, 2])
        outputs = keras.tree.flatten(outputs)
        weights = [random.normal(size=output.shape) for output in outputs]
        total = sum(tf.reduce_sum(w * y) for w, y in zip(weights, outputs, strict=True))
        return total / np.sqrt(max(1, sum(w.size for w in weights)))

    def _check_dtype(self, what: str, x: tf.Tensor) -> None:
        if x.dtype != tf.float64:
            raise ValueError(
                f"{what} must be float64, but is {x.dtype.name}: finite differences are too rough "
                "in anything less. Casts must not name a dtype; a loss of Keras takes "
                "dtype='float64'."
            )


class Perturbed:
    """A model with steps added to the inputs of its blocks.

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
        self._state = [(v, tf.identity(v.value)) for v in model.non_trainable_variables]
        self._at_fork: Any = None
        self._behind_fork: Any = None
        self._traced = tf.function(self._loss_with, autograph=False)
        self.at_zero = 0.0
        self.inputs_of_blocks = {}

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Context in which the forks of the blocks are replaced by those of this object."""
        found_in = {
            id(b.found_in): b.found_in for b in self._blocks.values() if isinstance(b, FoundBlock)
        }
        with contextlib.ExitStack() as stack:
            # The tape must reach the paths inside of reversible blocks.
            stack.enter_context(stored_activations())
            for name, block in self._blocks.items():
                stack.callback(replace(block, "fork", self._fork(name, block.fork)))
            for searched in found_in.values():
                for replacement in searched.replacements():
                    stack.callback(replace(*replacement))
            yield

    def gradients(self) -> dict[str, dict[str, np.ndarray]]:
        """Returns the gradients in reverse mode of each block: at `x`, and of each path."""
        seen = {name: [] for name in self._blocks}

        def at_fork(name: str, x: tf.Tensor) -> tf.Tensor:
            x = tf.identity(x)
            tape.watch(x)
            seen[name].append({"both": x})
            return x

        def behind_fork(name: str, *paths: tf.Tensor) -> tuple:
            paths = tuple(map(tf.identity, paths))
            seen[name][-1] |= dict(zip(("skip", "branch"), paths, strict=True))
            return paths

        with tf.GradientTape() as tape:
            total = self._run(at_fork, behind_fork)
        _check_calls(seen)
        self.inputs_of_blocks = {name: calls[0]["both"].numpy() for name, calls in seen.items()}
        self._no_steps = {
            name: (tf.zeros(x.shape, tf.float64),) * 2 for name, x in self.inputs_of_blocks.items()
        }
        self.at_zero = float(self._traced(self._no_steps))
        _check_repeats(float(total), self.at_zero)
        found: Any = tape.gradient(total, seen, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        sums: dict[str, dict[str, Any]] = {
            # Gradients of several calls add up, since the same step is added in each.
            name: {path: sum(_as_array(call[path]) for call in calls) for path in STEPS_TO}
            for name, calls in found.items()
        }
        return sums

    def loss_along(self, name: str, direction: np.ndarray, path: str) -> Callable[[float], float]:
        """Returns the loss as a function of the length of a step.

        Args:
            name: The block to whose input the step is added.
            direction: The step's direction, a vector of length 1 in the shape of the input.
            path: `"skip"`, `"branch"` or `"both"`, to which it is added.
        """

        def loss(length: float) -> float:
            step = tuple(tf.constant(length * to * direction) for to in STEPS_TO[path])
            return float(self._traced({**self._no_steps, name: step}))

        return loss

    def _loss_with(self, steps: dict[str, tuple]) -> tf.Tensor:
        def behind_fork(name: str, *paths: tf.Tensor) -> tuple:
            return tuple(x + step for x, step in zip(paths, steps[name], strict=True))

        return self._run(lambda name, x: x, behind_fork)

    def _run(self, at_fork: Callable, behind_fork: Callable) -> tf.Tensor:
        for variable, value in self._state:
            variable.assign(value)
        self._at_fork, self._behind_fork = at_fork, behind_fork
        return self._loss(self._model(self._inputs, training=self._training))

    def _fork(self, name: str, own: Callable) -> Callable:
        def fork(x: tf.Tensor) -> tuple:
            paths = self._behind_fork(name, *own(hand_on_mask(x, self._at_fork(name, x))))
            return tuple(hand_on_mask(x, path) for path in paths)

        return fork


def _check_calls(seen: dict[str, list[dict]]) -> None:
    for name, calls in seen.items():
        shapes = {tuple(call["both"].shape) for call in calls}
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
            "nothing. Random numbers must come from a keras.random.SeedGenerator of their layer."
        )


def _as_array(gradient: Any) -> np.ndarray:
    return tf.convert_to_tensor(gradient).numpy()
