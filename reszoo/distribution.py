"""The process that writes, of several."""

import tensorflow as tf


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether this process is the one that writes logs and checkpoints.

    Args:
        strategy: The strategy that it trains under.

    Returns:
        `True` also where there is but one process.

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
