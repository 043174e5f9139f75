"""Layers along the two paths of a residual block, for its description in the log."""

import math
from collections.abc import Iterator
from typing import Any

import keras

from reszoo.gradients.found_block import FoundBlock, PathStep, activation_in_words
from reszoo.layers import Chain, ExclusiveGatedBlock, ResidualBlock, StopGradSkip
from reszoo.layers.coupling import Coupling
from reszoo.layers.symbolic import output_of


def describe_layers(block: ResidualBlock | FoundBlock) -> dict[str, Any] | None:
    """Returns the layers of a block in the order in which they are applied.

    Of a `Chain` and a `keras.Sequential` it has the layers in them; any other layer is one,
    whatever is in it.

    Args:
        block: A `ResidualBlock`, or a block that is found.

    Returns:
        A dictionary of JSON values: `skip` and `branch`, each a list, empty for the identity, and
        `activation`, the name of the function of the sum or `None`. A layer is a dictionary with
        its `name`, `None` for operations of a layer's own code; `kind`, its class; `shape` of its
        output, without the axis of examples, `None` if it is not known or has no such axis, and
        `None` for an unknown size; `parameters`, the number of its weights, trainable or not,
        `None` if it is not known; `activation`, the name of its activation function or `None`.
        `None` in place of all for a block with a `call` or `paths` of its own, which may apply
        anything.

    Example:

    >>> block = ResidualBlock([keras.layers.Dense(2, "relu", name="dense")])
    >>> block(keras.ops.ones((1, 2))).shape
    TensorShape([1, 2])
    >>> describe_layers(block)["branch"][0]["parameters"]
    6
    """
    if isinstance(block, FoundBlock):
        paths = {path: [*map(_of_step, steps)] for path, steps in block.steps.items()}
        joined = {
            path: [row for rows in of_path for row in rows] for path, of_path in paths.items()
        }
        return {**joined, "activation": block.activation_in_words}
    gates = _gates_of(block)
    if gates is None:
        return None
    x = _input_of(block)
    return {
        "skip": [row for part in (block.shortcut, *gates) for row in _of_path(part, x)],
        "branch": [row for part in (block.branch, *gates) for row in _of_path(part, x)],
        "activation": activation_in_words(block),
    }


def _gates_of(block: ResidualBlock) -> list[keras.layers.Layer] | None:
    """Returns the layers that multiply both paths; `None` if the block has code of its own."""
    paths = type(block).paths
    if type(block).call is not ResidualBlock.call:
        return None
    if isinstance(block, ExclusiveGatedBlock) and paths is ExclusiveGatedBlock.paths:
        return [] if block.gate is None else [block.gate]
    return [] if paths is ResidualBlock.paths else None


def _input_of(block: ResidualBlock) -> keras.KerasTensor | None:
    """Returns a block's symbolic input; `None` for one that was never built."""
    return _symbolic((block.get_build_config() or {}).get("input_shape"), block.compute_dtype)


def _symbolic(shape: Any, dtype: str = "float32") -> keras.KerasTensor | None:
    try:
        return keras.KerasTensor(shape, dtype) if shape else None
    except (TypeError, ValueError):
        return None


def _of_path(path: keras.layers.Layer, x: keras.KerasTensor | None) -> list[dict[str, Any]]:
    is_identity = type(path) is keras.layers.Identity
    return [] if is_identity else [_described(*applied) for applied in _applied(path, x)]


def _of_step(step: PathStep) -> list[dict[str, Any]]:
    """Returns what a found block applies at once: a layer, those of a chain, or own code."""
    if step.operation is None:
        rows = [_row(None, ", ".join(dict.fromkeys(step.kinds)))]
    else:
        # The output's shape is known; a layer's own code is not run for it again.
        x = _symbolic(step.input_shape) if _has_parts(step.operation) else None
        rows = [_described(*applied) for applied in _applied(step.operation, x)]
    if rows:
        rows[-1]["shape"] = _without_examples(step.output_shape)
    return rows


def _applied(
    operation: Any, x: keras.KerasTensor | None
) -> Iterator[tuple[keras.Operation, keras.KerasTensor | None]]:
    """Yields the layers of which a layer consists, each with its output."""
    if _is_sequence(operation):
        for part in operation.layers:
            yield from _applied(part, x)
            x = _output(part, x)
        return
    if isinstance(operation, StopGradSkip) and operation.shortcut is not None:
        yield from _applied(operation.shortcut, x)
    if isinstance(operation, Coupling):
        shape = None if x is None else (*x.shape[:-1], x.shape[-1] // 2)
        half = _symbolic(shape, operation.compute_dtype)
        yield from _applied(operation.branch, half)
    yield operation, _output(operation, x)


def _has_parts(operation: Any) -> bool:
    """Returns whether `_applied` yields layers in a layer."""
    return _is_sequence(operation) or isinstance(operation, StopGradSkip | Coupling)


def _is_sequence(operation: Any) -> bool:
    """Returns whether a layer does nothing but apply its layers one after the other."""
    return any(
        isinstance(operation, kind) and type(operation).call is kind.call
        for kind in (Chain, keras.Sequential)
    )


def _output(operation: keras.Operation, x: keras.KerasTensor | None) -> keras.KerasTensor | None:
    if x is None or not isinstance(operation, keras.layers.Layer):
        return None
    try:
        return output_of(operation, x)
    except Exception:  # a layer's own code can raise any, and training has no need of the shape
        return None


def _described(operation: keras.Operation, y: keras.KerasTensor | None) -> dict[str, Any]:
    row = _row(operation.name, type(operation).__name__)
    row["shape"] = None if y is None else _without_examples(y.shape)
    row["parameters"] = _parameters(operation)
    row["activation"] = activation_in_words(operation)
    return row


def _row(name: str | None, kind: str) -> dict[str, Any]:
    return {"name": name, "kind": kind, "shape": None, "parameters": None, "activation": None}


def _parameters(operation: keras.Operation) -> int | None:
    if isinstance(operation, StopGradSkip | Coupling):
        return 0  # besides those of the layers in it, which stand before it
    if not getattr(operation, "built", True):
        return None
    return sum(math.prod(weight.shape) for weight in getattr(operation, "weights", ()))


def _without_examples(shape: Any) -> list[int | None] | None:
    return [size and int(size) for size in shape[1:]] if shape else None
