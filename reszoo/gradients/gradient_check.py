"""Gradients of a block's paths in reverse mode, compared with finite differences."""

import itertools
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from reszoo.gradients import backend
from reszoo.gradients.blocks import find_blocks, found_in
from reszoo.gradients.calls import CallsBlock
from reszoo.gradients.double_precision import clone, double_precision, in_double_precision
from reszoo.gradients.finite_differences import Derivative, derivative, directions
from reszoo.gradients.found_block import FoundBlock
from reszoo.gradients.graph import Graph, GraphBlock
from reszoo.gradients.perturbed import PATHS, Perturbed
from reszoo.gradients.search import Search
from reszoo.keras_internals import sublayers
from reszoo.layers import ResidualBlock

if TYPE_CHECKING:
    import pandas as pd

Blocks = Mapping[str, ResidualBlock | FoundBlock]
# A direction, and the derivative along it for each path.
Along = tuple[np.ndarray, dict[str, Derivative]]

# Largest difference of two derivatives that agree, relative to the one by finite differences.
TOLERANCE = 1e-6
# Rounding error of the sum of the paths' derivatives, relative to them. The loss does not show it
# where they cancel.
ROUNDING = 1e-14

# Candidates for the gradient at the fork, made of the gradients through the skip and the branch.
CANDIDATES: dict[str, Callable] = {
    "sum": lambda skip, branch: skip + branch,
    "average": lambda skip, branch: (skip + branch) / 2,
    "skip as a constant": lambda skip, branch: branch,
}


def check(
    block_or_model: keras.layers.Layer,
    inputs: Any,
    loss: Callable | None = None,
    blocks: Blocks | None = None,
    training: bool = False,
    number_of_directions: int = 8,
    seed: int = 0,
) -> "pd.DataFrame":
    """Compares the gradients of a block's paths with finite differences.

    A copy of the model in float64 is run with a small step added to the block's input `x` at the
    fork: to both paths, to the skip alone, to the branch alone. The differences of the loss give
    the derivatives without any gradient code. The derivatives of the two paths are combined, and
    the result is compared with the derivative with respect to `x`, and with the gradient at `x` in
    reverse mode.

    There is a row for each block and each of three candidates: the `"sum"` of the gradients through
    the two paths, their `"average"`, and `"skip as a constant"`, the gradient through the branch
    alone. Where gradients are right, finite differences and reverse mode both agree with the sum.
    With a stopped gradient on the skip (`StopGradSkip`) finite differences still agree with the
    sum, since the forward pass is the same, but reverse mode agrees with the skip as a constant. A
    wrong custom gradient agrees with no candidate.

    The derivatives are compared along a number of random directions of `x`, or along each element
    if `x` has no more elements than that. Each is computed with steps of 1e-2 to 1e-8 of the norm
    of `x`; neighbours are extrapolated to zero, and the result with the smallest estimated error is
    kept (`finite_differences`). Where no result is accurate to 1e-6, because a kink such as that of
    ReLU is within every step, the direction is left out with a warning. It is replaced by a random
    direction that is zero where `x` is zero, then by a single element.

    Args:
        block_or_model: A `ResidualBlock`, or a model or layer with residual blocks. It is not
            changed. One that is not built gets weights for the check alone.
        inputs: Its inputs: an array, or a structure of arrays; a few examples suffice.
        loss: Takes the output, float64, and returns a scalar or a loss per example, which is
            averaged. By default the output's sum, weighted with random numbers and divided by the
            square root of their number.
        blocks: The blocks by name, as `reszoo.gradients.instrument` gives them. By default every
            `ResidualBlock`, including the given one and nested ones.
        training: Whether it is run as in training. All runs then begin with the same seeds and
            averages, so that dropout drops the same units.
        number_of_directions: Number of directions per block, at least 1.
        seed: Seed of the directions and of the default loss.

    Returns:
        A table with the columns

        - `block` and `candidate`;
        - `finite_differences_agree` and `finite_differences_error`: whether the candidate, made of
          the paths' finite differences, is within 1e-6 of those with respect to `x`, and its
          error relative to them;
        - `reverse_mode_agrees` and `reverse_mode_error`: the same for the gradient at `x`
          in reverse mode;
        - `skip_error` and `branch_error`: the error of reverse mode for each path, relative
          to the path's finite differences;
        - `skip_gradient_norm` and `branch_gradient_norm`: of the whole gradient in reverse mode;
        - `doubt`: the estimated error of the finite differences with respect to `x`, relative
          to them;
        - `directions` and `left_out`: the numbers of directions compared and left out. Where none
          is compared the errors are NaN and nothing agrees.

    Raises:
        ValueError: If the Keras backend has no recorder, there is no block or no direction, a block
            does not run or runs on inputs of several shapes, the model cannot be copied in float64,
            or two runs give different losses.

    Example:

    >>> import reszoo
    >>> block = reszoo.ResidualBlock([keras.layers.Dense(4, "tanh")], name="block1")
    >>> table = check(block, np.ones((2, 4)))
    >>> table.candidate[table.finite_differences_agree].tolist()
    ['sum']
    >>> print(table.finite_differences_error[1].round(6))  # of the average
    0.5
    """
    import pandas as pd  # Here, since importing the layers must stay quick.

    _check_arguments(block_or_model, number_of_directions)
    blocks = _blocks_of(block_or_model) if blocks is None else dict(blocks)
    found_in(block_or_model, blocks)  # raises an error for blocks of another model
    with double_precision():
        inputs = in_double_precision(inputs)
        copy, copies = clone(block_or_model, inputs)
        copied = {**_copied(blocks, copies), **_found_again(blocks, copy, inputs)}
        perturbed = Perturbed(copy, inputs, copied, training, loss, seed)
        with perturbed.in_place():
            gradients = perturbed.gradients()
            tables = [
                _rows(perturbed, name, gradients[name], number_of_directions, seed)
                for name in blocks
            ]
    table = pd.DataFrame(list(itertools.chain.from_iterable(tables)))
    _tell_left_out(table)
    return table


