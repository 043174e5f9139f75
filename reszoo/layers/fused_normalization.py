"""Batch normalization by a backend's own kernel.

Code for a single backend is here, in `recomputation` and in `cpu_kernels`; the other files
of `reszoo.layers` are written with `keras` and `keras.ops` alone. TensorFlow and PyTorch compute
Keras's formula operation by operation, and read the images for each one; their kernels read them
once or twice. Where XLA compiles, on TensorFlow or JAX, it fuses Keras's formula itself.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import keras

from reszoo.keras_internals import is_determinism_enabled, is_traced_for_xla
from reszoo.layers.shapes import Tensor

BACKEND = keras.backend.backend()
if BACKEND == "tensorflow":
    import tensorflow as tf
elif BACKEND == "torch":
    import torch


def has_kernel(x: Tensor, trains: bool) -> bool:
    """Returns whether the backend has a kernel that normalizes a tensor over its last axis.

    Args:
        x: The layer's input.
        trains: Whether it is normalized by its own mean and variance.
    """
    return BACKEND in _HAS_KERNEL and _HAS_KERNEL[BACKEND](x, trains)


def normalized_by_batch(
    x: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalizes images by the mean and variance of each channel.

    Args:
        x: Images `(batch, height, width, channels)`.
        scale: The scale of each channel, in float32, or in float64 if the images are.
        offset: The offset of each channel, likewise.
        epsilon: Positive number added to the variance.

    Returns:
        The normalized images, in the dtype of the images; the mean of each channel, and its
        variance, the mean of the squared deviations, neither of which has a gradient.
    """
    y, mean, unbiased = _BY_BATCH[BACKEND](x, scale, offset, epsilon)
    shape: Any = keras.ops.shape(x)
    values: Any = keras.ops.cast(math.prod(shape[:-1]), mean.dtype)
    return y, mean, unbiased * ((values - 1) / values)


def normalized_by(
    mean: Tensor, variance: Tensor, x: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> Tensor:
    """Normalizes images by a given mean and variance.

    Args:
        mean: The mean of each channel, in the dtype of `scale`; it gets no gradient.
        variance: The variance of each channel, likewise.
        x: As in `normalized_by_batch`, as are the others.
        scale: The scale of each channel.
        offset: The offset of each channel.
        epsilon: Positive number added to the variance.

    Returns:
        The normalized images, in the dtype of the images.
    """
    return _BY_GIVEN[BACKEND](mean, variance, x, scale, offset, epsilon)


def _tensorflow_has_kernel(x: Tensor, trains: bool) -> bool:
    if len(x.shape) != 4 or x.dtype not in (tf.float32, tf.float16, tf.bfloat16):
        return False
    # XLA expands the kernel to the difference of mean square and squared mean, which cancels where
    # the mean is far from zero; it fuses Keras's formula as well.
    if is_traced_for_xla():
        return False
    # On a GPU, the gradient by a given mean and variance sums in any order.
    any_order = not trains and bool(keras.distribution.list_devices("gpu"))
    return not (any_order and is_determinism_enabled())


def _tensorflow_by_batch(x: Tensor, scale: Tensor, offset: Tensor, epsilon: float) -> Sequence:
    none = tf.zeros((0,))
    y, mean, unbiased, *_ = tf.raw_ops.FusedBatchNormV3(
        x=x, scale=scale, offset=offset, mean=none, variance=none, epsilon=epsilon
    )
    return y, tf.stop_gradient(mean), tf.stop_gradient(unbiased)


def _tensorflow_by_given(
    mean: Tensor, variance: Tensor, x: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> Tensor:
    moments = {"mean": mean, "variance": variance, "is_training": False}
    kernel = tf.raw_ops.FusedBatchNormV3
    return kernel(x=x, scale=scale, offset=offset, epsilon=epsilon, **moments)[0]


def _torch_has_kernel(x: Tensor, trains: bool) -> bool:
    # The kernel refuses to train on a single value of each channel.
    return x.dtype.is_floating_point and not (trains and x.numel() <= x.shape[-1])


def _torch_by_batch(x: Tensor, scale: Tensor, offset: Tensor, epsilon: float) -> Sequence:
    mean, unbiased = torch.zeros_like(scale), torch.zeros_like(scale)
    averages = mean.detach(), unbiased.detach()
    # A momentum of 1 replaces the averages by the mean and the variance of the batch.
    y = torch.nn.functional.batch_norm(
        x.movedim(-1, 1), *averages, scale, offset, True, 1.0, epsilon
    )
    return y.movedim(1, -1), *averages


def _torch_by_given(
    mean: Tensor, variance: Tensor, x: Tensor, scale: Tensor, offset: Tensor, epsilon: float
) -> Tensor:
    normalize = torch.nn.functional.batch_norm
    y = normalize(x.movedim(-1, 1), mean, variance, scale, offset, False, 0.0, epsilon)
    return y.movedim(1, -1)


_HAS_KERNEL: dict[str, Callable] = {
    "tensorflow": _tensorflow_has_kernel,
    "torch": _torch_has_kernel,
}
_BY_BATCH: dict[str, Callable] = {
    "tensorflow": _tensorflow_by_batch,
    "torch": _torch_by_batch,
}
_BY_GIVEN: dict[str, Callable] = {
    "tensorflow": _tensorflow_by_given,
    "torch": _torch_by_given,
}
