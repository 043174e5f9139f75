"""Models by name."""

import difflib
import fnmatch
from typing import Any

import keras

from reszoo.models.mlp import ResidualMLP
from reszoo.models.options import Description
from reszoo.models.table import RESNETS

MODELS: dict[str, Description] = {**RESNETS, "residual_mlp": ResidualMLP}


def list_models(pattern: str = "*") -> dict[str, str]:
    """Returns the names that `create_model` takes, with descriptions.

    Args:
        pattern: Pattern of the names, with shell wildcards.

    Returns:
        The matching names, sorted, each with a description of one line.

    Example:

    >>> for name, description in list_models("resnet?01").items():
    ...     print(name, "-", description)
    resnet101 - ResNet-101 (v1.5), He et al. 2015
    """
    return {name: MODELS[name].description for name in fnmatch.filter(sorted(MODELS), pattern)}


def create_model(name: str, **options: Any) -> keras.Model:
    """Returns a new model, by its name.

    Args:
        name: A name that `list_models` gives.
        **options: Arguments of the model's own function: for a `ResNet`, any of its fields.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If there is no such model, or it has no such option.

    Example:

    >>> create_model("resnet18", num_classes=10, input_shape=(32, 32, 3), width=8).name
    'resnet18'
    """
    if name not in MODELS:
        near = [*list_models(f"{name}*"), *difflib.get_close_matches(name, MODELS)]
        names = dict.fromkeys(near or list_models())
        raise ValueError(f"There is no model {name!r}. The nearest: {', '.join(names)}.")
    return MODELS[name](**options)