def _check_arguments(layer: Any, number: Any) -> None:
    backend.running()  # raises an error if it cannot run the check
    if not isinstance(layer, keras.layers.Layer):
        raise ValueError(
            "reszoo.gradients.check takes a ResidualBlock or a Keras model, but got "
            f"{layer!r} of type {type(layer).__name__}."
        )
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise ValueError(
            f"number_of_directions must be an integer of at least 1, but is {number!r}."
        )


def _blocks_of(layer: keras.layers.Layer) -> Blocks:
    has_inner = any(isinstance(part, ResidualBlock) for part in sublayers(layer))
    inner = find_blocks(layer) if has_inner else {}
    if not isinstance(layer, ResidualBlock):
        _check_some(layer, inner)
        return inner
    return {layer.name: layer} | {
        f"{layer.name}/{name}" if name == layer.name else name: block
        for name, block in inner.items()
    }


def _check_some(layer: keras.layers.Layer, blocks: Blocks) -> None:
    if not blocks:
        raise ValueError(
            f"{layer.name!r} has no residual block to check. Give a reszoo.ResidualBlock, or a "
            "model with some; of a functional model the additions, as "
            "blocks=reszoo.gradients.instrument(model)."
        )


def _copied(blocks: Blocks, copies: dict[int, keras.layers.Layer]) -> Blocks:
    """Returns the blocks of a copy, by the names of the original's blocks."""
    of_graphs = [block for block in blocks.values() if isinstance(block, GraphBlock)]
    graphs = {id(b.graph): (b.graph, Graph(copies[id(b.graph.function)])) for b in of_graphs}
    copied = {}
    for name, block in blocks.items():
        if isinstance(block, GraphBlock):
            copied[name] = _same_node(block, *graphs[id(block.graph)])
        elif isinstance(block, ResidualBlock):
            copied[name] = copies[id(block)]
    return copied


def _found_again(blocks: Blocks, copy: keras.layers.Layer, inputs: Any) -> Blocks:
    """Returns the blocks inside of the layers of a copy, by the names of the original's."""
    wanted = {name: block for name, block in blocks.items() if isinstance(block, CallsBlock)}
    if not wanted:
        return {}
    found = [block for _, _, block in Search(copy, inputs).found if isinstance(block, CallsBlock)]
    copied = {}
    for name, block in wanted.items():
        alike = [other for other in found if other.located.names == block.located.names]
        if len(alike) != 1:
            raise ValueError(
                f"The block {name!r} cannot be checked: in a copy of the model in float64 "
                f"{len(alike)} blocks have its place and name, instead of one. Give the others as "
                "blocks={name: block}."
            )
        copied[name] = alike[0]
    return copied


def _same_node(block: GraphBlock, graph: Graph, graph_of_copy: Graph) -> GraphBlock:
    """Returns the block of a copied graph whose addition has the same name and position."""

    def alike(blocks: list[GraphBlock]) -> list[GraphBlock]:
        name = block.node.operation.name
        return [other for other in blocks if other.node.operation.name == name]

    position = [other.node for other in alike(graph.blocks)].index(block.node)
    return alike(graph_of_copy.blocks)[position]


