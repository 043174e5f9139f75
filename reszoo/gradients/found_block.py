"""Residual blocks that are found in a model, rather than built as a `ResidualBlock`."""

import abc
import functools
import itertools
import math
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import keras

from reszoo.gradients.flow import ResidualSum, Term
from reszoo.keras_internals import is_activation, sublayers

Block = TypeVar("Block", bound="FoundBlock")


@dataclass
class PathStep:
    """Operations that a path of a found block applies at one place.

    Attributes:
        operation: The layer or other operation; `None` for operations of a layer's own code.
        kinds: The kinds of these.
        input_shape: The shape of its input, with the axis of examples; `None` if it is not known.
        output_shape: The shape of its output.
    """

    operation: keras.Operation | None
    kinds: tuple[str, ...] = ()
    input_shape: tuple | None = None
    output_shape: tuple | None = None


class FoundBlock(abc.ABC):
    """A residual block that is found: two paths from one tensor to one sum.

    It has the methods of a `ResidualBlock` that taps replace: `fork`, `merge` and `activation`.

    Attributes:
        found_in: The graph, or the calls of layers, that contain it and call its methods in a run.
        key: The same for each search that finds this block.
        fork_key: The same for all blocks with its fork.
        name: Its name, if no other block has it.
        sum: The sum in which it ends.
    """

    found_in: Any
    key: Any
    fork_key: Any
    name: str
    sum: ResidualSum

    def __init__(self) -> None:
        self._own = threading.local()

    def fork(self, x: Any) -> tuple[Any, Any]:
        """Returns `x` for the shortcut and `x` for the branch."""
        return x, x

    def merge(self, shortcut: Any, branch: Any) -> Any:
        """Returns the sum of the two paths, by the model's own addition."""
        return self._own.sum()

    @abc.abstractmethod
    def activation(self, y: Any) -> Any:
        """Returns the activation of the sum, or the sum if an activation is not its only reader."""

    def add(self, own: Callable[[], Any], terms: Mapping[Term, Any]) -> Any:
        """Returns the sum, by `merge`.

        Args:
            own: Returns it by the model's own addition.
            terms: The tensors that are added.
        """
        signed = [terms[t] if t.sign > 0 else keras.ops.negative(terms[t]) for t in self.sum.branch]
        self._own.sum = own
        try:
            return self.merge(terms[self.sum.skip], functools.reduce(keras.ops.add, signed))
        finally:
            del self._own.sum

    @abc.abstractmethod
    def readers_of_fork(self) -> tuple[set[Any], set[Any]]:
        """Returns keys of all that reads the fork for the shortcut, and for the branch."""

    @property
    @abc.abstractmethod
    def parts(self) -> list[Any]:
        """Everything on the two paths, for comparison by identity with `places` of other blocks."""

    @property
    @abc.abstractmethod
    def places(self) -> list[Any]:
        """The addition and all that contains it."""

    @property
    @abc.abstractmethod
    def shortcut_operations(self) -> Sequence[keras.Operation]:
        """The operations on the shortcut."""

    @property
    @abc.abstractmethod
    def branch_operations(self) -> Sequence[keras.Operation]:
        """The operations on the branch."""

    @property
    @abc.abstractmethod
    def steps(self) -> dict[str, list[PathStep]]:
        """The steps of the `"skip"` and of the `"branch"`, in the order of a run."""

    @property
    @abc.abstractmethod
    def activation_in_words(self) -> str | None:
        """The name of the activation of the sum, `None` if there is none or it is not known."""

    @property
    @abc.abstractmethod
    def shapes(self) -> tuple[tuple | None, tuple | None]:
        """The shapes at the fork and of the sum; `None` for one of unknown rank."""

    @property
    def operations(self) -> list[keras.Operation]:
        """The operations on the two paths."""
        return [*self.shortcut_operations, *self.branch_operations]

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        """The trainable weights of the operations on the two paths."""
        variables = itertools.chain.from_iterable(
            getattr(operation, "trainable_variables", ()) for operation in self.operations
        )
        return list({id(variable): variable for variable in variables}.values())

    @property
    def shortcut_in_words(self) -> str:
        """The shortcut: `"identity"`, `"projection"`, or the names of its operations."""
        operations = self.shortcut_operations
        if not operations:
            return "identity"
        if any(getattr(operation, "weights", ()) for operation in operations):
            return "projection"
        return ", ".join(type(operation).__name__.lower() for operation in operations)

    @property
    def strides(self) -> int:
        """The factor by which an image shrinks from the fork to the merge."""
        before, after = (shape or () for shape in self.shapes)
        sides = range(1, min(len(before), len(after)))
        if len(before) > 2 and keras.config.image_data_format() == "channels_last":
            sides = sides[:-1]
        elif len(before) > 2:
            sides = sides[1:]
        else:
            return 1
        known = [round(before[i] / after[i]) for i in sides if before[i] and after[i]]
        if known:
            return max(1, *known)
        return math.prod(strides_of(operation) for operation in self.branch_operations)


