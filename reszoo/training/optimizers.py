"""Optimizers and learning rate schedules by name."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from absl import logging
from keras import ops

from reszoo.ranges import Number, Whole, check, check_fields
from reszoo.training.momentum import SGD

Schedule = keras.optimizers.schedules.LearningRateSchedule

_RATE = Number(1e-30, 1e6)
_UPDATE_RANGES = {
    "clip_norm": Number(0, 1e9),
    "ema_momentum": Number(0, 1, below=True),
    "accumulation_steps": Whole(1, 2**31 - 1),
}


def create_learning_rate(
    learning_rate: float,
    warmup_steps: int,
    total_steps: int,
    name: str = "cosine",
    boundaries: Sequence[int] = (),
    factor: float = 0.1,
    power: float = 1.0,
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns a schedule that rises linearly, then falls.

    Args:
        learning_rate: The highest rate, reached at the end of the warmup.
        warmup_steps: Number of steps that rise; 0 starts at the highest rate.
        total_steps: Number of all steps.
        name: Shape of the fall: `"cosine"`, along half a cosine to zero; `"polynomial"`, to zero as
            a power of the remaining share of steps; `"step"`, by a factor at given steps.
        boundaries: The steps of `"step"` at which the rate falls, counted from 0.
        factor: Factor by which the rate is multiplied at each boundary.
        power: Exponent of `"polynomial"`; 1 is a straight line.

    Returns:
        A schedule for a Keras optimizer.

    Raises:
        ValueError: If the schedule is unknown, or a number is out of range.

    Reference:
        Goyal et al. 2017, "Accurate, large minibatch SGD", section 2.2 (warmup); Loshchilov and
        Hutter 2017, "SGDR", section 3 (cosine).

    Example:

    >>> rate = create_learning_rate(1.0, warmup_steps=2, total_steps=6)
    >>> [round(float(rate(step)), 2) for step in range(7)]
    [0.5, 0.75, 1.0, 0.85, 0.5, 0.15, 0.0]
    """
    for what, value, values in (
        ("learning_rate", learning_rate, _RATE),
        ("factor", factor, Number(0, 1, above=True)),
        ("power", power, Number(0, 100)),
    ):
        check(what, value, values)
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"The warmup must have at least 0 steps and fewer than all {total_steps} of the run, "
            f"but got {warmup_steps}. Give fewer warmup epochs, or more epochs."
        )
    if name == "cosine":
        return _cosine(learning_rate, warmup_steps, total_steps)
    if name == "polynomial":
        falling = keras.optimizers.schedules.PolynomialDecay(
            learning_rate, total_steps - warmup_steps, end_learning_rate=0.0, power=power
        )
        return Warmup(falling, learning_rate, warmup_steps) if warmup_steps else falling
    if name == "step":
        falling = _piecewise(learning_rate, [step - warmup_steps for step in boundaries], factor)
        return Warmup(falling, learning_rate, warmup_steps) if warmup_steps else falling
    raise ValueError(f'There is no schedule {name!r}. Give "cosine", "polynomial" or "step".')


@functools.cache  # so that a run warns once
def warmup_steps_of(warmup_epochs: float, steps_per_epoch: int, epochs: int) -> int:
    """Returns the number of warmup steps of a run: at most half of its steps.

    A longer warmup, as in a recipe whose `epochs` was lowered for a short trial, is cut to half of
    the run, with a warning.

    Args:
        warmup_epochs: Number of warmup epochs; may be a fraction.
        steps_per_epoch: Number of steps in an epoch.
        epochs: Number of all epochs.

    Raises:
        ValueError: If `warmup_epochs` is negative or not a finite number.

    Example:

    >>> warmup_steps_of(5.0, steps_per_epoch=100, epochs=90)
    500
    """
    if not 0 <= warmup_epochs < math.inf:
        raise ValueError(
            "optimizer.warmup_epochs must be a number of epochs, 0 for none, but got "
            f"{warmup_epochs}."
        )
    wanted, most = round(warmup_epochs * steps_per_epoch), epochs * steps_per_epoch // 2
    if wanted > most:
        logging.warning(
            "A warmup of %s epochs is cut to %d steps, half of the run.", warmup_epochs, most
        )
    return min(wanted, most)


def _cosine(learning_rate: float, warmup_steps: int, total_steps: int) -> Schedule:
    if warmup_steps == 0:
        return keras.optimizers.schedules.CosineDecay(learning_rate, total_steps)
    return keras.optimizers.schedules.CosineDecay(
        # Not from zero, where the first step would change nothing.
        learning_rate / warmup_steps,
        total_steps - warmup_steps,
        warmup_target=learning_rate,
        warmup_steps=warmup_steps,
    )


def _piecewise(learning_rate: float, boundaries: Sequence[int], factor: float) -> Schedule:
    if not boundaries or sorted(set(boundaries)) != boundaries or boundaries[0] <= 0:
        raise ValueError(
            'The schedule "step" needs boundaries: steps after the warmup, rising, for example '
            "(32000, 48000)."
        )
    values = [learning_rate * factor**index for index in range(len(boundaries) + 1)]
    # In Keras a boundary still has the value before it.
    return keras.optimizers.schedules.PiecewiseConstantDecay(
        [boundary - 1 for boundary in boundaries], values
    )


