"""ResNet-18 on ImageNet in 90 epochs, by the recipe of torchvision's references.

    python train.py --config=configs/imagenet_resnet18.py --workdir=runs/imagenet_resnet18

Not run here. torchvision publishes 69.758% top-1 and 89.078% top-5 (its weights IMAGENET1K_V1 of
ResNet-18) for its recipe (references/classification): batches of 256; a rate of 0.1, divided by 10
every 30 of 90 epochs; momentum 0.9; weight decay 1e-4; random-resized crops and flips.

Differences: momentum is Nesterov's, and weight decay is decoupled and leaves scales and offsets
alone: an L2 penalty of 1e-4 under a momentum of 0.9 is a decay of 1e-4 / (1 - 0.9) = 1e-3.
For the source of the data set see `imagenet_resnet50.py`.
"""

from ml_collections import ConfigDict

STEPS_PER_EPOCH = 1_281_167 // 256


def get_config() -> ConfigDict:
    """Returns the configuration of the run."""
    config = ConfigDict()

    config.data = ConfigDict()
    config.data.name = "tfds:imagenet2012:validation"  # or "tfrecord:PATTERN"
    config.data.image_size = 224  # pixels
    config.data.crop = True
    config.data.flip = True
    config.data.mean = (0.485, 0.456, 0.406)  # of ImageNet's training images
    config.data.std = (0.229, 0.224, 0.225)

    config.model = ConfigDict()
    config.model.name = "resnet18"

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-3

    config.schedule = ConfigDict()
    config.schedule.name = "step"
    config.schedule.boundaries = (30 * STEPS_PER_EPOCH, 60 * STEPS_PER_EPOCH)

    config.recording = ConfigDict()
    config.recording.every_steps = 500

    config.strategy = "auto"
    config.epochs = 90
    config.batch_size = 256
    config.seed = 0
    config.dtype = "float32"
    config.jit_compile = False
    return config
