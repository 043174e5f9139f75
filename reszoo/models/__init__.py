"""Residual networks assembled from `reszoo.layers`.

- `table`: the networks of the papers, one line each; new ones belong there
- `resnet`: `ResNet`, the description that all convolutional ones share
- `revnet`: `RevNet`, the description of reversible networks
- `mlp`: networks of dense layers
- `options`: groups of options, any of which a call may change
- `stages`: the stems, and the filters, stride and dilation of each block
- `branches`, `shortcuts`, `gates`: the two paths of each block and their gates, by name
- `catalog`: models by name
- `folding`: batch normalizations folded into the convolutions before them
- `places`, `copying`: which layer follows which, and copies of a network without some of them
- `weights`: loading, saving, freezing
- `weight_files`: weights from files, hubs and other libraries' models
- `weight_names`: names of weights in other libraries
- `onnx_files`: weights in ONNX files, by their places in the graph
- `untrusted_files`: checks of a file before a library reads it
"""

from reszoo.models.catalog import create_model as create_model
from reszoo.models.catalog import list_models as list_models
from reszoo.models.folding import fold_normalization as fold_normalization
from reszoo.models.mlp import ResidualMLP as ResidualMLP
from reszoo.models.resnet import ResNet as ResNet
from reszoo.models.revnet import RevNet as RevNet
from reszoo.models.table import Plain18 as Plain18
from reszoo.models.table import Plain20 as Plain20
from reszoo.models.table import Plain34 as Plain34
from reszoo.models.table import Plain56 as Plain56
from reszoo.models.table import Plain110 as Plain110
from reszoo.models.table import ResNet18 as ResNet18
from reszoo.models.table import ResNet18D as ResNet18D
from reszoo.models.table import ResNet18V2 as ResNet18V2
from reszoo.models.table import ResNet18x1D as ResNet18x1D
from reszoo.models.table import ResNet18x3D as ResNet18x3D
from reszoo.models.table import ResNet20 as ResNet20
from reszoo.models.table import ResNet32 as ResNet32
from reszoo.models.table import ResNet34 as ResNet34
from reszoo.models.table import ResNet34D as ResNet34D
from reszoo.models.table import ResNet34V2 as ResNet34V2
from reszoo.models.table import ResNet34x1D as ResNet34x1D
from reszoo.models.table import ResNet34x3D as ResNet34x3D
from reszoo.models.table import ResNet44 as ResNet44
from reszoo.models.table import ResNet50 as ResNet50
from reszoo.models.table import ResNet50D as ResNet50D
from reszoo.models.table import ResNet50V1 as ResNet50V1
from reszoo.models.table import ResNet50V2 as ResNet50V2
from reszoo.models.table import ResNet50V2Keras as ResNet50V2Keras
from reszoo.models.table import ResNet50x1D as ResNet50x1D
from reszoo.models.table import ResNet50x3D as ResNet50x3D
from reszoo.models.table import ResNet56 as ResNet56
from reszoo.models.table import ResNet101 as ResNet101
from reszoo.models.table import ResNet101D as ResNet101D
from reszoo.models.table import ResNet101V1 as ResNet101V1
from reszoo.models.table import ResNet101V2 as ResNet101V2
from reszoo.models.table import ResNet101V2Keras as ResNet101V2Keras
from reszoo.models.table import ResNet101x1D as ResNet101x1D
from reszoo.models.table import ResNet101x3D as ResNet101x3D
from reszoo.models.table import ResNet110 as ResNet110
from reszoo.models.table import ResNet110V2 as ResNet110V2
from reszoo.models.table import ResNet152 as ResNet152
from reszoo.models.table import ResNet152D as ResNet152D
from reszoo.models.table import ResNet152V1 as ResNet152V1
from reszoo.models.table import ResNet152V2 as ResNet152V2
from reszoo.models.table import ResNet152V2Keras as ResNet152V2Keras
from reszoo.models.table import ResNet152x1D as ResNet152x1D
from reszoo.models.table import ResNet152x3D as ResNet152x3D
from reszoo.models.table import ResNet164V2 as ResNet164V2
from reszoo.models.table import ResNet1001V2 as ResNet1001V2
from reszoo.models.table import ResNeXt50x32x4d as ResNeXt50x32x4d
from reszoo.models.table import ResNeXt101x32x8d as ResNeXt101x32x8d
from reszoo.models.table import RevNet38 as RevNet38
from reszoo.models.table import RevNet110 as RevNet110
from reszoo.models.table import RevNet164 as RevNet164
from reszoo.models.table import SEResNet50 as SEResNet50
from reszoo.models.table import WideResNet16x8 as WideResNet16x8
from reszoo.models.table import WideResNet28x10 as WideResNet28x10
from reszoo.models.table import WideResNet50x2 as WideResNet50x2
from reszoo.models.table import WideResNet101x2 as WideResNet101x2
from reszoo.models.weight_names import Scheme as Scheme
from reszoo.models.weight_names import named_weights as named_weights
from reszoo.models.weights import freeze_backbone as freeze_backbone
from reszoo.models.weights import load_weights as load_weights
from reszoo.models.weights import save_weights as save_weights
