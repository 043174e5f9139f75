"""Choice of the process that writes logs and checkpoints."""

import tensorflow as tf


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the one that writes logs and checkpoints.

    Args:
        strategy: The strategy of the training; a single process is always the one that writes.

    Example:

    >>> is_chief(tf.distribute.get_strategy())
    True
    """
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type in (None, "", "chief"):
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return False
    return resolver.task_type != "worker" or resolver.task_id in (None, 0)
