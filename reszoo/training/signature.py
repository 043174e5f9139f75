"""What one has to know of a run's data to ask its model: kept, so that the data may be gone."""

import dataclasses
from pathlib import Path

import tensorflow as tf

from reszoo.data import Crop, Pipeline
from reszoo.data.pipeline import prepared
from reszoo.gradients.storage import StoredPath
from reszoo.json_files import read_json, to_json
from reszoo.training.metrics import write_atomically

DATA_FILE = "data.json"

_SHAPE = {"image_shape": [int, int, int], "class_names": [str]}
_CURE = (
    "Delete it to have it made again: from the data set, the next time that the run is started, "
    "tested or asked."
)


@dataclasses.dataclass(frozen=True)
class Signature:
    """How a model is given images, and what its answers are called.

    Args:
        image_shape: `(height, width, channels)` of the images that it is tested with, in pixels.
        class_names: Names of the classes, in the order of its logits.

    Example:

    >>> Signature((8, 8, 1), ("cat", "dog")).image(tf.ones((16, 12, 3))).shape
    TensorShape([8, 8, 1])
    """

    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]

    def image(self, image: tf.Tensor, crop: Crop | None = None) -> tf.Tensor:
        """Returns an image as the model got those that it was tested with.

        Args:
            image: `(height, width, 3)`, of any size.
            crop: That of the run; the whole image is used if `None`.
        """
        if self.image_shape[-1] == 1:
            image = tf.image.rgb_to_grayscale(image)
        return prepared(image, self.image_shape, crop)

    def write(self, workdir: Path | StoredPath) -> None:
        """Writes it to a work directory."""
        write_atomically(workdir / DATA_FILE, to_json(dataclasses.asdict(self), indent=2) + "\n")


def signature_of(pipeline: Pipeline) -> Signature:
    """Returns how a model of some data is asked.

    Args:
        pipeline: The batches.
    """
    return Signature(pipeline.test_image_shape, tuple(pipeline.source.class_names))


def read_signature(workdir: Path | StoredPath) -> Signature | None:
    """Returns what a run has written to its work directory; `None` if that was nothing.

    Args:
        workdir: The work directory.

    Raises:
        ValueError: If the file is broken.
    """
    path = workdir / DATA_FILE
    if not path.exists():
        return None
    fields = read_json(path, _SHAPE, _CURE)
    shape, names = tuple(fields["image_shape"]), tuple(fields["class_names"])
    if min(shape) < 1 or shape[-1] not in (1, 3):
        raise ValueError(
            f"{path} cannot be read: 'image_shape' must be a height, a width and 1 or 3 channels, "
            f"but is {list(shape)}. {_CURE}"
        )
    return Signature(shape, names)
