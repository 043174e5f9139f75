"""Residual networks for Keras and TensorFlow, with the gradient of each path recorded."""

import importlib
from typing import Any

from reszoo.layers import BasicBranch as BasicBranch
from reszoo.layers import BottleneckBranch as BottleneckBranch
from reszoo.layers import ProjectionShortcut as ProjectionShortcut
from reszoo.layers import ResidualBlock as ResidualBlock
from reszoo.layers import StopGradSkip as StopGradSkip
from reszoo.layers import ZeroPadShortcut as ZeroPadShortcut
from reszoo.version import __version__ as __version__


def __getattr__(name: str) -> Any:
    # Recording needs TensorFlow; the layers work on any backend, and import quickly.
    if name == "GradientRecorder":
        return importlib.import_module("reszoo.gradients").GradientRecorder
    if name in ("gradients", "models"):
        return importlib.import_module(f"reszoo.{name}")
    raise AttributeError(f"module 'reszoo' has no attribute {name!r}")
