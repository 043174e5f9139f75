"""Keras finds the layers of this package in files as soon as it is imported."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

BACKENDS = ("jax", "tensorflow", "torch")


class _KerasFinder(MetaPathFinder):
    """Finds Keras as it is found without this, and imports the layers after it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "keras":
            return None
        sys.meta_path.remove(self)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None:
            loader: Any = spec.loader
            own = loader.exec_module
            loader.exec_module = lambda module: _import(module, own)
        return spec


def _import(module: ModuleType, own: Any) -> None:
    try:
        own(module)
    except ImportError as error:
        if error.name not in BACKENDS:
            raise
        raise ImportError(
            f"Keras cannot import its backend {error.name!r}. Install it with pip install "
            f"'reszoo[{error.name}]', or set the environment variable KERAS_BACKEND to one that is "
            "installed: jax, tensorflow or torch."
        ) from error
    if module.__name__ == "keras":
        importlib.import_module("reszoo.layers")


def register() -> None:
    """Registers the layers with Keras: now if it is imported, otherwise once it is.

    So nothing that only reads a log imports Keras, and `keras.models.load_model` needs no more than
    `import reszoo`, before Keras or after it. Where Keras cannot import its backend the error says
    what to install.
    """
    if "keras" in sys.modules:
        importlib.import_module("reszoo.layers")
    else:
        sys.meta_path.insert(0, _KerasFinder())
