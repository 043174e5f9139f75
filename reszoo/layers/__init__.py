"""Layers that assemble into residual networks, written with `keras` and `keras.ops` alone."""

from reszoo.layers.branches import BasicBranch as BasicBranch
from reszoo.layers.branches import BottleneckBranch as BottleneckBranch
from reszoo.layers.residual_block import ResidualBlock as ResidualBlock
from reszoo.layers.shortcuts import ProjectionShortcut as ProjectionShortcut
from reszoo.layers.shortcuts import StopGradSkip as StopGradSkip
from reszoo.layers.shortcuts import ZeroPadShortcut as ZeroPadShortcut
