"""Which devices a run uses."""

from collections.abc import Sequence

import tensorflow as tf


def create_strategy(devices: Sequence[str] = ()) -> tf.distribute.Strategy:
    """Returns a strategy over the given devices, or over all GPUs.

    Args:
        devices: Names of logical devices, for example `["GPU:0", "GPU:1"]`; none for all GPUs, or
            the CPU where there is no GPU.

    Returns:
        A `tf.distribute.MirroredStrategy` for two devices or more, otherwise TensorFlow's default
        strategy (one device).

    Raises:
        ValueError: If there is no such device.

    Example:

    >>> create_strategy().num_replicas_in_sync >= 1
    True
    """
    present = [device.name.removeprefix("/device:") for device in _logical_devices()]
    unknown = [device for device in devices if device not in present]
    if unknown:
        raise ValueError(
            f"There is no device {', '.join(unknown)}. This machine has {', '.join(present)}."
        )
    chosen = list(devices) or [device for device in present if device.startswith("GPU")]
    if len(chosen) > 1:
        return tf.distribute.MirroredStrategy(chosen)
    if devices:
        return tf.distribute.OneDeviceStrategy(f"/{chosen[0]}")
    return tf.distribute.get_strategy()


def _logical_devices():
    devices = tf.config.list_logical_devices()
    return [device for device in devices if device.device_type in ("CPU", "GPU")]
