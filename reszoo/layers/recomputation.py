"""Gradients that recompute activations, for each backend of Keras.

Code for a single backend is here, in `fused_normalization` and in `cpu_kernels`; the other
files of `reszoo.layers` are written with `keras` and `keras.ops` alone.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import keras

from reszoo.keras_internals import (
    has_tangents,
    is_traced_for_xla,
    without_recording,
    xla_barrier,
)
from reszoo.layers.shapes import Tensor

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "jax":
    import jax
elif BACKEND == "torch":
    import torch
    from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

# Takes the tensors; returns `y` and any others, which have no gradient.
Forward = Callable[..., Sequence[Tensor]]
# Takes `y`, its gradient, and the tensors without the first; returns all their gradients.
Backward = Callable[[Tensor, Tensor, Sequence[Tensor]], Sequence[Tensor | None]]
# Takes the tensors; returns its outputs, and any others, which have no gradient.
Recomputable = Callable[..., tuple[Sequence[Tensor], Sequence[Tensor]]]

_context = threading.local()


@contextlib.contextmanager
def stored_activations() -> Iterator[None]:
    """Context in which no block recomputes its activations: they are stored, as by other layers.

    The tensors inside of blocks are then on the tape; on TensorFlow, the gradient of a reversible
    block can be differentiated again.

    Example:

    >>> from reszoo import ReversibleBlock
    >>> block = ReversibleBlock([keras.layers.Dense(2)], [keras.layers.Dense(2)])
    >>> with stored_activations():
    ...     y = block(keras.ops.ones((1, 4)))
    """
    with _set("stores"):
        yield


def stores_activations() -> bool:
    """Returns whether activations are stored: whether `stored_activations` is around."""
    return bool(getattr(_context, "stores", False))


def runs_again() -> bool:
    """Returns whether what runs now runs again in the backward pass, where it is to be observed.

    What `recomputed` runs is so on TensorFlow alone, which traces the two one by one: PyTorch tells
    them apart by its backward pass, and JAX traces once for both.
    """
    return bool(getattr(_context, "runs_again", False))


def runs_late() -> bool:
    """Returns whether what runs now runs for the last time, in the backward pass, on PyTorch."""
    return bool(getattr(_context, "runs_late", False))


class Carried(Protocol):
    """Tensors that functions read beside their arguments, and are differentiated by, on JAX."""

    def get(self) -> Any:
        """Returns the tensors that are read now, any structure; `None` for none."""
        ...

    def using(self, tensors: Any) -> contextlib.AbstractContextManager:
        """Returns a context in which others are read.

        Args:
            tensors: The same structure.
        """
        ...

    def added(self, tensors: Any, others: Any) -> Any:
        """Returns the sums of two structures of gradients.

        Args:
            tensors: The first.
            others: The second.
        """
        ...


def carrying(carried: Carried) -> contextlib.AbstractContextManager:
    """Context in which the functions of `with_gradient` also pass gradients to other tensors.

    Args:
        carried: The tensors.
    """
    return _set("carried", carried)


@contextlib.contextmanager
def _set(flag: str, value: Any = True) -> Iterator[None]:
    before = getattr(_context, flag, None)
    setattr(_context, flag, value)
    try:
        yield
    finally:
        setattr(_context, flag, before)


def recomputed(
    function: Recomputable, tensors: Sequence[Tensor]
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    """Returns the result of a function that is run again in the backward pass.

    Of the forward pass only the tensors are kept. On a backend without gradients it is run once.

    Args:
        function: Takes the tensors; returns its outputs, and any others, which have no gradient. It
            changes nothing else.
        tensors: Its arguments.

    Returns:
        The result of `function`.
    """
    run = _RECOMPUTED.get(BACKEND)
    return function(*tensors) if run is None else run(function, tensors)


def with_gradient(forward: Forward, backward: Backward, tensors: Sequence[Tensor]) -> Sequence:
    """Returns the result of a function whose gradient is computed by another one.

    Of the forward pass only `y` and the tensors other than the first are kept.

    Args:
        forward: Takes the tensors; returns `y` and any other tensors, which have no gradient.
        backward: Takes `y`, its gradient, and the tensors other than the first; returns the
            gradient of each of the tensors, or `None`.
        tensors: The tensors, first the one that is not kept.

    Returns:
        The result of `forward`.
    """
    if BACKEND not in _WITH_GRADIENT:
        raise ValueError(
            "A reversible block runs on the backends tensorflow, jax and torch of Keras, but this "
            f"is {BACKEND!r}. A chain of reszoo.ResidualBlock(Coupling(...)) computes the same."
        )
    return _WITH_GRADIENT[BACKEND](forward, backward, tensors)


def differentiated(
    function: Callable, tensors: Sequence[Tensor], gradient: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    """Runs a function and differentiates it.

    Args:
        function: Takes the tensors; returns the output to differentiate and any other tensor.
        tensors: Its arguments.
        gradient: The gradient of the output.

    Returns:
        The other tensor, and the gradient of each argument.
    """
    return _DIFFERENTIATED[BACKEND](function, tensors, gradient)


def after(x: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Returns a tensor that is not available before others are.

    A backend that runs a graph in any order would otherwise recompute the activations of all blocks
    first, and keep them for the gradients.

    Args:
        x: The tensor.
        others: The tensors that are computed before it.
    """
    return _AFTER[BACKEND](x, others)


