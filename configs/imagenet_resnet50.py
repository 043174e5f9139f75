"""ResNet-50 on ImageNet in 90 epochs, by the recipe of TensorFlow's Model Garden.

    python train.py --config=configs/imagenet_resnet50.py --workdir=runs/imagenet_resnet50

Not run here. Model Garden publishes 76.1% top-1 and 92.9% top-5 for it (official/vision,
MODEL_GARDEN.md; configs/experiments/image_classification/imagenet_resnet50_tpu.yaml): batches of
4,096; a rate of 1.6, divided by 10 after 30, 60 and 80 epochs; 5 epochs of warmup; label smoothing
0.1; weight decay 1e-4; bfloat16. For fewer devices give a smaller batch and rate,
`--config.batch_size=256 --config.optimizer.learning_rate=0.1`, and boundaries to match.

Differences: momentum is Nesterov's, the labels are 1,000 rather than 1,001, and weight decay is
decoupled and leaves biases, scales and offsets alone: an L2 penalty of 1e-4 under a momentum of 0.9
is a decay of 1e-4 / (1 - 0.9) = 1e-3.

The data set must be on disk, either prepared by TensorFlow Datasets (its archives go where
https://www.tensorflow.org/datasets/catalog/imagenet2012 says), or as TFRecord files of Model
Garden: `--config.data.name=tfrecord:gs://BUCKET/imagenet`.
"""

from ml_collections import ConfigDict

STEPS_PER_EPOCH = 1_281_167 // 4096


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

    config.augmentation = ConfigDict()
    config.augmentation.label_smoothing = 0.1

    config.model = ConfigDict()
    config.model.name = "resnet50"

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 1.6
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-3
    config.optimizer.warmup_epochs = 5.0

    config.schedule = ConfigDict()
    config.schedule.name = "step"
    config.schedule.boundaries = tuple(epoch * STEPS_PER_EPOCH for epoch in (30, 60, 80))

    config.recording = ConfigDict()
    config.recording.every_steps = 100

    config.strategy = "auto"
    config.epochs = 90
    config.batch_size = 4096
    config.seed = 0
    config.dtype = "mixed_bfloat16"
    config.jit_compile = False
    return config
