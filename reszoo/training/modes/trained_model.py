"""The model of a finished run."""

from pathlib import Path

import keras
import numpy as np

from reszoo.files import as_path, is_stored
from reszoo.models.untrusted_files import check_keras_file
from reszoo.models.weight_files import reason_of
from reszoo.training.data_description import Signature
from reszoo.training.run import MODEL_FILE


def load_model(workdir: str | Path) -> keras.Model:
    """Returns the trained model of a run.

    Args:
        workdir: Its work directory.

    Raises:
        ValueError: If there is none, it cannot be loaded, or a weight is not finite.
    """
    path = as_path(workdir) / MODEL_FILE
    if not path.exists():
        raise ValueError(f"There is no {path}. Train first, with --mode=train.")
    try:
        if not is_stored(path):
            check_keras_file(path)
        model = keras.models.load_model(str(path))
    except Exception as error:  # a layer of the file can raise any
        raise _broken(f"{path} cannot be loaded: {reason_of(error).rstrip('.')}") from error
    for weight in model.weights:
        if not np.isfinite(keras.ops.convert_to_numpy(weight)).all():
            raise _broken(f"The weight {weight.path!r} in {path} is not finite")
    return model


def check_fits(model: keras.Model, signature: Signature, workdir: str | Path) -> None:
    """Checks that a model takes the images of a run and tells its classes apart.

    Args:
        model: The model.
        signature: That of the run's data.
        workdir: The work directory.

    Raises:
        ValueError: If it does not.
    """
    taken, given = _shapes(model.inputs), (None, *signature.image_shape)
    answers, wanted = _shapes(model.outputs), (None, len(signature.class_names))
    if not (_fit(taken, given) and _fit(answers, wanted)):
        raise ValueError(
            f"The model {as_path(workdir) / MODEL_FILE} takes {taken} and returns {answers}, but "
            f"the run's data are images of {signature.image_shape} and {wanted[1]} classes. Give "
            "the configuration that it was trained with."
        )


def _shapes(tensors):
    return [tuple(tensor.shape) for tensor in tensors or ()]


def _fit(shapes, wanted):
    return (
        len(shapes) == 1
        and len(shapes[0]) == len(wanted)
        and all(
            None in sizes or sizes[0] == sizes[1] for sizes in zip(shapes[0], wanted, strict=True)
        )
    )


def _broken(reason):
    return ValueError(
        f"{reason}. Restore it, or delete it and start the run again: it is then written from the "
        "last checkpoint."
    )
