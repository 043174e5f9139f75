"""Decoding of JPEG, PNG, GIF, BMP and WebP images, upright as their Exif data say.

Pillow reads the header before anything is decoded: TensorFlow's decoders end the whole process at
some files, return wrong pixels for others, and allocate memory for any size that a header claims.
TensorFlow then decodes JPEG (except CMYK) and PNG, and Pillow the other formats.
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

# A rectangle in an image: top, left, height, width, in pixels.
Window = tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP")
MAX_PIXELS = Image.MAX_IMAGE_PIXELS or 2**27 // 3 * 2  # Pillow refuses more, as a possible attack
_BY_TENSORFLOW = (
    "JPEG",
    "MPO",
    "PNG",
)  # MPO: several JPEGs in one file, of which the first is decoded
_ORIENTATION = 0x0112  # the tag of Exif
_EXIF_IN_PNG = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")
# Magic numbers, with their offset, of files that are often among images but cannot be read.
_OTHER_FORMATS = (
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
_MAGIC_NUMBERS = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"RIFF")


def decode_image(contents: tf.Tensor, channels: int = 3) -> tf.Tensor:
    """Decodes an image, upright, to `uint8` of shape `(height, width, channels)`.

    Gray images and images with an alpha channel are converted to the number of channels.

    Args:
        contents: The bytes of the file.
        channels: 1 for gray, 3 for RGB.
    """
    return _decoded_upright(tf.convert_to_tensor(contents), channels)


def decode_window(
    contents: tf.Tensor, choose: Callable[[tf.Tensor], Window], channels: int = 3
) -> tf.Tensor:
    """Decodes a part of an image, upright; of a JPEG only that part is decoded.

    Args:
        contents: The bytes of the file.
        choose: A function from `(height, width)` of the upright image to the window.
        channels: 1 for gray, 3 for RGB.
    """
    contents = tf.convert_to_tensor(contents)
    header = _header_tensor(contents)
    size = tf.cond(_is_turned(header), lambda: header[2:0:-1], lambda: header[1:3])
    window = _as_stored(choose(size), size, header)

    def of_jpeg() -> tf.Tensor:
        return tf.image.decode_and_crop_jpeg(contents, tf.stack(window), channels=channels)

    def of_others() -> tf.Tensor:
        return cut(_decoded(contents, header, channels), lambda _: window)

    is_jpeg = tf.logical_and(header[0] == 1, tf.io.is_jpeg(contents))
    image = tf.cond(is_jpeg, of_jpeg, of_others)
    return _upright(image, header, channels)


def cut(image: tf.Tensor, choose: Callable[[tf.Tensor], Window]) -> tf.Tensor:
    """Returns a part of an image.

    Args:
        image: `(height, width, channels)`.
        choose: A function from `(height, width)` of the image to the window.
    """
    top, left, height, width = choose(tf.shape(image)[:2])
    return image[top : top + height, left : left + width]


def read_image(file: str, channels: int = 3) -> tf.Tensor:
    """Reads and decodes an image file, as `decode_image` does.

    Args:
        file: A path, on a disk or `gs://`.
        channels: 1 for gray, 3 for RGB.

    Raises:
        ValueError: If the file cannot be read; the message has its path and the reason.
    """
    try:
        check_regular(file)
        contents = tf.io.read_file(os.fsencode(file))
        check_image(contents.numpy())
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"The image {file} cannot be read ({reason_of(error)}).") from error
    return decode_image(contents, channels)


def check_image(contents: bytes) -> int:
    """Checks that an image can be decoded, and returns its fingerprint.

    Args:
        contents: The bytes of the file.

    Returns:
        A hash of the bytes, of 64 bits.

    Raises:
        ValueError: If the image cannot be decoded; the message has the reason.
    """
    by_tensorflow, *_ = look_at_header(contents)
    try:
        if by_tensorflow:
            tf.io.decode_image(contents, expand_animations=False)
        else:
            _decoded_by_pillow(contents)
    except Exception as error:  # decoders raise many kinds
        raise ValueError(f"it cannot be decoded: {reason_of(error)}") from error
    return int.from_bytes(hashlib.blake2b(contents, digest_size=8).digest(), "big")


def check_regular(file: str) -> None:
    """Checks that a path on a disk is a regular file: reading a pipe or a device may never end.

    Args:
        file: A path; one with `://` is not checked.

    Raises:
        OSError: If there is no such file.
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
    """Returns the reason of an error in a few words, for a sentence about an image.

    Args:
        error: The exception that reading the image raised.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error.message) if isinstance(error, tf.errors.OpError) else str(error)  # pyright: ignore
    # TensorFlow puts the node of a graph before the reason, and the operation behind it.
    text = re.sub(r"^\{\{.*?\}\}\s*| \[Op:.*", "", text, flags=re.DOTALL).strip()
    return " ".join(text.split())[:200] or type(error).__name__


def look_at_header(contents: bytes) -> tuple[bool, int, int, int]:
    """Reads the header of an image, and decides who decodes it.

    Args:
        contents: The bytes of the file.

    Returns:
        Whether TensorFlow decodes it, its stored height and width in pixels, and its Exif
        orientation, from 1 to 8.

    Raises:
        ValueError: If the image cannot be decoded; the message has the reason.
    """
    try:
        with Image.open(io.BytesIO(contents), formats=FORMATS) as image:
            width, height = image.size
            is_single = image.format in _BY_TENSORFLOW
            frames = 1 if is_single else getattr(image, "n_frames", 1)
            # TensorFlow does not convert CMYK to gray.
            by_tensorflow = is_single and image.mode != "CMYK"
            orientation = _orientation(image, contents)
    except UnidentifiedImageError:
        raise ValueError(f"it is {_described(contents)}") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ValueError(f"its header claims more than {MAX_PIXELS:,} pixels") from None
    except Exception as error:  # a broken header leads to errors of many kinds
        raise ValueError(f"its header is broken: {error}") from error
    if height * width > MAX_PIXELS:
        raise ValueError(f"{width} x {height} are more than {MAX_PIXELS:,} pixels")
    if frames > 1:
        raise ValueError(f"it is an animation of {frames} frames")
    return by_tensorflow, height, width, orientation


def _orientation(image: Image.Image, contents: bytes) -> int:
    # Exif data may come last in a PNG, so that Pillow would decode all of it to find them.
    if image.format == "PNG" and not any(name in contents for name in _EXIF_IN_PNG):
        return 1
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # Exif data that cannot be read count as missing
        return 1
    return orientation if orientation in range(1, 9) else 1


def _described(contents: bytes) -> str:
    """Returns a description of bytes that are no image, from their magic number."""
    for offset, begin, name in _OTHER_FORMATS:
        if contents[offset:].startswith(begin):
            return f"{name}, which is not read"
    if not contents:
        return "an empty file"
    if contents.startswith(_MAGIC_NUMBERS):
        return "an image whose header is cut short or broken"
    head = contents[:200].lstrip()
    if head[:1] == b"<":
        return "HTML, SVG or other XML, not an image"
    if head.isascii() and b"\0" not in head:
        return "text, not an image"
    return f"none of {', '.join(FORMATS)}"


def _decoded_by_pillow(contents: bytes, channels: int = 3) -> np.ndarray:
    with Image.open(io.BytesIO(contents), formats=FORMATS) as image:
        pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


@tf.function(autograph=False)
def _decoded_upright(contents: tf.Tensor, channels: int) -> tf.Tensor:
    header = _header_tensor(contents)
    return _upright(_decoded(contents, header, channels), header, channels)


@tf.function(autograph=False)
def _header_tensor(contents: tf.Tensor) -> tf.Tensor:
    """Returns the four values of `look_at_header` as an `int32` tensor."""

    def numbers(contents: bytes) -> np.ndarray:
        return np.array(look_at_header(contents), "int32")

    header = tf.numpy_function(numbers, [contents], tf.int32, stateful=False)
    return tf.ensure_shape(header, (4,))


@tf.function(autograph=False)
def _decoded(contents: tf.Tensor, header: tf.Tensor, channels: int) -> tf.Tensor:
    """Decodes an image, in the orientation in which it is stored."""

    def by_pillow(contents: bytes) -> np.ndarray:
        return _decoded_by_pillow(contents, channels)

    image = tf.cond(
        header[0] == 1,
        lambda: tf.io.decode_image(contents, channels, tf.uint8, expand_animations=False),
        lambda: tf.numpy_function(by_pillow, [contents], tf.uint8, stateful=False),
    )
    return tf.ensure_shape(image, (None, None, channels))


def _is_turned(header: tf.Tensor) -> tf.Tensor:
    return header[3] >= 5


def _mirrored(header: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns whether the rows and whether the columns run backwards, once the axes are right."""
    orientation = header[3]
    up_down = tf.reduce_any(orientation == [3, 4, 7, 8])
    return up_down, tf.reduce_any(orientation == [2, 3, 6, 7])


@tf.function(autograph=False)
def _upright(image: tf.Tensor, header: tf.Tensor, channels: int) -> tf.Tensor:
    def turned() -> tf.Tensor:
        right = tf.cond(_is_turned(header), lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
        up_down, left_right = _mirrored(header)
        right = tf.cond(up_down, lambda: right[::-1], lambda: right)
        return tf.cond(left_right, lambda: right[:, ::-1], lambda: right)

    image = tf.cond(header[3] == 1, lambda: image, turned)
    return tf.ensure_shape(image, (None, None, channels))


def _as_stored(window: Window, size: tf.Tensor, header: tf.Tensor) -> Window:
    """Returns the window of the stored image that is a given window of the upright one."""
    top, left, height, width = window
    up_down, left_right = _mirrored(header)
    top = tf.where(up_down, size[0] - top - height, top)
    left = tf.where(left_right, size[1] - left - width, left)
    return tf.cond(
        _is_turned(header),
        lambda: (left, top, width, height),
        lambda: (top, left, height, width),
    )
