"""Residual networks for Keras, with the gradient of each path recorded.

- `layers`, `models`: residual blocks, and the networks of the papers
- `gradients`: the recorder, its log and its alarms
- `data`, `training`, `train`: sources of images, runs, and the command line
- `tensorboard`, `report`: the page Gradient Flow, and reports of finished runs
- `files`, `json_files`: paths on disks and object stores, JSON
- `installed`: errors where a package is not installed
- `registration`: the layers registered with Keras as soon as it is imported
- `ranges`, `words`: ranges of arguments and fields of a configuration, and their words
- `names`, `figure_text`: names in terminals, tables and figures
- `distribution`, `accumulator`: the process that writes; sums over replicas
- `updates`: the loss scale of an optimizer, the batches of an update, and those applied
- `keras_internals`: private names of Keras and TensorFlow
"""

import importlib
from typing import TYPE_CHECKING, Any

from reszoo import registration
from reszoo.version import __version__ as __version__

if TYPE_CHECKING:
    from reszoo import gradients as gradients
    from reszoo import layers as layers
    from reszoo import models as models
    from reszoo.gradients import GradientRecorder as GradientRecorder
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

# All are imported when they are first used: reading a log needs neither Keras nor a backend.
__all__ = (
    "AveragePool",
    "BasicBranch",
    "BottleneckBranch",
    "Chain",
    "ConstantScale",
    "Convolution",
    "Coupling",
    "DropPath",
    "ExclusiveGatedBlock",
    "Gate",
    "GatedShortcut",
    "GradientRecorder",
    "GradientScale",
    "GroupNorm",
    "LearnedScale",
    "MaxPool",
    "ProjectionShortcut",
    "ResidualBlock",
    "ReversibleBlock",
    "ReversibleChain",
    "SqueezeExcitation",
    "StopGradSkip",
    "StopGradient",
    "ZeroPadShortcut",
    "ZeroShortcut",
    "gradients",
    "layers",
    "models",
)

registration.register()


def __getattr__(name: str) -> Any:
    if name in ("gradients", "layers", "models"):
        return importlib.import_module(f"reszoo.{name}")
    if name == "GradientRecorder":
        return importlib.import_module("reszoo.gradients").GradientRecorder
    if not name.startswith("_"):
        room = importlib.import_module("reszoo.layers" if name in __all__ else "reszoo.models")
        if hasattr(room, name):
            return getattr(room, name)
    raise AttributeError(f"module 'reszoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
