"""ResNet-18 on CIFAR-10; downloads the data set.

    python train.py --config=configs/cifar10_resnet18.py --workdir=runs/cifar10

Not run here, so neither accuracy nor time is known. The model is that of kuangliu/pytorch-cifar,
whose README gives 93.02% with 350 epochs at the rates 0.1, 0.01 and 0.001 (from epochs 150 and 250
on), which is the schedule here; images are not centred, and momentum is Nesterov's.
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

    config.model = ConfigDict()
    config.model.name = "resnet18"
    config.model.stem = "cifar"
    config.model.width = 64
    config.model.shortcut = "projection"

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-3  # decoupled: a penalty of 5e-4 under this momentum
    config.optimizer.warmup_epochs = 0.0

    config.schedule = ConfigDict()
    config.schedule.name = "step"
    config.schedule.boundaries = (150 * STEPS_PER_EPOCH, 250 * STEPS_PER_EPOCH)

    config.recording = ConfigDict()
    config.recording.every_steps = 100

    config.strategy = "auto"
    config.epochs = 350
    config.batch_size = 128
    config.seed = 0
    config.dtype = "float32"
    config.jit_compile = False
    return config
