"""Encoded images: JPEG, PNG, GIF, BMP and WebP, upright as their Exif data says.

Pillow looks at the header before anything is decoded, for TensorFlow's decoders end the whole
process at some files, give wrong pixels for others, and make room for whatever size a header
claims. JPEG (but for CMYK) and PNG are then TensorFlow's to decode; the others are Pillow's.
"""

import hashlib
import io
import os
import re
import stat
from collections.abc import Callable

import numpy as np
import tensorflow as tf
from PIL import Image, UnidentifiedImageError

# Where a part of an image begins, and how large it is: top, left, height, width, in pixels.
Window = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 2**27 // 3 * 2  # beyond it Pillow suspects an attack
_BY_TENSORFLOW = ("JPEG", "MPO", "PNG")  # MPO: JPEGs one behind the other, the first counts
_ORIENTATION = 0x0112  # of Exif
_EXIF_IN_PNG = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
# What files begin with that are often among images, but are none that can be read.
_OTHERS = (
    (0, b"II*\0", "a TIFF image"),
    (0, b"MM\0*", "a TIFF image"),
    (4, b"ftypavif", "an AVIF image"),
    (4, b"ftyp", "an HEIF image or a film"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000 image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL image"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"\0\0\1\0", "an icon"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"\x93NUMPY", "an array of NumPy"),
)
_OURS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")


def decode_image(contents: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """Returns an encoded image, `(height, width, channels)` of `uint8`, upright.

    Gray images and those with alpha get the wanted number of channels.

    Args:
        contents: The bytes of the file.
        channels: 1 for gray, 3 for RGB.
    """
    return _decoded_upright(tf.convert_to_tensor(contents), channels)


def decode_window(
    contents: tf.Tensor, choose: Callable[[tf.Tensor], Window], channels: int = 3
) -> tf.Tensor:
    """Returns a part of an encoded image, upright; of a JPEG nothing else is decoded.

    Args:
        contents: The bytes of the file.
        choose: Gives the window, of the upright image's `(height, width)`.
        channels: 1 for gray, 3 for RGB.
    """
    contents = tf.convert_to_tensor(contents)
    header = _header_tensor(contents)
    size = tf.cond(_is_turned(header), lambda: header[2:0:-1], lambda: header[1:3])
    window = _as_stored(choose(size), size, header)

    def of_jpeg():
        return tf.image.decode_and_crop_jpeg(contents, tf.stack(window), channels=channels)

    def of_others():
        return cut(_decoded(contents, header, channels), lambda _: window)

    is_jpeg = tf.logical_and(header[0] == 1, tf.io.is_jpeg(contents))
    image = tf.cond(is_jpeg, of_jpeg, of_others)
    return _upright(image, header, channels)


def cut(image: tf.Tensor, choose: Callable[[tf.Tensor], Window]) -> tf.Tensor:
    """Returns a part of an image.

    Args:
        image: `(height, width, channels)`.
        choose: Gives the window, of the image's `(height, width)`.
    """
    top, left, height, width = choose(tf.shape(image)[:2])
    return image[top : top + height, left : left + width]


def read_image(file: str, channels: int = 3) -> tf.Tensor:
    """Returns the image in a file, as `decode_image` does.

    Args:
        file: Its name, on a disk or `gs://`.
        channels: 1 for gray, 3 for RGB.

    Raises:
        ValueError: If it cannot be read; the text names the file and says why.
    """
    try:
        check_regular(file)
        contents = tf.io.read_file(os.fsencode(file))
        check_image(contents.numpy())
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"The image {file} cannot be read ({reason_of(error)}).") from error
    return decode_image(contents, channels)


def check_image(contents: bytes) -> int:
    """Decodes an image, to know that this is possible, and returns its fingerprint.

    Args:
        contents: The bytes of the file.

    Returns:
        A number of 64 bits that differs where a byte differs.

    Raises:
        ValueError: If it cannot be decoded; the text says why.
    """
    by_tensorflow, *_ = look_at_header(contents)
    try:
        if by_tensorflow:
            tf.io.decode_image(contents, expand_animations=False)
        else:
            _decoded_by_pillow(contents)
    except Exception as error:  # whatever a decoder can raise
        raise ValueError(f"it cannot be decoded: {reason_of(error)}") from error
    return int.from_bytes(hashlib.blake2b(contents, digest_size=8).digest(), "big")


def check_regular(file: str) -> None:
    """Raises if a file on a disk is none to read: a pipe or a device could keep a reader for ever.

    Args:
        file: Its name.

    Raises:
        OSError: If it is not there.
        ValueError: If it is not a regular file.
    """
    if "://" in file:
        return
    mode = os.stat(file).st_mode
    if not stat.S_ISREG(mode):
        kinds = {"a folder": stat.S_ISDIR, "a pipe": stat.S_ISFIFO, "a socket": stat.S_ISSOCK}
        kind = next((name for name, is_kind in kinds.items() if is_kind(mode)), "a device")
        raise ValueError(f"it is {kind}, not a regular file")


def reason_of(error: Exception) -> str:
    """Returns why an image cannot be read, in a few words.

    Args:
        error: What reading it has raised.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    # Without the node of a graph that TensorFlow puts first, and the operation it puts last.
    text = re.sub(r"^\{\{.*?\}\}\s*| \[Op:.*", "", text, flags=re.DOTALL).strip()
    return " ".join(text.split())[:200] or type(error).__name__


def look_at_header(contents: bytes) -> tuple[bool, int, int, int]:
    """Returns who decodes an image, its stored height and width, and its orientation.

    Args:
        contents: The bytes of the file.

    Returns:
        Whether TensorFlow decodes it, two numbers of pixels, and Exif's number from 1 to 8.

    Raises:
        ValueError: If it is not an image that can be decoded; the text says why.
    """
    try:
        with Image.open(io.BytesIO(contents), formats=FORMATS) as image:
            width, height = image.size
            is_single = image.format in _BY_TENSORFLOW
            frames = 1 if is_single else getattr(image, "n_frames", 1)
            # Which TensorFlow does not turn into gray.
            by_tensorflow = is_single and image.mode != "CMYK"
            orientation = _orientation(image, contents)
    except UnidentifiedImageError:
        raise ValueError(f"it is {_described(contents)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"its header claims more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # whatever a broken header leads to
        raise ValueError(f"its header is broken: {error}") from error
    if height * width > MAX_PIXELS:
        raise ValueError(f"{width} x {height} are more than {MAX_PIXELS:,} pixels")
    if frames > 1:
        raise ValueError(f"it is an animation of {frames} frames")
    return by_tensorflow, height, width, orientation


def _orientation(image, contents):
    # Exif data may come last in a PNG, so that Pillow decodes all of it to look for them.
    if image.format == "PNG" and not any(name in contents for name in _EXIF_IN_PNG):
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Exif data that nobody can read says nothing
        return 1
    return orientation if orientation in range(1, 9) else 1


def _described(contents):
    """Returns what bytes are that are no image."""
    for place, begin, name in _OTHERS:
        if contents[place:].startswith(begin):
            return f"{name}, which is not read"
    if not contents:
        return "an empty file"
    if contents.startswith(_OURS):
        return "an image whose header is cut short or broken"
    head = contents[:200].lstrip()
    if head[:1] == b"<":
        return "HTML, SVG or other XML, not an image"
    if head.isascii() and b"\0" not in head:
        return "text, not an image"
    return f"none of {', '.join(FORMATS)}"


def _decoded_by_pillow(contents, channels=3):
    with Image.open(io.BytesIO(contents), formats=FORMATS) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


@tf.function(autograph=False)
def _decoded_upright(contents, channels):
    header = _header_tensor(contents)
    return _upright(_decoded(contents, header, channels), header, channels)


@tf.function(autograph=False)
def _header_tensor(contents):
    """Returns whether TensorFlow decodes an image, its height and width, and its orientation."""

    def numbers(contents):
        return np.array(look_at_header(contents), "int32")

    header = tf.numpy_function(numbers, [contents], tf.int32, stateful=False)
    return tf.ensure_shape(header, (4,))


@tf.function(autograph=False)
def _decoded(contents, header, channels):
    """Returns an image as it is stored."""

    def by_pillow(contents):
        return _decoded_by_pillow(contents, channels)

    image = tf.cond(
        header[0] == 1,
        lambda: tf.io.decode_image(contents, channels, tf.uint8, expand_animations=False),
        lambda: tf.numpy_function(by_pillow, [contents], tf.uint8, stateful=False),
    )
    return tf.ensure_shape(image, (None, None, channels))


def _is_turned(header):
    return header[3] >= 5


def _mirrored(header):
    """Returns whether a stored image, once its axes are right, is upside down and left to right."""
    orientation = header[3]
    up_down = tf.reduce_any(orientation == [3, 4, 7, 8])
    return up_down, tf.reduce_any(orientation == [2, 3, 6, 7])


@tf.function(autograph=False)
def _upright(image, header, channels):
    def turned():
        right = tf.cond(_is_turned(header), lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        up_down, left_right = _mirrored(header)
        right = tf.cond(up_down, lambda: right[::-1], lambda: right)
        return tf.cond(left_right, lambda: right[:, ::-1], lambda: right)

    image = tf.cond(header[3] == 1, lambda: image, turned)
    return tf.ensure_shape(image, (None, None, channels))


def _as_stored(window, size, header):
    """Returns which part of the stored image is a window of the upright one."""
    top, left, height, width = window
    up_down, left_right = _mirrored(header)
    top = tf.where(up_down, size[0] - top - height, top)
    left = tf.where(left_right, size[1] - left - width, left)
    return tf.cond(
        _is_turned(header),
        lambda: (left, top, width, height),
        lambda: (top, left, height, width),
    )
