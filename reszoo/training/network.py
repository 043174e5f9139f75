"""The network of a run, from its configuration, with its normalization and its first weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from reszoo.data import Pipeline
from reszoo.models import create_model, freeze_backbone, load_weights


def create_network(config: ConfigDict, pipeline: Pipeline) -> keras.Model:
    """Returns the model of a run, not compiled.

    Args:
        config: The configuration, complete.
        pipeline: The batches, whose images and classes the model takes.

    Returns:
        A model of logits.

    Raises:
        ValueError: If the model is unknown, or its weights or the normalization do not fit.
    """
    options = config.model.to_dict()
    weights, frozen = options.pop("weights"), options.pop("frozen")
    model = _created(options.pop("name"), options, pipeline)
    model = with_normalization(model, config.data.mean, config.data.std)
    if weights:
        load_weights(model, weights)
    if frozen:
        freeze_backbone(model)
    return model


def _created(name: str, options: Mapping[str, Any], pipeline: Pipeline) -> keras.Model:
    shape = pipeline.input_shape
    try:
        return create_model(
            name, num_classes=pipeline.source.num_classes, input_shape=shape, **options
        )
    except (TypeError, ValueError, tf.errors.OpError) as error:
        reason = str(error).strip().splitlines()[0]
        sizes = " (None where training and test images differ in size)" * (None in shape)
        raise ValueError(
            f"The model {name!r} cannot be made for images of {shape}{sizes}: {reason}"
        ) from error


def with_normalization(
    model: keras.Model, mean: Sequence[float], std: Sequence[float]
) -> keras.Model:
    """Returns a new model that normalizes its images first: `(image - mean) / std`.

    Normalization is a part of the model rather than of the pipeline, so that a saved or exported
    model takes images in `[0, 1]`.

    Args:
        model: A functional model of images.
        mean: Mean of each channel; if empty, the model itself is returned.
        std: Standard deviation of each channel.

    Raises:
        ValueError: If `mean` or `std` does not have one number for each channel, or a `std` is not
            above zero.

    Example:

    >>> from reszoo import ResNet18
    >>> normalizing = with_normalization(ResNet18(width=8), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))
    >>> [layer.name for layer in normalizing.layers][:3]
    ['images', 'normalization', 'stem']
    """
    if not mean and not std:
        return model
    channels = model.input_shape[-1]
    if not len(mean) == len(std) == channels or not all(value > 0 for value in std):
        raise ValueError(
            f"data.mean and data.std must be {channels} numbers each, one a channel, and data.std "
            f"above zero, but got {tuple(mean)} and {tuple(std)}."
        )
    raw: Any = model.input
    images = keras.Input(model.input_shape[1:], dtype=raw.dtype, name="images")
    offset: Any = [-middle / value for middle, value in zip(mean, std, strict=True)]
    # In float32 also under mixed precision: pixels have more digits than bfloat16.
    normalized = keras.layers.Rescaling(
        [1 / value for value in std],
        offset,
        dtype="float32",
        name="normalization",
    )(images)

    def call(layer: keras.Layer, *inputs: Any, **options: Any) -> Any:
        given = [normalized if tensor is images else tensor for tensor in inputs]
        return layer(*given, **options)

    return keras.models.clone_model(model, input_tensors=images, call_function=call)
