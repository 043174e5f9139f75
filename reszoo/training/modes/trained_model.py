"""The trained model of a run, loaded and checked."""

import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from reszoo.files import StoredPath, as_path
from reszoo.models.untrusted_files import check_keras_file
from reszoo.models.weight_files import reason_of
from reszoo.training.data_description import DataDescription
from reszoo.training.workdir import MODEL_FILE


def load_model(workdir: str | os.PathLike) -> keras.Model:
    """Returns the trained model of a run.

    Raises:
        ValueError: If there is no model, it cannot be loaded, or a weight is not finite.
    """
    path = as_path(workdir) / MODEL_FILE
    if not path.exists():
        raise ValueError(f"There is no {path}. Train first, with --mode=train.")
    try:
        if not isinstance(path, StoredPath):
            check_keras_file(path)
        model: Any = keras.models.load_model(str(path))
    except Exception as error:  # a layer of the file can raise any
        raise _broken(f"{path} cannot be loaded: {reason_of(error).rstrip('.')}") from error
    for weight in model.weights:
        values: Any = keras.ops.convert_to_numpy(weight)
        if not np.isfinite(values).all():
            raise _broken(f"The weight {weight.path!r} in {path} is not finite")
    return model


def check_fits(
    model: keras.Model, description: DataDescription, workdir: str | os.PathLike
) -> None:
    """Checks that a model takes the images of a run and has a logit for each class.

    Raises:
        ValueError: If it does not.
    """
    taken, given = _shapes(model.inputs), (None, *description.image_shape)
    answers, wanted = _shapes(model.outputs), (None, len(description.class_names))
    if not (_fit(taken, given) and _fit(answers, wanted)):
        raise ValueError(
            f"The model {as_path(workdir) / MODEL_FILE} takes {taken} and returns {answers}, but "
            f"the run's data are images of {description.image_shape} and {wanted[1]} classes. Give "
            "the configuration that it was trained with."
        )


def _shapes(tensors: Sequence[keras.KerasTensor] | None) -> list[tuple]:
    return [tuple(tensor.shape) for tensor in tensors or ()]


def _fit(shapes: Sequence[tuple], wanted: tuple) -> bool:
    return (
        len(shapes) == 1
        and len(shapes[0]) == len(wanted)
        and all(
            None in sizes or sizes[0] == sizes[1] for sizes in zip(shapes[0], wanted, strict=True)
        )
    )


def _broken(reason: str) -> ValueError:
    return ValueError(
        f"{reason}. Restore it, or delete it and start the run again: it is then written from the "
        "last checkpoint."
    )
