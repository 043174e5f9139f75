"""Layers that assemble into residual networks, written with `keras` and `keras.ops` alone."""

from reszoo.layers.branches import BasicBranch as BasicBranch
from reszoo.layers.branches import BottleneckBranch as BottleneckBranch
from reszoo.layers.branches import post_activation as post_activation
from reszoo.layers.branches import pre_activation as pre_activation
from reszoo.layers.chain import Chain as Chain
from reszoo.layers.convolution import Convolution as Convolution
from reszoo.layers.drop_path import DropPath as DropPath
from reszoo.layers.gates import ExclusiveGatedBlock as ExclusiveGatedBlock
from reszoo.layers.gates import Gate as Gate
from reszoo.layers.gates import GatedShortcut as GatedShortcut
from reszoo.layers.gradient_scaling import GradientScale as GradientScale
from reszoo.layers.gradient_scaling import StopGradient as StopGradient
from reszoo.layers.normalization import GroupNorm as GroupNorm
from reszoo.layers.normalization import normalization as normalization
from reszoo.layers.pooling import AveragePool as AveragePool
from reszoo.layers.pooling import MaxPool as MaxPool
from reszoo.layers.residual_block import ResidualBlock as ResidualBlock
from reszoo.layers.scaling import ConstantScale as ConstantScale
from reszoo.layers.scaling import LearnedScale as LearnedScale
from reszoo.layers.shortcuts import ProjectionShortcut as ProjectionShortcut
from reszoo.layers.shortcuts import StopGradSkip as StopGradSkip
from reszoo.layers.shortcuts import ZeroPadShortcut as ZeroPadShortcut
from reszoo.layers.shortcuts import ZeroShortcut as ZeroShortcut
from reszoo.layers.squeeze_excitation import SqueezeExcitation as SqueezeExcitation
