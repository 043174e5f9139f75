"""Strategies: the devices of a run, and the agreement of its processes."""

import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from reszoo.words import STRATEGIES

DIGEST_BYTES = 8


def create_strategy(name: str = "auto") -> tf.distribute.Strategy:
    """Returns a strategy, by its name.

    | name | devices |
    |---|---|
    | `"auto"` | `"multi_worker"` if `TF_CONFIG` names several, else all GPUs, else the CPU |
    | `"cpu"` | the CPU |
    | `"gpu"` | the first GPU |
    | `"mirrored"` | all GPUs of this machine |
    | `"multi_worker"` | all devices of all processes that `TF_CONFIG` names |
    | `"tpu"` | all cores of the TPU that this machine is attached to (not tested) |

    For several workers it must be called before anything else of TensorFlow, and waits until all of
    them have started.

    Returns:
        A TensorFlow strategy.

    Raises:
        ValueError: If the name is unknown, or the devices are missing.

    Example:

    >>> create_strategy("cpu").num_replicas_in_sync
    1
    """
    if name not in STRATEGIES:
        raise ValueError(f"There is no strategy {name!r}. Give one of {', '.join(STRATEGIES)}.")
    if name == "multi_worker" or (name == "auto" and len(_workers()) > 1):
        return _multi_worker()
    if name == "tpu":
        return _tpu()
    if name == "cpu":
        return tf.distribute.OneDeviceStrategy("/CPU:0")
    gpus = [device for device in _names_of_devices() if device.startswith("GPU")]
    if name in ("gpu", "mirrored") and not gpus:
        raise ValueError(f'The strategy {name!r} needs a GPU, but there is none. Give "cpu".')
    return spread_over(gpus[:1] if name == "gpu" else gpus)


def spread_over(devices: Sequence[str]) -> tf.distribute.Strategy:
    """Returns a strategy over the given devices of this machine.

    Args:
        devices: Names of logical devices, for example `["GPU:0", "GPU:1"]`; none for the default.

    Returns:
        A `tf.distribute.MirroredStrategy` for two devices or more, otherwise one of one device.

    Raises:
        ValueError: If there is no such device.

    Example:

    >>> spread_over(["CPU:0"]).num_replicas_in_sync
    1
    """
    present = _names_of_devices()
    unknown = [device for device in devices if device not in present]
    if unknown:
        raise ValueError(
            f"There is no device {', '.join(unknown)}. This machine has {', '.join(present)}."
        )
    if len(devices) > 1:
        return _mirrored(tuple(devices))
    if devices:
        return tf.distribute.OneDeviceStrategy(f"/{devices[0]}")
    return tf.distribute.get_strategy()


@functools.cache
def _mirrored(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    """Returns one strategy for all runs of a process: TensorFlow mixes up the sums of two."""
    return tf.distribute.MirroredStrategy(list(devices))


def check_same_place(strategy: tf.distribute.Strategy, place: Sequence[int]) -> None:
    """Checks that all processes start from the same position in the training.

    Args:
        strategy: The strategy.
        place: Whole numbers that describe this process's position.

    Raises:
        ValueError: If another process has another position.
    """
    if differing(strategy, {"place": list(place)}):
        raise ValueError(
            "The processes found different checkpoints. Give all of them the same workdir, on a "
            "file system that they share."
        )


def check_same_run(strategy: tf.distribute.Strategy, fields: Mapping[str, Any], data: str) -> None:
    """Checks that all processes have the same configuration and the same data.

    Args:
        strategy: The strategy.
        fields: The fields of this process's configuration, by their full names.
        data: The digest of its data.

    Raises:
        ValueError: If those of another process differ.
    """
    if differing(strategy, {"names": sorted(fields)}):
        raise ValueError(
            "The processes have configurations with different fields. Give all of them the same "
            "--config."
        )
    different = differing(strategy, fields)
    if different:
        here = ", ".join(f"{name}={fields[name]!r}" for name in different)
        raise ValueError(
            f"The processes have different configurations; in this one it is {here}. Give all of "
            "them the same."
        )
    if differing(strategy, {"data": data}):
        raise ValueError(
            "The processes found different data. Give all of them the same, on a file system that "
            "they share."
        )


def differing(strategy: tf.distribute.Strategy, values: Mapping[str, Any]) -> list[str]:
    """Returns the names of the values that are not the same in all processes.

    Args:
        strategy: The strategy.
        values: Values of this process, of types that JSON has; the names are the same in all.
    """
    if not has_several_workers(strategy):
        return []
    texts = [json.dumps(values[name], sort_keys=True) for name in sorted(values)]
    # Bytes, whose sums over any number of devices are exact in float32.
    digests = [list(hashlib.sha256(text.encode()).digest()[:DIGEST_BYTES]) for text in texts]

    @tf.function
    def means():
        own = strategy.run(lambda: tf.constant(digests, tf.float32))
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, own, axis=None)

    found = means().numpy().tolist()
    pairs = zip(sorted(values), digests, found, strict=True)
    return [name for name, digest, mean in pairs if mean != digest]


def has_several_workers(strategy: tf.distribute.Strategy) -> bool:
    """Returns whether a strategy spans several processes."""
    resolver = strategy.cluster_resolver
    return resolver is not None and resolver.cluster_spec().as_dict() != {}


def names_several_workers() -> bool:
    """Returns whether `TF_CONFIG` names several processes."""
    try:
        return len(_workers()) > 1
    except ValueError:
        return False


def _names_of_devices():
    devices = tf.config.list_logical_devices()
    return [
        device.name.removeprefix("/device:")
        for device in devices
        if device.device_type in ("CPU", "GPU")
    ]


def _workers():
    """Returns the addresses of all workers that `TF_CONFIG` names, the chief's among them."""
    text = os.environ.get("TF_CONFIG") or "{}"
    try:
        cluster = json.loads(text).get("cluster", {})
        return [*cluster.get("chief", []), *cluster.get("worker", [])]
    except (ValueError, AttributeError) as error:
        raise ValueError(
            f"The environment variable TF_CONFIG is {text!r}, but must be JSON with `cluster` "
            "and `task`; docs/scaling.md shows one."
        ) from error


def _multi_worker():
    if not _workers():
        raise ValueError(
            'The strategy "multi_worker" needs the environment variable TF_CONFIG in every '
            "process; docs/scaling.md shows how to set it."
        )
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        raise ValueError(
            f"The workers cannot be joined ({error}). Start one process a worker, and create the "
            "strategy before anything else of TensorFlow."
        ) from error


def _tpu():
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect(tpu="local")
    except Exception as error:  # its class depends on the kind of machine
        raise ValueError(
            f"No TPU could be reached ({type(error).__name__}: {str(error).splitlines()[0][:200]})."
        ) from error
    return tf.distribute.TPUStrategy(resolver)
