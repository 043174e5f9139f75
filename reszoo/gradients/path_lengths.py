"""Gradient by the length of its path through the residual blocks."""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from reszoo.gradients import backend
from reszoo.gradients.blocks import describe_blocks, find_blocks
from reszoo.gradients.found_block import FoundBlock
from reszoo.layers import ResidualBlock

if TYPE_CHECKING:
    import pandas as pd

Blocks = Mapping[str, ResidualBlock | FoundBlock]


def gradient_by_path_length(
    model: keras.Model,
    x: Any,
    y: Any,
    loss: Callable,
    samples: int = 10,
    seed: int = 0,
    blocks: Blocks | None = None,
) -> "pd.DataFrame":
    """Measures the gradient at the input of the first block, by the length of its path.

    A residual network of `n` blocks in series is a sum over `2**n` paths: each goes through the
    branch of some blocks, whose number is its length, and through the skip of the others. For every
    length some sets of blocks are drawn, and the gradient of one batch is computed through the
    branches of these blocks and the skips of all others. The forward pass is always the whole one,
    and runs once, as in training; the averages of normalizations and the seeds are restored, so
    that the model is unchanged.

    The share of all paths of a length is the mean of `gradient_norm` times `number_of_paths`.

    Args:
        model: A built model whose blocks are in series, one after the other.
        x: A batch of inputs.
        y: Targets of the batch.
        loss: Takes `(y, model(x))` and returns a scalar or a loss per example, which is averaged.
        samples: Number of sets to draw for a length, without repetition; where there are no more
            than that, all are used.
        seed: Seed of the draws.
        blocks: The blocks by name, in order, as `reszoo.gradients.instrument` gives them. By
            default every `ResidualBlock` of the model.

    Returns:
        A table with the columns `length` (branches on the path), `sample`, `gradient_norm` (loss
        per unit of the block's input) and `number_of_paths` of this length, a float.

    Raises:
        ValueError: If `samples` is less than 1, the model has no residual block, or a block is
            inside another or does not run exactly once.

    Reference:
        Veit et al. 2016, "Residual networks behave like ensembles of relatively shallow networks",
        section 4.2.

    Example:

    >>> import reszoo
    >>> layers = [reszoo.ResidualBlock([keras.layers.Dense(4)], name=f"b{i}") for i in range(3)]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> table = gradient_by_path_length(
    ...     model, np.ones((2, 4)), np.zeros((2, 4)), keras.losses.MeanSquaredError()
    ... )
    >>> table.groupby("length").number_of_paths.first().tolist()
    [1.0, 3.0, 3.0, 1.0]
    """
    import pandas as pd  # Here, since importing the layers must stay quick.

    backend.running()  # or an error, if Keras is another one now
    if samples < 1:
        raise ValueError(
            f"gradient_by_path_length got samples={samples}, but it must be at least 1."
        )
    blocks = find_blocks(model) if blocks is None else blocks
    check_series(blocks)
    drawn = list(_drawn_sets(len(blocks), samples, seed))
    sets = [taken for _, _, taken in drawn]
    gradients = backend.path_gradients(model, x, y, loss, sets, blocks)
    rows = [
        (length, sample, np.linalg.norm(gradient), float(math.comb(len(blocks), length)))
        for (length, sample, _), gradient in zip(drawn, gradients, strict=True)
    ]
    return pd.DataFrame(rows, columns=["length", "sample", "gradient_norm", "number_of_paths"])


def _drawn_sets(blocks: int, samples: int, seed: int) -> Iterator[tuple[int, int, tuple[int, ...]]]:
    """Yields lengths, numbers of samples and sets of positions."""
    random = np.random.default_rng(seed)
    for length in range(blocks + 1):
        if math.comb(blocks, length) <= samples:
            sets = itertools.combinations(range(blocks), length)
        else:
            sets = {}
            while len(sets) < samples:
                drawn = random.choice(blocks, length, replace=False)
                sets[tuple(sorted(drawn.tolist()))] = None
        for sample, taken in enumerate(sets):
            yield length, sample, taken


def check_series(blocks: Blocks) -> None:
    """Checks that no block lies in another.

    Args:
        blocks: The blocks by name.

    Raises:
        ValueError: If one does.
    """
    for block in describe_blocks(blocks):
        if block["parent"] is not None:
            raise ValueError(
                f"The block {block['name']!r} lies in {block['parent']!r}. The length of a path is "
                "defined for blocks in series; give blocks without those that lie in others."
            )
