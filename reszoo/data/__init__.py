"""Sources of labelled images, and the pipeline from a source to batches.

- `source`: `Source`, the training and test examples of a data set
- `sources`: sources by name, and the small built-in ones
- `tfds`: data sets of TensorFlow Datasets
- `folder`: images in folders, one per class; `class_folders` finds the splits and classes
- `tfrecord`: images in TFRecord files; `tfrecord_index` reads them once
- `idx`: images in IDX files, the format of MNIST
- `splits`: names of splits
- `images`: decoding, upright as the Exif data say
- `pipeline`: `Pipeline`, from examples to batches
- `crop`, `augmentation`: random changes of training images
- `contents`: what a data set holds, and what has changed since
- `left_out`: the warning about what a data set leaves out
"""

from reszoo.installed import without_tensorflow

try:
    import tensorflow as tensorflow
except ImportError as error:
    raise ImportError(without_tensorflow("reszoo.data reads images")) from error

from reszoo.data.augmentation import Augmentation as Augmentation
from reszoo.data.crop import Crop as Crop
from reszoo.data.pipeline import Pipeline as Pipeline
from reszoo.data.source import Source as Source
from reszoo.data.sources import load_source as load_source
