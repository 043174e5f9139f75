"""Alarms: conditions that the statistics of recorded steps are tested for."""

import abc
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import keras
import numpy as np

from reszoo.gradients.blocks import layers_of

Found = tuple[str, str | None, str]  # block, path and one sentence


@dataclass(frozen=True)
class RecordedStep:
    """Statistics of one recorded step, for which alarms are tested.

    Attributes:
        step: The training step, counted from 0.
        blocks: The blocks by name, in the order of the network.
        statistics: Each of shape `(blocks,)`, by name.
    """

    step: int
    blocks: Mapping[str, keras.layers.Layer]
    statistics: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Alarm(abc.ABC):
    """A condition on the statistics of recorded steps; it goes off each time it begins to hold.

    Args:
        recorded_steps: Number of recorded steps in a row for which it must hold.
        stop_training: Whether training stops when it goes off.
    """

    kind = ""
    needs = "paths"

    recorded_steps: int = 1
    stop_training: bool = False

    def __post_init__(self) -> None:
        if self.recorded_steps < 1:
            raise ValueError(
                f"{type(self).__name__} got recorded_steps={self.recorded_steps}, but it must "
                "be at least 1."
            )

    @abc.abstractmethod
    def look(self, recorded: RecordedStep) -> Iterator[Found]:
        """Yields block, path and one sentence for each place where it holds in a recorded step.

        Args:
            recorded: The statistics of the step.
        """


@dataclass(frozen=True)
class NonFinite(Alarm):
    """A NaN or an infinite value in a gradient.

    Args:
        recorded_steps: Number of recorded steps in a row for which it must hold.
        stop_training: Whether training stops when it goes off.

    Example:

    >>> NonFinite(stop_training=True)
    NonFinite(recorded_steps=1, stop_training=True)
    """

    kind = "nonfinite"

    def look(self, recorded: RecordedStep) -> Iterator[Found]:
        for path in ("output", "branch", "skip"):
            counts = recorded.statistics[f"{path}_gradient_nonfinite"]
            # In the backward pass the last block is the first to have it.
            for block, count in reversed(list(zip(recorded.blocks, counts, strict=True))):
                if count > 0:
                    yield block, path, f"{count:.0f} values of its {path} gradient are not finite"


@dataclass(frozen=True)
class Vanishing(Alarm):
    """The gradient that leaves the first block is a small fraction of the one at the last.

    Args:
        recorded_steps: Number of recorded steps in a row for which it must hold.
        stop_training: Whether training stops when it goes off.
        fraction: The ratio below which it holds.
    """

    kind = "vanishing"

    fraction: float = 1e-3

    def look(self, recorded: RecordedStep) -> Iterator[Found]:
        found = _first_to_last(recorded)
        if found < self.fraction:
            first = next(iter(recorded.blocks))
            yield first, None, f"the gradient that leaves it is {found:.2g} of the last block's"


@dataclass(frozen=True)
class Exploding(Alarm):
    """The gradient that leaves the first block is a large multiple of the one at the last.

    Args:
        recorded_steps: Number of recorded steps in a row for which it must hold.
        stop_training: Whether training stops when it goes off.
        multiple: The ratio above which it holds.
    """

    kind = "exploding"

    multiple: float = 1e3

    def look(self, recorded: RecordedStep) -> Iterator[Found]:
        found = _first_to_last(recorded)
        if found > self.multiple:
            first = next(iter(recorded.blocks))
            yield first, None, f"the gradient that leaves it is {found:.2g} times the last block's"


@dataclass(frozen=True)
class GrowingStream(Alarm):
    """The sum of a block is a large multiple of that of the first block.

    The sums of blocks with an identity as shortcut are one stream, which each branch adds to.
    Without a normalization of the sums nothing bounds it.

    Args:
        recorded_steps: Number of recorded steps in a row for which it must hold.
        stop_training: Whether training stops when it goes off.
        multiple: The ratio of `sum_rms` above which it holds.

    Example:

    >>> GrowingStream(multiple=50).needs  # a set of statistics that must be recorded
    'forward'
    """

    kind = "growing_stream"
    needs = "forward"

    multiple: float = 100.0

    def look(self, recorded: RecordedStep) -> Iterator[Found]:
        sizes = recorded.statistics["sum_rms"]
        for block, size in zip(recorded.blocks, sizes, strict=True):
            if sizes[0] > 0 and size > self.multiple * sizes[0]:
                yield block, None, f"its sum is {size / sizes[0]:.3g} times that of the first block"


