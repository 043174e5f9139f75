"""ResNet-20, 32, 44, 56 or 110 on CIFAR-10, as in He et al. 2015; downloads the data set.

    python train.py --config=configs/cifar10_resnet.py:56 --workdir=runs/cifar10_resnet56

The number after the colon is the depth; 20 without it. Not run here. Published test errors (He et
al. 2015, section 4.2, table 6): ResNet-20 8.75%, 32 7.51%, 44 7.17%, 56 6.97%, 110 6.43% (the best
of five runs; 6.61% in the mean).

The paper's recipe: batches of 128; a rate of 0.1, divided by 10 after 32,000 and 48,000 of 64,000
steps; 4 pixels of padding, crops and flips; weight decay 1e-4; shortcuts without parameters.
Differences from the paper:

- 64,350 steps are trained, which are 165 whole epochs;
- the mean of each channel is subtracted, where the paper subtracts that of each pixel;
- momentum is Nesterov's, and the last batch of an epoch, of 80 images, is left out;
- weight decay leaves biases, scales and offsets alone. The paper's is an L2 penalty, here it is
  decoupled: a penalty of 1e-4 under a momentum of 0.9 is a decay of 1e-4 / (1 - 0.9) = 1e-3;
- ResNet-110 warms up linearly for one epoch (390 steps), where the paper trains at 0.01 until the
  training error is below 80%, for about 400 steps.
"""

from ml_collections import ConfigDict

STEPS_PER_EPOCH = 50_000 // 128
DEPTHS = (20, 32, 44, 56, 110)


def get_config(depth: str = "20") -> ConfigDict:
    """Returns the configuration of the run.

    Args:
        depth: Number of layers, as a string.
    """
    if depth not in map(str, DEPTHS):
        depths = ", ".join(map(str, DEPTHS))
        raise ValueError(f"The depth must be one of {depths}, but got {depth!r}.")
    config = ConfigDict()

    config.data = ConfigDict()
    config.data.name = "tfds:cifar10"
    config.data.shift_pixels = 4
    config.data.flip = True
    config.data.mean = (0.4914, 0.4822, 0.4465)  # of CIFAR-10's training images
    config.data.std = (1.0, 1.0, 1.0)  # the paper does not divide

    config.model = ConfigDict()
    config.model.name = f"resnet{depth}"

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-3
    config.optimizer.warmup_epochs = 1.0 if depth == "110" else 0.0

    config.schedule = ConfigDict()
    config.schedule.name = "step"
    config.schedule.boundaries = (32_000, 48_000)

    config.recording = ConfigDict()
    config.recording.every_steps = 100

    config.strategy = "auto"
    config.epochs = -(-64_000 // STEPS_PER_EPOCH)
    config.batch_size = 128
    config.seed = 0
    config.dtype = "float32"
    config.jit_compile = False
    return config
