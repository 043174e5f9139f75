r"""Fine-tuning of an ImageNet ResNet-50 on a folder of photos, one folder per class.

    pip install -e ".[weights]"
    python train.py --config=configs/finetune_folder.py --workdir=runs/photos \
        --config.data.name=folder:PATH

Not run here: the weights have to be downloaded. tests/training/test_run.py does the same with the
weights of a small network in a file.

The last layer is new, for the folder's classes. `--config.model.frozen=True` trains that layer
alone, which is faster and often sufficient for a few hundred photos; the rate may then be 0.1. For
classes of different sizes, `config.loss.class_weights = ("balanced",)` gives them equal weight.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the configuration of the run."""
    config = ConfigDict()

    config.data = ConfigDict()
    config.data.name = "folder:photos"
    config.data.image_size = 224  # pixels
    config.data.crop = True
    config.data.flip = True
    config.data.mean = (0.485, 0.456, 0.406)  # the weights were trained with these
    config.data.std = (0.229, 0.224, 0.225)
    config.data.corrupt_images = 0

    config.crop = ConfigDict()
    config.crop.min_area = 0.35  # of a photo, so that crops of a small data set show the object

    config.augmentation = ConfigDict()
    config.augmentation.label_smoothing = 0.1

    config.model = ConfigDict()
    config.model.name = "resnet50"
    config.model.weights = "hf://timm/resnet50.tv_in1k"
    config.model.frozen = False

    config.loss = ConfigDict()
    config.loss.class_weights = ()

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.01
    config.optimizer.momentum = 0.9
    config.optimizer.weight_decay = 1e-3  # decoupled: a penalty of 1e-4 under this momentum
    config.optimizer.warmup_epochs = 1.0

    config.recording = ConfigDict()
    config.recording.every_steps = 20

    config.best = ConfigDict()
    config.best.patience = 5  # epochs

    config.strategy = "auto"
    config.epochs = 20
    config.batch_size = 32
    config.seed = 0
    config.dtype = "float32"
    config.jit_compile = False
    return config
