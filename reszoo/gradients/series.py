"""Blocks in series whose forks take the gradient of one path, with the tensors of any backend."""

import abc
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import keras

from reszoo.gradients.blocks import found_in
from reszoo.gradients.found_block import FoundBlock
from reszoo.layers import ResidualBlock

Blocks = Mapping[str, ResidualBlock | FoundBlock]


class Series(abc.ABC):
    """Blocks in series, with forks that take the gradient of only one of the two paths.

    Args:
        blocks: The blocks by name, in the order of the network.

    Attributes:
        taken: The positions of the blocks whose branch is taken; it may change between one backward
            pass and the next.
    """

    def __init__(self, blocks: Blocks):
        self.blocks = blocks
        self.taken: frozenset[int] = frozenset()
        self._calls = Counter()

    def replacements(self, model: keras.Model) -> list[tuple[Any, str, Callable]]:
        """Returns all that is replaced for a forward pass: owner, attribute, replacement.

        Args:
            model: The model of the blocks.
        """
        forks = [
            (block, "fork", self._counted(position, name))
            for position, (name, block) in enumerate(self.blocks.items())
        ]
        runs = [searched.replacements() for searched in found_in(model, self.blocks)]
        return [*forks, *itertools.chain.from_iterable(runs)]

    def check_calls(self) -> None:
        """Raises an error if a block did not run exactly once."""
        for name in self.blocks:
            if self._calls[name] != 1:
                raise ValueError(
                    f"The block {name!r} runs {self._calls[name]} times in one forward pass. The "
                    "length of a path is defined for blocks in series that run once each."
                )

    def _counted(self, position: int, name: str) -> Callable:
        def fork(x: Any) -> Any:
            self._calls[name] += 1
            return self._fork(self._start(x) if position == 0 else x, position)

        return fork

    @abc.abstractmethod
    def _start(self, x: Any) -> Any:
        """Returns the first block's input, whose gradient is kept or can be asked for."""

    @abc.abstractmethod
    def _fork(self, x: Any, position: int) -> Any:
        """Returns the input of the skip and that of the branch."""
