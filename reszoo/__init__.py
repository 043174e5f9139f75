"""Residual networks for Keras and TensorFlow, with the gradient of each path recorded."""

from reszoo.layers import BasicBranch as BasicBranch
from reszoo.layers import BottleneckBranch as BottleneckBranch
from reszoo.layers import ProjectionShortcut as ProjectionShortcut
from reszoo.layers import ResidualBlock as ResidualBlock
from reszoo.layers import StopGradSkip as StopGradSkip
from reszoo.layers import ZeroPadShortcut as ZeroPadShortcut
from reszoo.version import __version__ as __version__
