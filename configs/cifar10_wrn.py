"""WRN-28-10 on CIFAR-10, as Zagoruyko and Komodakis 2016 trained it; downloads the data set.

    python train.py --config=configs/cifar10_wrn.py --workdir=runs/cifar10_wrn

Not run here. Published test error: 4.00% without dropout, the median of five runs (Zagoruyko and
Komodakis 2016).

The paper's recipe (section 3): batches of 128; Nesterov momentum; a rate of 0.1, divided by 5 after
60, 120 and 160 of 200 epochs; weight decay 5e-4; flips, and crops of images padded by 4 pixels;
channels normalized by mean and deviation. Differences: padding is black rather than reflected,
and weight decay is decoupled and leaves scales and offsets alone: an L2 penalty of 5e-4
under a momentum of 0.9 is a decay of 5e-4 / (1 - 0.9) = 5e-3.
"""

from ml_collections import ConfigDict

STEPS_PER_EPOCH = 50_000 // 128


def get_config() -> ConfigDict:
    """Returns the configuration of the run."""
    config = ConfigDict()

    config.data = ConfigDict()
    config.data.name = "tfds:cifar10"
    config.data.shift_pixels = 4
    config.data.flip = True
    config.data.mean = (0.4914, 0.4822, 0.4465)  # of CIFAR-10's training images
    config.data.std = (0.2470, 0.2435, 0.2616)

    config.model = ConfigDict()
    config.model.name = "wide_resnet28_10"

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-3

    config.schedule = ConfigDict()
    config.schedule.name = "step"
    config.schedule.boundaries = tuple(epoch * STEPS_PER_EPOCH for epoch in (60, 120, 160))
    config.schedule.factor = 0.2

    config.recording = ConfigDict()
    config.recording.every_steps = 100

    config.strategy = "auto"
    config.epochs = 200
    config.batch_size = 128
    config.seed = 0
    config.dtype = "float32"
    config.jit_compile = False
    return config
