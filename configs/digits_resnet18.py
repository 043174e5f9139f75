"""ResNet-18 on scikit-learn's scanned digits; needs no network.

    python train.py --config=configs/digits_resnet18.py --workdir=runs/digits

Measured with TensorFlow 2.21 on 2 CPU cores, gradients recorded every 10 steps, with
`--config.seed=0`, `1` and `2`: 99.44%, 99.44% and 99.72% of the 360 test images right, 99.54% in
the mean. A run took 64 to 67 seconds of CPU time, start-up included; by the clock 82 to 129
seconds, on a machine that other work kept busy (load 4 to 9).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the configuration of the run."""
    config = ConfigDict()

    config.data = ConfigDict()
    config.data.name = "digits"
    config.data.image_size = 16  # pixels; the scans have 8
    config.data.shift_pixels = 1
    config.data.flip = False  # a mirrored digit is no digit
    config.data.crop = False  # whether photos are cropped, with the options of `crop`
    config.data.mean = ()  # of each channel, subtracted by the model; (): none
    config.data.std = ()  # of each channel, by which the model divides; (): none
    config.data.corrupt_images = 0  # the most unreadable images of a folder or of TFRecord files

    config.crop = ConfigDict()
    config.crop.min_area = 0.08  # share of the image, of a random crop for training
    config.crop.max_ratio = 4 / 3  # of its width to its height
    config.crop.test_share = 0.875  # side of the central crop over the shorter side of a test image
    config.crop.test_image_size = 0  # pixels; 0: the size of training images

    config.augmentation = ConfigDict()  # of the training images; 0: none
    config.augmentation.label_smoothing = 0.0
    config.augmentation.mixup = 0.0
    config.augmentation.cutmix = 0.0
    config.augmentation.rand_augment = 0
    config.augmentation.rand_augment_strength = 0.5  # up to 1, on Keras's scale
    config.augmentation.random_erasing = 0.0

    config.model = ConfigDict()
    config.model.name = "resnet18"
    config.model.stem = "cifar"
    config.model.width = 16
    config.model.shortcut = "projection"
    config.model.weights = ""  # initial weights: any source of `reszoo.load_weights`
    config.model.frozen = False  # whether only the last layer is trained

    config.loss = ConfigDict()
    config.loss.name = "categorical_crossentropy"  # or "binary_crossentropy"
    config.loss.class_weights = ()  # or ("balanced",), or a number for each class
    config.loss.target_threshold = 0.0  # share of a mixed label that counts as 1, for binary

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # or "adamw", "lamb", "muon"
    config.optimizer.learning_rate = 0.1
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 5e-3
    config.optimizer.warmup_epochs = 1.0
    config.optimizer.clip_norm = 0.0  # 0: none
    config.optimizer.ema_momentum = 0.0  # of the averaged weights; 0: none
    config.optimizer.accumulation_steps = 1  # batches per update

    config.schedule = ConfigDict()
    config.schedule.name = "cosine"  # or "polynomial", "step"
    config.schedule.boundaries = ()  # steps, for "step"
    config.schedule.factor = 0.1  # of the rate, at each boundary
    config.schedule.power = 1.0  # for "polynomial"

    config.recording = ConfigDict()
    config.recording.every_steps = 10  # 0: off
    config.recording.statistics = ("paths", "weights")  # other sets: docs/statistics.md
    config.recording.path_lengths = 0  # sets of blocks for each length of a path; 0: none
    config.recording.alarms = ConfigDict()  # limits; 0: none
    config.recording.alarms.nonfinite = True
    config.recording.alarms.vanishing = 1e-3  # the first block's gradient over the last block's
    config.recording.alarms.exploding = 1e3
    config.recording.alarms.dead_branch = 3  # recorded steps in a row
    config.recording.alarms.saturated_scale = 0.0  # share of the scales that are next to zero

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 0  # besides one after every epoch; 0: none
    config.checkpoint.keep = 2

    config.best = ConfigDict()
    config.best.figure = "val_accuracy"  # or "val_loss"
    config.best.patience = 0  # epochs without improvement before the run ends; 0: no limit

    config.tensorboard = ConfigDict()  # besides the metrics
    config.tensorboard.examples = True  # training images, as the model's input
    config.tensorboard.graph = True
    config.tensorboard.confusion_every_epochs = 0  # besides the one at the end; 0: none
    config.tensorboard.profile_steps = ()  # first step, and the step after the last; (): none

    config.nonfinite = ConfigDict()  # when the loss is not a finite number
    config.nonfinite.action = "stop"  # or "roll_back" to the last checkpoint
    config.nonfinite.rate_factor = 0.5  # of the learning rate, after a roll-back
    config.nonfinite.roll_backs = 3  # the most; the next one stops the run

    config.loggers = ()  # or ("wandb",), ("mlflow",), ("wandb", "mlflow")
    config.strategy = "auto"  # or "cpu", "gpu", "mirrored", "multi_worker", "tpu"
    config.steps_per_loop = 1  # the most steps before the devices return to the host
    config.epochs = 12
    config.batch_size = 64
    config.seed = 0
    config.dtype = "float32"  # or "mixed_bfloat16", "mixed_float16"
    config.jit_compile = False
    return config
