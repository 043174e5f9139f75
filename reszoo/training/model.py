"""The compiled model of a run: network, loss, optimizer and learning rate."""

from collections.abc import Sequence

import keras
from ml_collections import ConfigDict

from reszoo.data import Pipeline
from reszoo.training.losses import create_loss
from reszoo.training.network import create_network
from reszoo.training.optimizers import (
    UpdateRule,
    create_learning_rate,
    create_optimizer,
    warmup_steps_of,
)


def create_compiled_model(config: ConfigDict, pipeline: Pipeline) -> keras.Model:
    """Returns the model of a run, compiled, with an optimizer that is built.

    Args:
        config: The configuration, complete.
        pipeline: The batches, whose images and classes the model takes.

    Raises:
        ValueError: If the model is unknown, or an option does not fit it.
    """
    model = create_network(config, pipeline)
    optimizer = _create_optimizer(config, pipeline.steps_per_epoch, model.trainable_variables)
    model.compile(
        optimizer,
        loss=create_loss(config.loss, pipeline.source),
        metrics=["accuracy"],
        jit_compile=config.jit_compile,
        steps_per_execution=config.steps_per_loop,
    )
    model.optimizer.build(model.trainable_variables)
    return model


def learning_rate_of(
    config: ConfigDict, steps_per_epoch: int, factor: float = 1.0
) -> keras.optimizers.schedules.LearningRateSchedule:
    """Returns the learning rate of a run.

    Args:
        config: The configuration, complete.
        steps_per_epoch: Number of batches in an epoch.
        factor: Factor of the configured rate, below 1 after roll-backs.

    Raises:
        ValueError: If the options do not fit together.
    """
    options = config.schedule.to_dict()
    warmup_epochs = config.optimizer.warmup_epochs
    return create_learning_rate(
        config.optimizer.learning_rate * factor,
        warmup_steps=warmup_steps_of(warmup_epochs, steps_per_epoch, config.epochs),
        total_steps=config.epochs * steps_per_epoch,
        **options,
    )


def _create_optimizer(
    config: ConfigDict, steps_per_epoch: int, variables: Sequence[keras.Variable]
) -> keras.optimizers.Optimizer:
    options = config.optimizer
    rule = UpdateRule(options.clip_norm, options.ema_momentum, options.accumulation_steps)
    return create_optimizer(
        options.name,
        learning_rate_of(config, steps_per_epoch),
        weight_decay=options.weight_decay,
        momentum=options.momentum,
        rule=rule,
        variables=variables,
    )
