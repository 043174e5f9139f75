"""Optimizers and learning rate schedules by name."""

from collections.abc import Sequence

import keras


def create_learning_rate(
    learning_rate: float, warmup_steps: int, total_steps: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns a schedule that rises linearly, then falls along half a cosine to zero.

    Args:
        learning_rate: The highest rate, reached at the end of the warmup.
        warmup_steps: Number of steps that rise; 0 starts at the highest rate.
        total_steps: Number of all steps; the rate is zero from there on.

    Returns:
        A Keras schedule.

    Raises:
        ValueError: If a number is out of range.

    Reference:
        Goyal et al. 2017, "Accurate, large minibatch SGD", section 2.2 (warmup); Loshchilov and
        Hutter 2017, "SGDR", section 3 (cosine).

    Example:

    >>> rate = create_learning_rate(1.0, warmup_steps=2, total_steps=6)
    >>> [round(float(rate(step)), 2) for step in range(7)]
    [0.5, 0.75, 1.0, 0.85, 0.5, 0.15, 0.0]
    """
    if learning_rate <= 0:
        raise ValueError(f"learning_rate is above zero, but got {learning_rate}.")
    if not 0 <= warmup_steps < total_steps:
        raise ValueError(
            f"The warmup has at least 0 steps and fewer than all {total_steps} of the run, but "
            f"got {warmup_steps}. Give fewer warmup epochs, or more epochs."
        )
    if warmup_steps == 0:
        return keras.optimizers.schedules.CosineDecay(learning_rate, total_steps)
    return keras.optimizers.schedules.CosineDecay(
        # Not from zero: the first step would be in vain.
        learning_rate / warmup_steps,
        total_steps - warmup_steps,
        warmup_target=learning_rate,
        warmup_steps=warmup_steps,
    )


def create_optimizer(
    name: str,
    learning_rate: float | keras.optimizers.schedules.LearningRateSchedule,
    *,
    weight_decay: float = 0.0,
    momentum: float = 0.9,
    variables: Sequence[keras.Variable] = (),
) -> keras.optimizers.Optimizer:
    """Returns an optimizer, by its name, built for the given variables.

    The weight decay is decoupled from the gradient, `w -= learning_rate * weight_decay * w`, so
    that what is recorded is the gradient of the loss alone. For SGD with momentum `m` it acts like
    an L2 penalty of factor `weight_decay * (1 - m)`. Biases and the scales and offsets of
    normalizations (all variables of fewer than two axes) do not decay.

    Args:
        name: `"sgd"` (with Nesterov momentum) or `"adamw"`.
        learning_rate: A number, or a schedule.
        weight_decay: Factor of the weight decay.
        momentum: Momentum of SGD, or `beta_1` of AdamW.
        variables: The variables that will be trained.

    Returns:
        A Keras optimizer.

    Raises:
        ValueError: If there is no such optimizer, or a number is out of range.

    Reference:
        Loshchilov and Hutter 2019, "Decoupled weight decay regularization", algorithms 1 and 2.

    Example:

    >>> create_optimizer("sgd", 0.1, weight_decay=1e-4).nesterov
    True
    """
    if weight_decay < 0:
        raise ValueError(f"weight_decay is not negative, but got {weight_decay}.")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is at least 0 and below 1, but got {momentum}.")
    if name == "sgd":
        optimizer = keras.optimizers.SGD(
            learning_rate, momentum=momentum, nesterov=True, weight_decay=weight_decay
        )
    elif name == "adamw":
        optimizer = keras.optimizers.AdamW(
            learning_rate, weight_decay=weight_decay, beta_1=momentum
        )
    else:
        raise ValueError(f'There is no optimizer {name!r}. Give "sgd" or "adamw".')
    optimizer.exclude_from_weight_decay([v for v in variables if len(v.shape) < 2])
    if variables:
        optimizer.build(list(variables))
    return optimizer
