"""The residual blocks of a model that was built elsewhere."""

import warnings
from collections.abc import Iterable
from typing import Any

import keras

from reszoo.gradients.graph import Graph, GraphBlock
from reszoo.keras_internals import sublayers


def instrument(model: keras.Model) -> dict[str, GraphBlock]:
    """Finds the residual blocks in the graph of a functional model, for `GradientRecorder`.

    A block is an addition (`keras.layers.Add`, `keras.ops.add` or `+`) of tensors of one shape
    whose paths part at one tensor, its fork, with a gradient through each; or a difference
    `x - f(x)`. The fork itself, or the shorter path, is its shortcut; what is added to it is its
    branch. Nested functional models are searched too. The model is not changed: the forks and
    additions are observed only while a recorded step runs or is traced; outputs, weights and saved
    files are the same as without.

    The gradient at the fork counts for the path through which it came. An operation outside the
    block that reads the fork too, such as an auxiliary head, counts for neither.

    Args:
        model: A functional model, or one that contains functional models.

    Returns:
        The blocks by name, in the order in which the model reaches them. A block has the name of
        its addition; a name that occurs twice has the names of its nested models in front of it.

    Raises:
        ValueError: If `model` is not a Keras model, has no graph to search, or has no such
            addition. DenseNet, which concatenates its paths, has none.

    Example:

    >>> inputs = keras.Input((4,))
    >>> branch = keras.layers.Dense(4)(inputs)
    >>> model = keras.Model(inputs, keras.layers.Add(name="block1")([inputs, branch]))
    >>> blocks = instrument(model)
    >>> list(blocks)
    ['block1']
    >>> import reszoo
    >>> recorder = reszoo.GradientRecorder("runs/mine", blocks=blocks)  # for model.fit
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"instrument takes a Keras model, but got {model!r} of type {type(model).__name__}. "
            "For example: instrument(keras.applications.ResNet50(weights=None))."
        )
    graphs, found = [], []
    _walk(model, (), graphs, found)
    if not graphs:
        raise ValueError(
            f"The model {model.name!r} is not a functional model and contains none, so its graph "
            "cannot be searched for residual blocks. Build it as keras.Model(inputs, outputs), or "
            "build its blocks from reszoo.ResidualBlock, which need no instrument()."
        )
    if not found:
        raise ValueError(_why_no_block(model, graphs))
    left_out = [name for graph in graphs for name in graph.left_out]
    if left_out:
        warnings.warn(
            f"The paths of {', '.join(left_out)} cross those of another addition from the same "
            "tensor, so they are not recorded.",
            stacklevel=2,
        )
    names = _unique([path[-1] for path, _ in found], ["/".join(path) for path, _ in found])
    return dict(zip(names, (block for _, block in found), strict=True))


def _walk(
    layer: Any,
    path: tuple[str, ...],
    graphs: list[Graph],
    found: list[tuple[tuple[str, ...], GraphBlock]],
) -> None:
    """Adds the graphs in a layer, and the blocks with their paths, in the order of the model."""
    if any(layer is graph.function for graph in graphs):
        return
    if not isinstance(layer, keras.Function):
        for child in sublayers(layer, recursive=False):
            _walk(child, (*path, child.name), graphs, found)
        return
    graph = Graph(layer)
    graphs.append(graph)
    block_at = {id(block.node): block for block in graph.blocks}
    for node in graph.nodes:
        if id(node) in block_at:
            found.append(((*path, node.operation.name), block_at[id(node)]))
        else:
            _walk(node.operation, (*path, node.operation.name), graphs, found)


def _unique(short: list[str], long: list[str]) -> list[str]:
    """Returns short names where they are unique, else long ones, numbered where these are not."""
    names = [s if short.count(s) == 1 else full for s, full in zip(short, long, strict=True)]
    # The same addition may be called several times.
    return [
        name if names.count(name) == 1 else f"{name}.{names[: i + 1].count(name)}"
        for i, name in enumerate(names)
    ]


def _why_no_block(model: keras.Model, graphs: Iterable[Graph]) -> str:
    concatenations = [graph.concatenation for graph in graphs if graph.concatenation]
    reason = (
        f"The model {model.name!r} has no residual block: in its graph no tensors of one shape are "
        "added whose paths part at one tensor and each pass a gradient."
    )
    if not concatenations:
        return f"{reason} There is no gradient of a skip to record."
    return (
        f"{reason} It joins its paths by concatenation, first in {concatenations[0]!r}: there each "
        "path is handed its own part of the gradient, so there is no skip beside a branch to "
        "compare. Only additions can be recorded."
    )
