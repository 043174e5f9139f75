"""Recorded fits that are kept for the next fit of a model, with the functions that they traced.

Keras keeps the train function of a model until it is compiled again. What belongs to that function
is kept with it, and is garbage when it is.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import keras

from reszoo.gradients.blocks import find_blocks
from reszoo.gradients.found_block import FoundBlock
from reszoo.layers import ResidualBlock
from reszoo.updates import accumulation_steps, optimizer_of

_NAME = "_kept_recorded_fit"


def keep(function: Any, fit: Any) -> None:
    """Keeps a recorded fit as long as the train function that it was made for.

    Args:
        function: The model's own train function. Only a Python function can have a fit.
        fit: The recorded fit, with an attribute `own_function`.
    """
    if isinstance(function, FunctionType):
        vars(function)[_NAME] = fit


def kept(model: keras.Model) -> Any | None:
    """Returns the recorded fit of a model's train function, or `None`.

    Args:
        model: Any model.
    """
    function = getattr(model, "train_function", None)
    fit = vars(function).get(_NAME) if isinstance(function, FunctionType) else None
    # A function that wraps another may have copied its attributes.
    return fit if fit is not None and fit.own_function is function else None


@dataclass(eq=False)
class TracedState:
    """State of a model that a traced step depends on.

    Attributes:
        objects: The distribution, the optimizer, and the variables that it trains.
        values: The model's `train_step`, and how it is compiled.
    """

    objects: list[Any]
    values: tuple[Any, ...]

    @classmethod
    def of(cls, model: keras.Model, step: Any) -> "TracedState":
        """Returns the state of a model.

        Args:
            model: A compiled model.
            step: Its own `train_step`.
        """
        optimizer = optimizer_of(model)
        steps = 1 if optimizer is None else accumulation_steps(optimizer)
        options = ("jit_compile", "run_eagerly", "steps_per_execution")
        values = (step, steps, *(getattr(model, name, None) for name in options))
        distribution = keras.distribution.distribution()
        return cls([distribution, optimizer, *model.trainable_variables], values)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, TracedState)
            and self.values == other.values
            and len(self.objects) == len(other.objects)
            and all(own is its for own, its in zip(self.objects, other.objects, strict=True))
        )


class TracedFunctions:
    """Taps of a model, and the functions that were traced with them in a fit."""

    def __init__(self):
        self._used: list[Any] = []
        self._free: list[Any] = []
        self._functions: list[tuple[list[Any], Callable]] = []

    def taps(
        self,
        sets: Iterable[str],
        blocks: Mapping[str, ResidualBlock | FoundBlock] | None,
        make: Callable[..., Any],
    ) -> Any:
        """Returns taps for a training: those of the last fit, if they observe the same, or new.

        Args:
            sets: Names of the sets of statistics.
            blocks: The blocks by name; `None` for every `ResidualBlock` of the model.
            make: Takes both, and returns new taps.
        """
        for taps in self._free:
            if _observe(taps, frozenset(sets), blocks):
                self._free.remove(taps)
                taps.clear()
                break
        else:
            taps = make(sets, blocks)
        self._used.append(taps)
        return taps

    def function(self, taps: Iterable[Any], asks: bool, make: Callable[[], Callable]) -> Callable:
        """Returns the function that was traced with some taps, or a new one.

        Args:
            taps: The taps of all trainings.
            asks: Whether it tests on the device if a batch is recorded.
            make: Returns a new function.
        """
        key = [*taps, asks]
        for other, function in self._functions:
            if len(key) == len(other) and all(map(operator.is_, key, other)):
                return function
        self._functions.append((key, make()))
        return self._functions[-1][1]

    def end_fit(self) -> None:
        """Keeps what the fit that ends has used, and forgets what only fits before it used."""
        self._free, self._used = self._used, []
        self._functions = [
            (key, function)
            for key, function in self._functions
            if all(any(part is taps for taps in self._free) for part in key[:-1])
        ]


def _observe(
    taps: Any, sets: frozenset[str], blocks: Mapping[str, ResidualBlock | FoundBlock] | None
) -> bool:
    """Returns whether taps would be made for some sets and blocks again.

    The same blocks are alike named, and were found by one search or by two.
    """
    blocks = find_blocks(taps.model) if blocks is None else blocks
    own = taps.blocks
    return (
        taps.sets == sets
        and list(own) == list(blocks)
        and all(_is_same(own[name], blocks[name]) for name in blocks)
    )


def _is_same(block: ResidualBlock | FoundBlock, other: ResidualBlock | FoundBlock) -> bool:
    if not (isinstance(block, FoundBlock) and isinstance(other, FoundBlock)):
        return block is other
    return block.found_in.owner is other.found_in.owner and block.key == other.key