def compatible(blocks: Iterable[Block]) -> tuple[list[Block], list[str]]:
    """Returns the blocks whose forks can all be separated at the same time, and others' names.

    Args:
        blocks: Blocks in the order of their sums.
    """
    kept, left_out = [], []
    # The outer of two blocks with the same fork ends later, and its fork is applied first.
    for block in reversed(list(blocks)):
        same_fork = [other for other in kept if other.fork_key == block.fork_key]
        if any(_cross(block, other) for other in same_fork):
            left_out.insert(0, block.name)
        else:
            kept.append(block)
    return kept[::-1], left_out


def _cross(block: FoundBlock, later: FoundBlock) -> bool:
    """Returns whether a later block's paths separate what reads a block's fork."""
    readers = set.union(*block.readers_of_fork())
    parts = [readers & of_path for of_path in later.readers_of_fork()]
    return any(parts) and readers not in parts


def acting_block(block: Any) -> Any:
    """Returns the block that is used in a run of its model now: another search may have found it.

    Args:
        block: A block that was found, or a layer.
    """
    acting = block.found_in.acting() if isinstance(block, FoundBlock) else None
    if acting is None:
        return block
    return next(other for other in acting.blocks if other.key == block.key)


def strides_of(operation: keras.Operation) -> int:
    """Returns the stride of an operation, in pixels: the largest, if it has one for each axis.

    Args:
        operation: An operation, or any layer; 1 if it has none.
    """
    strides = getattr(operation, "strides", 1)
    return max(strides) if isinstance(strides, tuple | list) else strides


def activation_in_words(operation: keras.Operation) -> str | None:
    """Returns the name of the activation function that a layer is given, `None` if it has none.

    Args:
        operation: An operation, or any layer.

    Example:

    >>> [activation_in_words(keras.layers.Dense(1, given)) for given in (None, "relu")]
    [None, 'relu']
    """
    activation = getattr(operation, "activation", None)
    if not callable(activation) or activation is keras.activations.linear:
        return None
    return getattr(activation, "__name__", type(activation).__name__)


def is_nonlinear(operation: keras.Operation) -> bool:
    """Returns whether an operation, or a layer in it, is or has an activation function.

    Args:
        operation: An operation, or any layer.
    """
    return any(is_activation(part) for part in (operation, *sublayers(operation)))


def number_of_kernels(operation: keras.Operation) -> int:
    """Returns the number of matrices and filters among the weights of an operation.

    Args:
        operation: An operation, or any layer.
    """
    parts = (operation, *sublayers(operation))
    slopes = {id(w) for p in parts if isinstance(p, keras.layers.PReLU) for w in p.weights}
    weights = getattr(operation, "weights", ())
    return sum(len(w.shape) > 1 and id(w) not in slopes for w in weights)
