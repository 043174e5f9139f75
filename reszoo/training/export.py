"""Exports the model of a finished run for use without Keras."""

from pathlib import Path

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from reszoo.training.finished import load_model
from reszoo.training.run import create_pipeline

EXPORT_DIRECTORY = "export"


def export_run(config: ConfigDict, workdir: str | Path) -> Path:
    """Exports the model of a run as a SavedModel, after a check that it answers the same.

    Args:
        config: The configuration of the run.
        workdir: Its work directory; the SavedModel is `export` in it.

    Returns:
        The directory of the SavedModel.

    Raises:
        ValueError: If there is no model, or the exported one answers differently.
    """
    model = load_model(workdir)
    directory = Path(workdir) / EXPORT_DIRECTORY
    model.export(directory, verbose=False)
    images, *_ = next(iter(create_pipeline(config).test_batches()))
    exported = tf.saved_model.load(directory)  # its function does not keep its variables alive
    found, expected = exported.serve(images), model(images, training=False)
    difference = float(tf.reduce_max(tf.abs(tf.cast(found - expected, tf.float32))))
    if not np.allclose(found, expected, rtol=1e-4, atol=1e-4):
        raise ValueError(
            f"The exported model's logits differ by up to {difference}; do not use it."
        )
    print(f"The SavedModel is {directory}; its logits differ by {difference:.1g} at most.")
    return directory
