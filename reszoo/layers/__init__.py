"""Layers that assemble into residual networks.

They are written with `keras` and `keras.ops`, so that they run on every Keras backend; code for a
single backend is in `fused_normalization`, `recomputation` and `cpu_kernels`. Every layer
takes `name`, `dtype` and `trainable` as any Keras layer does, and layers passed to it keep their
own.

- `residual_block`: the block: a fork, two paths and a merge
- `reversible_block`: blocks whose input is recomputed from their output, and chains of them
- `coupling`: branches that read one half of the channels and write the other
- `branches`: the branches of He et al., basic and bottleneck, and the order of their layers
- `shortcuts`: projection, zero padding, no shortcut, and one that stops the gradient
- `gates`: gates of He et al. on the shortcut or on both paths
- `chain`: layers applied one after the other
- `convolution`, `normalization`, `batch_normalization`, `pooling`: as in the papers and torchvision
- `squeeze_excitation`, `drop_path`, `scaling`: layers for the end of a branch
- `gradient_scaling`: layers that change only the gradient
- `configured`, `stateless`: how layers are saved, and called without state
- `shapes`: channels-last shapes, and the checks of sizes
- `symbolic`: weights and output shapes of layers that do not define them
- `remat`: paths of a block that are run again in the backward pass
- `recomputation`: gradients that recompute activations, for each backend
- `fused_normalization`: batch normalization by a kernel of TensorFlow or PyTorch
- `cpu_kernels`: convolutions that are faster on a CPU
"""

from reszoo.layers.batch_normalization import BatchNormalization as BatchNormalization
from reszoo.layers.branches import BasicBranch as BasicBranch
from reszoo.layers.branches import BottleneckBranch as BottleneckBranch
from reszoo.layers.branches import post_activation as post_activation
from reszoo.layers.branches import pre_activation as pre_activation
from reszoo.layers.chain import Chain as Chain
from reszoo.layers.convolution import Convolution as Convolution
from reszoo.layers.convolution import standardized as standardized
from reszoo.layers.coupling import Coupling as Coupling
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
from reszoo.layers.recomputation import stored_activations as stored_activations
from reszoo.layers.residual_block import ResidualBlock as ResidualBlock
from reszoo.layers.reversible_block import ReversibleBlock as ReversibleBlock
from reszoo.layers.reversible_block import ReversibleChain as ReversibleChain
from reszoo.layers.scaling import ConstantScale as ConstantScale
from reszoo.layers.scaling import LearnedScale as LearnedScale
from reszoo.layers.shortcuts import ProjectionShortcut as ProjectionShortcut
from reszoo.layers.shortcuts import StopGradSkip as StopGradSkip
from reszoo.layers.shortcuts import ZeroPadShortcut as ZeroPadShortcut
from reszoo.layers.shortcuts import ZeroShortcut as ZeroShortcut
from reszoo.layers.squeeze_excitation import SqueezeExcitation as SqueezeExcitation
