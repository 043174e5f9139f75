"""Random crops of training images, and the central crop of test images."""

import dataclasses

import tensorflow as tf

from reszoo.data.images import Window
from reszoo.ranges import Number, Whole, check_fields

RANGES = {
    "min_area": Number(0, 1, above=True),
    "max_ratio": Number(1, 100),
    "test_share": Number(0, 1, above=True),
    "test_image_size": Whole(0, 16_384),
}


@dataclasses.dataclass(frozen=True)
class Crop:
    """Cuts a random part out of training images, and the middle out of test images.

    A training image is a part with a random share of the area and a random aspect ratio; a test
    image is the largest square in the middle, times `test_share`. Both are resized afterwards.

    Args:
        min_area: The smallest share of the area that a part may have; the largest is 1.
        max_ratio: The largest ratio of width to height; the smallest is its inverse.
        test_share: Side of the middle part over the shorter side of the test image. The usual
            "resize to 256 pixels and cut out 224" is 224 / 256 = 0.875.
        test_image_size: Height and width in pixels to which test images are resized, where it is
            not that of the training images; 0: the same.

    Raises:
        ValueError: If a number is out of range.

    Reference:
        Szegedy et al. 2015, "Going deeper with convolutions", section 6; Touvron et al. 2019,
        "Fixing the train-test resolution discrepancy", section 3 (a larger test image).

    Example:

    >>> top, left, height, width = Crop().middle(tf.constant([100, 200]))
    >>> int(top), int(left), int(height), int(width)
    (6, 56, 88, 88)
    """

    min_area: float = 0.08
    max_ratio: float = 4 / 3
    test_share: float = 0.875
    test_image_size: int = 0

    def __post_init__(self) -> None:
        check_fields(self, RANGES)

    def random_part(self, size: tf.Tensor, seed: tf.Tensor) -> Window:
        """Returns a random part: top, left, height and width, in pixels.

        Args:
            size: `(height, width)` of the image, in pixels.
            seed: Shape `(2,)`, integers.
        """
        begin, part, _ = tf.image.stateless_sample_distorted_bounding_box(
            tf.concat([size, [1]], axis=0),
            tf.zeros((1, 0, 4)),
            seed,
            min_object_covered=0.0,
            aspect_ratio_range=(1 / self.max_ratio, self.max_ratio),
            area_range=(self.min_area, 1.0),
            use_image_if_no_bounding_boxes=True,
        )
        return begin[0], begin[1], part[0], part[1]

    def middle(self, size: tf.Tensor) -> Window:
        """Returns the part in the middle: top, left, height and width, in pixels.

        Args:
            size: `(height, width)` of the image, in pixels.
        """
        shorter = tf.cast(tf.reduce_min(size), tf.float32)
        side = tf.maximum(1, tf.cast(tf.round(self.test_share * shorter), tf.int32))
        return (size[0] - side) // 2, (size[1] - side) // 2, side, side
