"""Residual networks for Keras, with the gradient of each path recorded.

- `layers`, `models`: residual blocks, and the networks of the papers
- `gradients`: the recorder, its log and its alarms
- `data`, `training`, `train`: sources of images, runs, and the command line
- `tensorboard`, `report`: the page Gradient Flow, and reports of finished runs
- `files`, `json_files`: paths on disks and object stores, JSON
- `installed`: errors where a package is not installed
- `ranges`: ranges of arguments and fields of a configuration
- `names`, `figure_text`: names in terminals, tables and figures
- `distribution`, `accumulator`: the process that writes; sums over replicas
- `updates`: the loss scale of an optimizer, the batches of an update, and those applied
- `keras_internals`: private names of Keras and TensorFlow
"""

import importlib
from typing import Any

try:
    import keras as _keras  # noqa: F401
except ImportError as error:
    if error.name not in ("jax", "tensorflow", "torch"):
        raise
    raise ImportError(
        f"Keras cannot import its backend {error.name!r}. Install it with pip install "
        f"'reszoo[{error.name}]', or set the environment variable KERAS_BACKEND to one that is "
        "installed: jax, tensorflow or torch."
    ) from error

from reszoo.layers import AveragePool as AveragePool
from reszoo.layers import BasicBranch as BasicBranch
from reszoo.layers import BottleneckBranch as BottleneckBranch
from reszoo.layers import Chain as Chain
from reszoo.layers import ConstantScale as ConstantScale
from reszoo.layers import Convolution as Convolution
from reszoo.layers import Coupling as Coupling
from reszoo.layers import DropPath as DropPath
from reszoo.layers import ExclusiveGatedBlock as ExclusiveGatedBlock
from reszoo.layers import Gate as Gate
from reszoo.layers import GatedShortcut as GatedShortcut
from reszoo.layers import GradientScale as GradientScale
from reszoo.layers import GroupNorm as GroupNorm
from reszoo.layers import LearnedScale as LearnedScale
from reszoo.layers import MaxPool as MaxPool
from reszoo.layers import ProjectionShortcut as ProjectionShortcut
from reszoo.layers import ResidualBlock as ResidualBlock
from reszoo.layers import ReversibleBlock as ReversibleBlock
from reszoo.layers import ReversibleChain as ReversibleChain
from reszoo.layers import SqueezeExcitation as SqueezeExcitation
from reszoo.layers import StopGradient as StopGradient
from reszoo.layers import StopGradSkip as StopGradSkip
from reszoo.layers import ZeroPadShortcut as ZeroPadShortcut
from reszoo.layers import ZeroShortcut as ZeroShortcut
from reszoo.version import __version__ as __version__


def __getattr__(name: str) -> Any:
    # Importing the layers must stay quick.
    if name == "GradientRecorder":
        return importlib.import_module("reszoo.gradients").GradientRecorder
    if name in ("gradients", "models"):
        return importlib.import_module(f"reszoo.{name}")
    models = importlib.import_module("reszoo.models")
    if not name.startswith("_") and hasattr(models, name):
        return getattr(models, name)
    raise AttributeError(f"module 'reszoo' has no attribute {name!r}")
