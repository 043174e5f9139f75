"""The batches of a run, from its configuration."""

from ml_collections import ConfigDict

from reszoo.data import Augmentation, Crop, Pipeline, load_source
from reszoo.training.config import complete


def create_pipeline(config: ConfigDict) -> Pipeline:
    """Returns the batches of a run.

    Args:
        config: The configuration; fields that it leaves out get their defaults.

    Raises:
        ValueError: If the data set does not exist, or the options do not fit it.
    """
    config = complete(config)
    options = config.data.to_dict()
    source = load_source(options.pop("name"), options.pop("corrupt_images"))
    augmentation = Augmentation(flip=options.pop("flip"), **config.augmentation.to_dict())
    del options["crop"]
    del options["mean"], options["std"]  # belong to the model
    return Pipeline(
        source,
        batch_size=config.batch_size,
        seed=config.seed,
        crop=create_crop(config),
        augmentation=augmentation,
        batches_per_update=config.optimizer.accumulation_steps,
        **options,
    )


def create_crop(config: ConfigDict) -> Crop | None:
    """Returns the crop of a run's images; `None` if whole images are used.

    Args:
        config: The configuration; fields that it leaves out get their defaults.

    Raises:
        ValueError: If an option is out of range.
    """
    config = complete(config)
    return Crop(**config.crop.to_dict()) if config.data.crop else None
