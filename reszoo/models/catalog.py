"""Models by name."""

import difflib
import fnmatch
from typing import Any

import keras

from reszoo.models.resnet import ResNet18, ResNet50

MODELS = {"resnet18": ResNet18, "resnet50": ResNet50}


def list_models(pattern: str = "*") -> list[str]:
    """Returns the names that `create_model` takes.

    Args:
        pattern: Shell wildcards to filter the names with.

    Returns:
        The matching names, sorted.

    Example:

    >>> list_models("resnet*")
    ['resnet18', 'resnet50']
    """
    return fnmatch.filter(sorted(MODELS), pattern)


def create_model(name: str, **options: Any) -> keras.Model:
    """Returns a new model, by its name.

    Args:
        name: A name that `list_models` gives.
        **options: Arguments of the model's own function.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If there is no such model, or it has no such option.

    Example:

    >>> create_model("resnet18", num_classes=10, input_shape=(32, 32, 3), width=8).name
    'resnet18'
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS) or list_models()
        raise ValueError(f"There is no model {name!r}. The nearest: {', '.join(near)}.")
    return MODELS[name](**options)
