"""Residual and plain networks of several studies, on digits or CIFAR-10, run block by block."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from reszoo.data import Pipeline
from reszoo.layers import ResidualBlock, ZeroPadShortcut
from reszoo.studies import recipes
from reszoo.studies.recipes import blocks_of
from reszoo.studies.trained_cell import TrainedRun, configuration

# Options of the model that make a kind of network. All but the plain one have shortcuts without
# parameters, so that the kinds have equally many.
KINDS_OF_NETWORKS: dict[str, dict[str, Any]] = {
    "plain": {"shortcut": "none"},
    "residual": {"shortcut": "zero_pad"},
    "stop-gradient skip": {"shortcut": "zero_pad", "gate": "stop_skip"},
}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def on_digits(
    kind: str, depth: int, seed: int, epochs: int, norm: str | None = "batch"
) -> ConfigDict:
    """Returns the configuration of a training on scikit-learn's digits, 8x8 pixels, width 8.

    Args:
        kind: A key of `KINDS_OF_NETWORKS`.
        depth: Number of layers, `6 n + 2`.
        seed: Seed of the weights and of the order of the images.
        epochs: Number of epochs.
        norm: `"batch"`, or `None` for no normalization, which is trained at a tenth of the rate.
    """
    fields = recipes.on_digits(epochs, seed) | _model(kind, depth, norm)
    return configuration(
        fields
        | {
            "data.shift_pixels": 1,
            "model.width": 8,
            "optimizer.weight_decay": 5e-4,
            "recording.every_steps": 0,
            "batch_size": 64,
        }
    )


def on_cifar10(kind: str, depth: int, seed: int, norm: str | None = "batch") -> ConfigDict:
    """Returns the configuration of a training on CIFAR-10, as in `configs/cifar10_resnet.py`.

    Args:
        kind: A key of `KINDS_OF_NETWORKS`.
        depth: Number of layers, `6 n + 2`.
        seed: Seed of the weights and of the order of the images.
        norm: `"batch"`, or `None` for no normalization, which is trained at a tenth of the rate.
    """
    return configuration(recipes.on_cifar10(depth, seed) | _model(kind, depth, norm))


def _model(kind: str, depth: int, norm: str | None) -> dict[str, Any]:
    options = {"name": "resnet20", "blocks": (blocks_of(depth),) * 3, "norm": norm}
    fields = {f"model.{name}": value for name, value in (options | KINDS_OF_NETWORKS[kind]).items()}
    return fields | {"optimizer.learning_rate": 0.1 if norm else 0.01}


def held_out(pipeline: Pipeline, number: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Returns images and labels of the test set.

    Args:
        pipeline: The pipeline of a run.
        number: How many, the first ones; `None` for all.
    """
    images, labels, weights = zip(*pipeline.test_batches().as_numpy_iterator(), strict=True)
    taken = np.concatenate(weights) > 0
    return np.concatenate(images)[taken][:number], np.concatenate(labels)[taken][:number]


def at_blocks(
    model: keras.Model, images: np.ndarray | tf.Tensor, training: bool
) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Runs a network layer by layer.

    Args:
        model: A functional model whose layers are in series.
        images: A batch of its inputs.
        training: Whether as in training; then the averages of normalizations move.

    Returns:
        The input of each residual block and, behind them, the output of the last one; the output
        of the model.
    """
    x, values, after_block = tf.convert_to_tensor(images), [], False
    for layer in model.layers[1:]:
        is_block = isinstance(layer, ResidualBlock)
        if is_block or after_block:
            values.append(x)
        x, after_block = layer(x, training=training), is_block
    return values, x


def without_branch(block: ResidualBlock, x: tf.Tensor) -> tf.Tensor:
    """Returns the input of a block as its output, padded with zeros where the shape changes.

    Args:
        block: A block of a CIFAR network, with a shortcut or without.
        x: Its input.
    """
    before: Any = tuple(x.shape)
    shape: Any = block.compute_output_shape(before)
    if shape == before:
        return x
    return ZeroPadShortcut(shape[-1], strides=-(-before[1] // shape[1]))(x)


def set_first_weights(trained: TrainedRun) -> None:
    """Sets a trained model's weights to their values before the first step.

    Args:
        trained: The training.
    """
    for weight in trained.run.model.weights:
        weight.assign(trained.first_weights[weight.path])