def _tensorflow_recomputed(
    function: Recomputable, tensors: Sequence[Tensor]
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    # A variable's value would otherwise be the variable, which may change before it is read.
    tensors, sizes = [*map(tf.convert_to_tensor, tensors)], []
    if has_tangents(tensors):  # the forward mode would not see what the tapes do not
        return function(*tensors)

    @tf.custom_gradient
    def run(*tensors: Tensor) -> tuple[Sequence, Callable]:
        with without_recording(), _set("runs_again"):
            outputs, others = function(*tensors)
        sizes.append(len(outputs))

        def gradient(*of_outputs: Tensor, variables: Sequence | None = None) -> Any:
            _check_of_keras(variables)
            upstream = list(of_outputs[: len(outputs)])
            with tf.GradientTape(watch_accessed_variables=False) as tape, _set("runs_again", False):
                again = [tf.identity(after(x, upstream)) for x in tensors]
                tape.watch([x for x in again if x.dtype.is_floating])
                once_more, _ = function(*again)
            return tape.gradient(once_more, again, upstream)

        return (*outputs, *others), gradient

    results = run(*tensors)
    return results[: sizes[-1]], results[sizes[-1] :]


def _tensorflow_with_gradient(
    forward: Forward, backward: Backward, tensors: Sequence[Tensor]
) -> Sequence:
    @tf.custom_gradient
    def run(x: Tensor, *rest: Tensor) -> tuple[Sequence, Callable]:
        with without_recording(), _set("runs_again"):
            outputs = forward(x, *rest)
        y = outputs[0]

        def gradient(of_y: Tensor, *_: Any, variables: Sequence | None = None) -> Any:
            _check_of_keras(variables)
            gradients = backward(y, of_y, rest)
            return [None if g is None else _differentiable_once(g) for g in gradients]

        return outputs, gradient

    # A variable's value would otherwise be the variable, which may change before it is read.
    return run(*map(tf.convert_to_tensor, tensors))


def _check_of_keras(variables: Sequence | None) -> None:
    if variables:
        raise ValueError(
            "The weights of a block that recomputes its activations must be variables of Keras, "
            f"made by add_weight, but {[v.name for v in variables]} are not."
        )


def _differentiable_once(x: Tensor) -> Tensor:
    @tf.custom_gradient
    def once(x: Tensor) -> tuple[Tensor, Callable]:
        def refused(*_: Any) -> None:
            raise ValueError(
                "The gradient of a reversible block cannot be differentiated again on TensorFlow. "
                "Compute it within `with reszoo.layers.stored_activations():`."
            )

        return tf.identity(x), refused

    return once(x)


def _tensorflow_differentiated(
    function: Callable, tensors: Sequence[Tensor], gradient: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tensors = [tf.identity(x) for x in tensors]
        tape.watch(tensors)
        output, other = function(*tensors)
    zero = tf.UnconnectedGradients.ZERO
    return other, tape.gradient(output, tensors, gradient, unconnected_gradients=zero)


def _tensorflow_after(x: Tensor, others: Sequence[Tensor]) -> Tensor:
    if tf.executing_eagerly():
        return x
    if is_traced_for_xla():  # it ignores control dependencies
        return xla_barrier([x, *others])[0]
    with tf.control_dependencies(others):
        return tf.identity(x)


def _jax_recomputed(
    function: Recomputable, tensors: Sequence[Tensor]
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    return jax.checkpoint(function)(*tensors)


def _jax_with_gradient(forward: Forward, backward: Backward, tensors: Sequence[Tensor]) -> Sequence:
    # What runs again must not read them: they belong to the function around this one.
    carried = None if runs_again() else getattr(_context, "carried", None)
    others = carried.get() if carried else None

    @jax.custom_vjp
    def run(others: Any, x: Tensor, *rest: Tensor) -> Sequence:
        with _set("runs_again"):
            return forward(x, *rest)

    def run_and_keep(others: Any, x: Tensor, *rest: Tensor) -> tuple:
        outputs = run(others, x, *rest)
        return outputs, (others, outputs[0], rest)

    def gradient(kept: tuple, of_outputs: Sequence) -> tuple:
        others, y, rest = kept
        if not carried or others is None:
            return (None, *backward(y, of_outputs[0], rest))
        sums = _OfCarried(carried, others)
        with _set("runs_again", False), _set("of_carried", sums):
            of_tensors = backward(y, of_outputs[0], rest)
        return (sums.gradients, *of_tensors)

    run.defvjp(run_and_keep, gradient)
    return run(others, *tensors)


class _OfCarried:
    """Gradients of what is carried, added up over functions that are differentiated.

    Args:
        carried: What is carried.
        tensors: Its tensors.

    Attributes:
        gradients: Their sums so far, in the structure of the tensors; `None` before the first.
    """

    def __init__(self, carried: Carried, tensors: Any):
        self._carried = carried
        self._tensors = tensors
        self.gradients: Any = None

    def differentiated(self, function: Callable, tensors: Sequence[Tensor]) -> tuple:
        """Returns what `jax.vjp` of a function returns, if it has another result.

        Args:
            function: The function.
            tensors: Its arguments.
        """

        def run(others: Any, *tensors: Tensor) -> tuple[Tensor, Tensor]:
            with self._carried.using(others), _set("carried", self._carried):
                return function(*tensors)

        y, pull_back, other = jax.vjp(run, self._tensors, *tensors, has_aux=True)

        def pull_back_and_add(gradient: Tensor) -> Sequence[Tensor]:
            of_others, *of_tensors = pull_back(gradient)
            before = self.gradients
            self.gradients = of_others if before is None else self._carried.added(before, of_others)
            return of_tensors

        return y, pull_back_and_add, other


def _jax_differentiated(
    function: Callable, tensors: Sequence[Tensor], gradient: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    of_carried = getattr(_context, "of_carried", None)
    if not of_carried:
        _, pull_back, other = jax.vjp(function, *tensors, has_aux=True)
    else:
        _, pull_back, other = of_carried.differentiated(function, tensors)
    return other, pull_back(gradient)


def _jax_after(x: Tensor, others: Sequence[Tensor]) -> Tensor:
    return jax.lax.optimization_barrier((x, *others))[0]


def _torch_recomputed(
    function: Recomputable, tensors: Sequence[Tensor]
) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
    if not torch.is_grad_enabled():
        return function(*tensors)
    # To the end, since a layer may clear what it keeps during a call, such as an RNN its mask.
    with set_checkpoint_early_stop(False):
        return checkpoint(function, *map(_kept, tensors), use_reentrant=False)


def _kept(x: Tensor) -> Tensor:
    """Returns a tensor that keeps its values: averages and seeds are changed in place."""
    return x if x.requires_grad else x.clone()


def _torch_with_gradient(
    forward: Forward, backward: Backward, tensors: Sequence[Tensor]
) -> Sequence:
    class Run(torch.autograd.Function):
        @staticmethod
        def forward(context: Any, x: Tensor, *rest: Tensor) -> Any:
            with _set("runs_again"):
                outputs = forward(x, *rest)
            context.save_for_backward(outputs[0], *rest)
            context.mark_non_differentiable(*outputs[1:])
            return tuple(outputs)

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(context: Any, of_y: Tensor, *_: Any) -> Any:
            y, *rest = context.saved_tensors
            with _set("runs_again", False):
                return tuple(backward(y, of_y, rest))

    return Run.apply(*map(_kept, tensors))


def _torch_differentiated(
    function: Callable, tensors: Sequence[Tensor], gradient: Tensor
) -> tuple[Tensor, Sequence[Tensor]]:
    with torch.enable_grad(), _set("runs_late"):
        tensors = [x.detach().requires_grad_() for x in tensors]
        output, other = function(*tensors)
    gradients = torch.autograd.grad(output, tensors, gradient, allow_unused=True)
    pairs = zip(tensors, gradients, strict=True)
    gradients = [torch.zeros_like(x) if g is None else g for x, g in pairs]
    return other.detach(), gradients


_RECOMPUTED: dict[str, Callable] = {
    "tensorflow": _tensorflow_recomputed,
    "jax": _jax_recomputed,
    "torch": _torch_recomputed,
}
_WITH_GRADIENT = {
    "tensorflow": _tensorflow_with_gradient,
    "jax": _jax_with_gradient,
    "torch": _torch_with_gradient,
}
_DIFFERENTIATED = {
    "tensorflow": _tensorflow_differentiated,
    "jax": _jax_differentiated,
    "torch": _torch_differentiated,
}
_AFTER = {
    "tensorflow": _tensorflow_after,
    "jax": _jax_after,
    "torch": lambda x, others: x,  # runs in the order of the program
}
