"""Choice of the process that writes logs and checkpoints."""

import importlib
from typing import Any

import keras


def is_chief(strategy: Any = None) -> bool:
    """Returns whether this process is the one that writes logs and checkpoints.

    A single process always is. Of several, it is the chief of a TensorFlow strategy, the first
    process of `jax.distributed`, or that of rank 0 of `torch.distributed`.

    Args:
        strategy: The TensorFlow strategy of the training; `None` for that in use. It is not used on
            another backend of Keras.

    Example:

    >>> is_chief()
    True
    """
    backend = keras.backend.backend()
    if backend == "jax":
        return importlib.import_module("jax").process_index() == 0
    if backend == "torch":
        distributed = importlib.import_module("torch.distributed")
        is_initialized = distributed.is_available() and distributed.is_initialized()
        return not is_initialized or distributed.get_rank() == 0
    return backend != "tensorflow" or _is_chief_of(strategy)


def _is_chief_of(strategy: Any) -> bool:
    if strategy is None:
        strategy = importlib.import_module("tensorflow").distribute.get_strategy()
    resolver = strategy.cluster_resolver
    if resolver is None or resolver.task_type in (None, "", "chief"):
        return True
    if "chief" in resolver.cluster_spec().jobs:
        return False
    return resolver.task_type != "worker" or resolver.task_id in (None, 0)
