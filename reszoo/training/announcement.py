"""Lines that a run prints before its first step."""

import os
import shlex
import textwrap

import tensorflow as tf
from ml_collections import ConfigDict

from reszoo.data import Pipeline


def announcement(
    config: ConfigDict,
    workdir: str | os.PathLike,
    pipeline: Pipeline,
    strategy: tf.distribute.Strategy,
    columns: float,
) -> str:
    """Returns lines about what is trained on what, and about the recording.

    Args:
        config: The configuration, complete.
        workdir: The work directory.
        pipeline: The batches of the run.
        strategy: The devices of the run.
        columns: The number of columns of the terminal; infinity if it is none.
    """
    epochs = f"{config.epochs:,} epoch{'s' * (config.epochs > 1)}"
    every = config.recording.every_steps
    steps = "every step" if every == 1 else f"every {every:,} steps"
    training = (
        f"Training {config.model.name} on {config.data.name}: {epochs} of "
        f"{pipeline.steps_per_epoch:,} steps, {config.batch_size:,} images each, on "
        f"{devices_in_words(strategy)}."
    )
    room = int(min(columns, len(training)))
    lines = [
        *textwrap.wrap(training, room, break_long_words=False, break_on_hyphens=False),
        f"Recording gradients {steps}." if every else "No gradients are recorded.",
        f"To watch: tensorboard --logdir {shlex.quote(os.fspath(workdir))}",
    ]
    return "\n".join(lines)


def devices_in_words(strategy: tf.distribute.Strategy) -> str:
    """Returns the devices of a strategy.

    Args:
        strategy: The strategy.

    Example:

    >>> devices_in_words(tf.distribute.OneDeviceStrategy("/CPU:0"))
    'the CPU'
    """
    number = strategy.num_replicas_in_sync
    try:
        kind = strategy.extended.worker_devices[0].split(":")[-2].removeprefix("/")
    except RuntimeError:  # the default strategy, which `create_strategy` returns without a GPU
        kind = "CPU"
    if number == 1:
        return f"the {kind}"
    return f"{number} {kind} cores" if kind == "TPU" else f"{number} {kind}s"
