"""Encoded images: JPEG, PNG, GIF, BMP and WebP."""

from collections.abc import Callable

import tensorflow as tf

# Where a part of an image begins, and how large it is: top, left, height, width, in pixels.
Window = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]


def decode_image(contents: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """Returns an encoded image, `(height, width, channels)` of `uint8`.

    Gray images and those with alpha get the wanted number of channels.

    Args:
        contents: The bytes of the file.
        channels: 1 for gray, 3 for RGB.
    """
    image = tf.cond(
        tf.strings.substr(contents, 8, 4) == "WEBP",
        lambda: _webp(contents, channels),
        lambda: tf.io.decode_image(contents, channels, tf.uint8, expand_animations=False),
    )
    return tf.ensure_shape(image, (None, None, channels))


def decode_window(
    contents: tf.Tensor, choose: Callable[[tf.Tensor], Window], channels: int = 3
) -> tf.Tensor:
    """Returns a part of an encoded image; of a JPEG nothing else is decoded.

    Args:
        contents: The bytes of the file.
        choose: Gives the window, of the image's `(height, width)`.
        channels: 1 for gray, 3 for RGB.
    """

    def of_jpeg():
        window = choose(tf.image.extract_jpeg_shape(contents)[:2])
        return tf.image.decode_and_crop_jpeg(contents, tf.stack(window), channels=channels)

    def of_others():
        return cut(decode_image(contents, channels), choose)

    image = tf.cond(tf.io.is_jpeg(contents), of_jpeg, of_others)
    return tf.ensure_shape(image, (None, None, channels))


def cut(image: tf.Tensor, choose: Callable[[tf.Tensor], Window]) -> tf.Tensor:
    """Returns a part of an image.

    Args:
        image: `(height, width, channels)`.
        choose: Gives the window, of the image's `(height, width)`.
    """
    top, left, height, width = choose(tf.shape(image)[:2])
    return image[top : top + height, left : left + width]


def _webp(contents, channels):
    image = tf.io.decode_webp(contents)[0, ..., :3]
    return tf.image.rgb_to_grayscale(image) if channels == 1 else image