def _rows(
    perturbed: Perturbed, name: str, gradients: dict[str, np.ndarray], number: int, seed: int
) -> list[dict]:
    """Returns a dictionary for each candidate of a block."""
    settled, left_out = _differentiated(perturbed, name, number, seed)
    values = {path: np.array([of_path[path].value for _, of_path in settled]) for path in PATHS}
    doubts = {path: np.array([of_path[path].error for _, of_path in settled]) for path in PATHS}
    reverse = {
        path: np.array([np.vdot(gradients[path], direction) for direction, _ in settled])
        for path in PATHS
    }
    largest = max(np.linalg.norm(of_path) for of_path in values.values())
    noise = float(np.linalg.norm(list(doubts.values())) + ROUNDING * largest)
    of_block = {
        "skip_error": _error(reverse["skip"], values["skip"], values["skip"], noise),
        "branch_error": _error(reverse["branch"], values["branch"], values["branch"], noise),
        "skip_gradient_norm": np.linalg.norm(gradients["skip"]),
        "branch_gradient_norm": np.linalg.norm(gradients["branch"]),
        "doubt": _error(doubts["both"], 0 * doubts["both"], values["both"], 0.0),
        "directions": len(settled),
        "left_out": left_out,
    }
    return [
        {
            "block": name,
            "candidate": candidate,
            **_beside("finite_differences_agree", made, values["both"], values["both"], noise),
            **_beside("reverse_mode_agrees", made, reverse["both"], values["both"], noise),
            **of_block,
        }
        for candidate, make in CANDIDATES.items()
        for made in [make(values["skip"], values["branch"])]
    ]


def _beside(
    agrees: str, made: np.ndarray, other: np.ndarray, relative_to: np.ndarray, noise: float
) -> dict[str, Any]:
    error = _error(made, other, relative_to, noise)
    agree = error <= TOLERANCE or (len(made) > 0 and np.linalg.norm(made - other) <= noise)
    return {agrees: bool(agree), agrees.rpartition("_")[0] + "_error": error}


def _error(made: np.ndarray, other: np.ndarray, relative_to: np.ndarray, noise: float) -> float:
    """Returns a distance relative to a vector's norm; to `noise / TOLERANCE` if that is noise."""
    if not len(relative_to):
        return np.nan
    distance, size = np.linalg.norm(made - other), np.linalg.norm(relative_to)
    size = size if size > noise else noise / TOLERANCE
    if not distance:
        return 0.0
    return float(distance / size) if size else np.inf


def _differentiated(
    perturbed: Perturbed, name: str, number: int, seed: int
) -> tuple[list[Along], int]:
    """Returns directions with the derivatives along them, and the number of those left out."""
    x = perturbed.inputs_of_blocks[name]
    length = float(np.linalg.norm(x)) or 1.0

    def along(direction: np.ndarray) -> Along:
        return direction, {
            path: derivative(perturbed.loss_along(name, direction, path), length, perturbed.at_zero)
            for path in PATHS
        }

    tried, settled, missing = [], [], None
    for others in directions(x, number, seed):
        tried += [along(direction) for direction in itertools.islice(others, missing)]
        settled = _settled(tried, abs(perturbed.at_zero) / length)
        missing = min(number, x.size) - len(settled)
    if x.size > number:  # One element of many that changes nothing tells nothing about the rest.
        settled = [(v, found) for v, found in settled if np.count_nonzero(v) > 1 or _any(found)]
    return settled, len(tried) - len(settled)


def _any(of_path: dict[str, Derivative]) -> bool:
    return any(found.value for found in of_path.values())


def _settled(tried: list[Along], least_scale: float) -> list[Along]:
    """Returns the directions whose errors are small relative to the largest derivative of all."""
    values = [abs(d.value) for _, of_path in tried for d in of_path.values()]
    scale = max([least_scale, *(value for value in values if np.isfinite(value))])
    return [
        (direction, of_path)
        for direction, of_path in tried
        if all(d.error <= TOLERANCE * scale for d in of_path.values())
    ]


def _tell_left_out(table: "pd.DataFrame") -> None:
    of_blocks = table.drop_duplicates("block")
    of_blocks = of_blocks[of_blocks.left_out > 0]
    if of_blocks.empty:
        return
    rows: Any = of_blocks.head(3).itertuples()
    some = ", ".join(
        f"{row.left_out} of {row.left_out + row.directions} for {row.block!r}" for row in rows
    )
    warnings.warn(
        f"Directions are left out, {some}{', ...' if len(of_blocks) > 3 else ''} "
        f"({of_blocks.left_out.sum()} in {len(of_blocks)} blocks), because finite differences do "
        "not settle along them: a kink, of ReLU or a maximum, lies within every step, or something "
        "computes in less than float64. So are single elements that change nothing.",
        stacklevel=3,
    )