def _first_to_last(recorded: RecordedStep) -> float:
    first = recorded.statistics["input_gradient_norm"][0]
    last = recorded.statistics["output_gradient_norm"][-1]
    return first / last if last else np.nan


@dataclass(frozen=True)
class DeadBranch(Alarm):
    """The gradient of a branch is zero, though the gradient that reaches the block is not.

    Args:
        recorded_steps: Number of recorded steps in a row for which it must hold.
        stop_training: Whether training stops when it goes off.
    """

    kind = "dead_branch"

    recorded_steps: int = 3

    def look(self, recorded: RecordedStep) -> Iterator[Found]:
        branch = recorded.statistics["branch_gradient_norm"]
        output = recorded.statistics["output_gradient_norm"]
        for block, returned, reached in zip(recorded.blocks, branch, output, strict=True):
            if returned == 0 and reached > 0:
                yield block, "branch", "exactly nothing comes back through its branch"


@dataclass(frozen=True)
class SaturatedScale(Alarm):
    """Most scales of a block's batch normalization are close to zero, so its channels are off.

    It reads the scales themselves, with one transfer from the device per normalization.

    Args:
        recorded_steps: Number of recorded steps in a row for which it must hold.
        stop_training: Whether training stops when it goes off.
        below: The magnitude of a scale below which its channel is off.
        share: The share of a normalization's channels, in [0, 1]; it goes off when more are off.
    """

    kind = "saturated_scale"

    below: float = 1e-3
    share: float = 0.9

    def look(self, recorded: RecordedStep) -> Iterator[Found]:
        for name, block in recorded.blocks.items():
            for layer in layers_of(block):
                if not isinstance(layer, keras.layers.BatchNormalization) or not layer.scale:
                    continue
                scales: Any = keras.ops.convert_to_numpy(layer.gamma)
                off = np.mean(np.abs(scales) < self.below)
                if off > self.share:
                    yield name, None, f"{off:.0%} of the scales of {layer.name!r} are next to zero"


def check_alarms(alarms: Iterable[Alarm], sets: Iterable[str]) -> tuple[Alarm, ...]:
    """Returns alarms, after checking that their statistics are recorded.

    Args:
        alarms: Instances of `Alarm`.
        sets: Names of the sets of statistics that are recorded.

    Returns:
        The same alarms, as a tuple.

    Raises:
        ValueError: If one is not an `Alarm`, or needs a set that is not recorded.
    """
    alarms = tuple(alarms)
    for alarm in alarms:
        if not isinstance(alarm, Alarm):
            raise ValueError(
                f"{alarm!r} is not an alarm. Give instances, for example "
                "alarms=[reszoo.gradients.NonFinite()]."
            )
        if alarm.needs not in sets:
            raise ValueError(
                f"{type(alarm).__name__} looks at the set {alarm.needs!r}, which is not recorded. "
                f"Add it: statistics={(*sets, alarm.needs)!r}."
            )
    return alarms


def describe_alarms(alarms: Iterable[Alarm]) -> list[dict[str, Any]]:
    """Returns a description of alarms for the header of a log.

    Args:
        alarms: Instances of `Alarm`.

    Returns:
        A dictionary for each: its kind as `alarm`, and its arguments, which JSON can hold; of an
        argument that it cannot, the `repr`.

    Example:

    >>> describe_alarms([Vanishing(fraction=0.01)])
    [{'alarm': 'vanishing', 'recorded_steps': 1, 'stop_training': False, 'fraction': 0.01}]
    """
    return [
        {
            "alarm": alarm.kind or type(alarm).__name__,
            **{name: _in_json(value) for name, value in asdict(alarm).items()},
        }
        for alarm in alarms
    ]


def _in_json(value: Any) -> Any:
    return value if isinstance(value, bool | int | float | str | None) else repr(value)
