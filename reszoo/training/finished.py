"""The model of a finished run."""

from pathlib import Path

import keras

from reszoo.gradients.storage import as_path
from reszoo.training.run import MODEL_FILE


def load_model(workdir: str | Path) -> keras.Model:
    """Returns the trained model of a run.

    Args:
        workdir: Its work directory.

    Raises:
        ValueError: If there is none.
    """
    path = as_path(workdir) / MODEL_FILE
    if not path.exists():
        raise ValueError(f"There is no {path}. Train first, with --mode=train.")
    return keras.models.load_model(str(path))
