"""ResNet-50 on ImageNet in 100 epochs, by procedure A3 of "ResNet strikes back".

    python train.py --config=configs/imagenet_resnet50_rsb_a3.py --workdir=runs/imagenet_rsb_a3

Not run here. Published: 78.1% top-1 (Wightman et al. 2021). The procedure: LAMB at a rate of 0.008
with weight decay 0.02; batches of 2,048; 5 epochs of warmup, then cosine; binary cross entropy;
mixup 0.1 and CutMix 1.0, one of them per batch; RandAugment of 2 operations, magnitude 6; images
of 160 pixels, tested at 224 with 0.95 of the shorter side.

Differences: RandAugment is Keras's, whose strength is on another scale: 0.2 rotates images by up to
72 degrees (magnitude 6: by 18), shears and shifts them by up to 0.2 (by 0.18 and 0.27) and
changes their colours by up to 0.2 (by 0.54). Images are resized bilinearly rather than bicubically,
and every class with a share of a mixed label above 0.2 counts as 1.
For the source of the data set see `imagenet_resnet50.py`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the configuration of the run."""
    config = ConfigDict()

    config.data = ConfigDict()
    config.data.name = "tfds:imagenet2012:validation"  # or "tfrecord:PATTERN"
    config.data.image_size = 160  # pixels
    config.data.crop = True
    config.data.flip = True
    config.data.mean = (0.485, 0.456, 0.406)  # of ImageNet's training images
    config.data.std = (0.229, 0.224, 0.225)

    config.crop = ConfigDict()
    config.crop.test_share = 0.95
    config.crop.test_image_size = 224  # pixels

    config.augmentation = ConfigDict()
    config.augmentation.mixup = 0.1
    config.augmentation.cutmix = 1.0
    config.augmentation.rand_augment = 2
    config.augmentation.rand_augment_strength = 0.2

    config.model = ConfigDict()
    config.model.name = "resnet50"
    config.model.zero_init_last_scale = True  # as timm does

    config.loss = ConfigDict()
    config.loss.name = "binary_crossentropy"
    config.loss.target_threshold = 0.2

    config.optimizer = ConfigDict()
    config.optimizer.name = "lamb"
    config.optimizer.learning_rate = 0.008
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 0.02
    config.optimizer.warmup_epochs = 5.0

    config.schedule = ConfigDict()
    config.schedule.name = "cosine"

    config.recording = ConfigDict()
    config.recording.every_steps = 100

    config.strategy = "auto"
    config.epochs = 100
    config.batch_size = 2048
    config.seed = 0
    config.dtype = "mixed_bfloat16"
    config.jit_compile = False
    return config
