"""Batch normalization with the constants of the papers, by the backend's kernel if it has one."""

from typing import Any

import keras
from keras import ops

from reszoo.layers.fused_normalization import has_kernel, normalized_by, normalized_by_batch
from reszoo.layers.shapes import Tensor

# The values of He et al. 2015 and torchvision. With Keras's own defaults, 1e-3 and 0.99, converted
# weights do not reproduce the original outputs.
EPSILON = 1e-5
MOMENTUM = 0.9


@keras.saving.register_keras_serializable(package="reszoo")
class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization as `keras.layers.BatchNormalization`, in fewer passes over the images.

    Outputs, gradients and moving averages are those of Keras's layer up to rounding, weights have
    the same names and order, and the config has the same entries. TensorFlow normalizes images in
    float32, float16 and bfloat16 by its fused kernel, PyTorch any input by its own; JAX fuses
    Keras's formula when it compiles. What a kernel does not do, Keras's layer does: other axes than
    the last, masks, `renorm`, statistics over all replicas (`synchronized`).

    Args:
        momentum: Share of the moving averages that is kept at each step.
        epsilon: Positive number added to the variance.
        **kwargs: Arguments of `keras.layers.BatchNormalization`.

    Call arguments:
        inputs: A tensor whose last axis is the channels.
        training: Whether the mean and variance of the batch are used, and averaged, instead of the
            moving averages; a layer with `trainable=False` always uses the latter.
        mask: A tensor of the shape of the input without its last axis, true where values count
            for the mean and variance.

    Input shape:
        `(batch, ..., channels)`.

    Output shape:
        That of the input.

    Reference:
        Ioffe and Szegedy 2015, "Batch normalization: Accelerating deep network training by reducing
        internal covariate shift", algorithm 1.

    Example:

    >>> images = keras.random.normal((8, 4, 4, 3))
    >>> bool(abs(keras.ops.mean(BatchNormalization()(images, training=True))) < 1e-6)
    True
    """

    def __init__(self, momentum: float = MOMENTUM, epsilon: float = EPSILON, **kwargs: Any):
        super().__init__(momentum=momentum, epsilon=epsilon, **kwargs)

    def call(self, inputs: Tensor, training: bool | None = None, mask: Any = None) -> Tensor:
        trains = bool(training and self.trainable)
        if not self._fuses(inputs, mask) or not has_kernel(inputs, trains):
            return super().call(inputs, training=training, mask=mask)
        is_double = keras.backend.standardize_dtype(inputs.dtype) == "float64"
        dtype = "float64" if is_double else "float32"
        mean, variance = (ops.cast(x, dtype) for x in (self.moving_mean, self.moving_variance))
        scale = ops.cast(self.gamma, dtype) if self.scale else ops.ones_like(mean)
        offset = ops.cast(self.beta, dtype) if self.center else ops.zeros_like(mean)
        if not trains:
            y = normalized_by(mean, variance, inputs, scale, offset, self.epsilon)
            return ops.cast(y, self.compute_dtype)
        y, of_batch, variance_of_batch = normalized_by_batch(inputs, scale, offset, self.epsilon)
        kept: Any = self.momentum
        averages: Any = (self.moving_mean, self.moving_variance)
        averages[0].assign(mean * kept + of_batch * (1.0 - kept))
        averages[1].assign(variance * kept + variance_of_batch * (1.0 - kept))
        return ops.cast(y, self.compute_dtype)

    def _fuses(self, inputs: Tensor, mask: Any) -> bool:
        last = self.axis in (-1, len(inputs.shape) - 1)
        return last and mask is None and not self.renorm and not self.synchronized