@keras.saving.register_keras_serializable(package="reszoo")
class Warmup(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to a rate, then follows another schedule.

    Args:
        schedule: The schedule, which begins when the warmup ends.
        learning_rate: The rate at the end of the warmup.
        warmup_steps: Number of steps that rise, at least 1.

    Example:

    >>> flat = keras.optimizers.schedules.PolynomialDecay(1.0, 10, end_learning_rate=1.0)
    >>> [float(Warmup(flat, 1.0, 4)(step)) for step in range(6)]
    [0.25, 0.4375, 0.625, 0.8125, 1.0, 1.0]
    """

    def __init__(
        self,
        schedule: keras.optimizers.schedules.LearningRateSchedule,
        learning_rate: float,
        warmup_steps: int,
    ):
        self.schedule = schedule
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> Any:
        first = self.learning_rate / self.warmup_steps
        whole: Any = ops.cast(step, "int64")
        real: Any = ops.cast(step, "float32")
        done = real / self.warmup_steps
        rising = first + (self.learning_rate - first) * done
        falling = self.schedule(ops.maximum(whole - self.warmup_steps, 0))
        return ops.where(done < 1, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return {
            "schedule": keras.saving.serialize_keras_object(self.schedule),
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Warmup":
        schedule = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(**{**config, "schedule": schedule})


@dataclasses.dataclass(frozen=True)
class UpdateRule:
    """Options of an update beside the optimizer's own algorithm.

    Args:
        clip_norm: Largest norm of the gradient of all weights together; longer ones are scaled to
            it. 0: no clipping.
        ema_momentum: Share of the old average in the moving average of the weights, which is tested
            and saved in their place; 0: no average.
        accumulation_steps: Number of batches for one update, by the mean of their gradients.

    Raises:
        ValueError: If a number is out of range.

    Example:

    >>> UpdateRule(accumulation_steps=4).options()["gradient_accumulation_steps"]
    4
    """

    clip_norm: float = 0.0
    ema_momentum: float = 0.0
    accumulation_steps: int = 1

    def __post_init__(self):
        check_fields(self, _UPDATE_RANGES)

    def options(self) -> dict[str, float | int | bool | None]:
        """Returns the rule as arguments of a Keras optimizer."""
        several = self.accumulation_steps > 1
        return {
            "global_clipnorm": self.clip_norm or None,
            "use_ema": self.ema_momentum > 0,
            "ema_momentum": self.ema_momentum,
            "gradient_accumulation_steps": self.accumulation_steps if several else None,
        }


def create_optimizer(
    name: str,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    rule: UpdateRule | None = None,
    variables: Sequence[keras.Variable] = (),
) -> keras.optimizers.Optimizer:
    """Returns an optimizer, by its name, built for the given variables.

    The weight decay is decoupled from the gradient, `w -= learning_rate * weight_decay * w`, so
    that the recorded gradient is that of the loss alone. For SGD with momentum `m` it acts like
    an L2 penalty of factor `weight_decay * (1 - m)`. Biases and the scales and offsets of
    normalizations (all variables of fewer than two axes) do not decay.

    Args:
        name: `"sgd"` (with Nesterov momentum), `"adamw"`, `"lamb"` or `"muon"` (which updates
            matrices only, and all other weights, those of convolutions too, as `"adamw"` does).
        learning_rate: A number, or a schedule.
        weight_decay: Factor of the weight decay.
        momentum: Momentum of SGD and Muon, or `beta_1` of AdamW and LAMB.
        rule: Clipping, averaging and accumulation; none if `None`.
        variables: The variables that will be trained.

    Returns:
        A Keras optimizer.

    Raises:
        ValueError: If the optimizer is unknown, or a number is out of range.

    Reference:
        Loshchilov and Hutter 2019, "Decoupled weight decay regularization", algorithms 1 and 2.

    Example:

    >>> create_optimizer("sgd", 0.1, weight_decay=1e-4).nesterov
    True
    """
    check("weight_decay", weight_decay, Number(0, 1e6))
    check("momentum", momentum, Number(0, 1, below=True))
    classes = {
        "sgd": (SGD, {"momentum": momentum, "nesterov": True}),
        "adamw": (keras.optimizers.AdamW, {"beta_1": momentum}),
        "lamb": (keras.optimizers.Lamb, {"beta_1": momentum}),
        "muon": (
            keras.optimizers.Muon,
            {"momentum": momentum, "adam_weight_decay": weight_decay},
        ),
    }
    if name not in classes:
        raise ValueError(f'There is no optimizer {name!r}. Give "sgd", "adamw", "lamb" or "muon".')
    make, own = classes[name]
    rule = rule or UpdateRule()
    optimizer = make(learning_rate, weight_decay=weight_decay, **own, **rule.options())
    optimizer.exclude_from_weight_decay([v for v in variables if len(v.shape) < 2])
    if variables:
        optimizer.build(list(variables))
    return optimizer
