"""Checks of a model, its data and its devices, made before the training loop runs."""

import keras
import tensorflow as tf

from reszoo.data import Pipeline
from reszoo.updates import accumulation_steps


def check_ready(
    model: keras.Model, batch_size: int, strategy: tf.distribute.Strategy, jit_compile: bool
) -> None:
    """Checks that a strategy can run the steps of a model.

    Args:
        model: A model of logits.
        batch_size: Number of images in a batch, over all replicas.
        strategy: The devices to run on.
        jit_compile: Whether the steps are compiled with XLA.

    Raises:
        ValueError: If the strategy cannot run them.
    """
    if not getattr(model, "optimizer", None) or not model.optimizer.built:
        raise ValueError(
            "The model has no optimizer that is built. Call model.compile(optimizer) and "
            "model.optimizer.build(model.trainable_variables) under the strategy's scope."
        )
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"A batch of {batch_size} images cannot be split evenly over {replicas} devices. Give "
            f"a batch_size that is a multiple of {replicas}."
        )
    if jit_compile and replicas > 1:
        raise ValueError(
            f"XLA cannot compile a step that is spread over {replicas} devices. Set "
            "jit_compile=False, or use one device."
        )
    if replicas > 1 and accumulation_steps(model.optimizer) > 1:
        raise ValueError(
            f"Gradients cannot be accumulated over {replicas} devices: Keras cannot add them "
            "up there. Set optimizer.accumulation_steps=1, or use one device."
        )


def check_takes(model: keras.Model, pipeline: Pipeline) -> None:
    """Checks that a model takes the images of a pipeline and has a logit for each class.

    Args:
        model: A model of logits.
        pipeline: The batches for training and testing.

    Raises:
        ValueError: If images or classes do not fit the model.
    """
    for split, shape in (("train", pipeline.image_shape), ("test", pipeline.test_image_shape)):
        if not tf.TensorShape(model.input_shape[1:]).is_compatible_with(shape):
            raise ValueError(
                f"The model takes images of the shape {model.input_shape[1:]} (height, width, "
                f"channels), but the {split} images have {shape}."
            )
    classes, names = model.output_shape[-1], pipeline.source.class_names
    if classes != len(names):
        raise ValueError(
            f"The model has {classes} classes, but the data set has {len(names)} "
            f"({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})."
        )
