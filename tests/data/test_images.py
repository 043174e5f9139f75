import io
import os
import socket
import struct
import warnings
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from reszoo.data.images import check_image, decode_image, decode_window, read_image

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype("uint8")
PHOTO = Image.fromarray(PIXELS)


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def by_pillow(contents, mode="RGB"):
    """The pixels of an image by Pillow, upright."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(contents))).convert(mode))


def bmp(bits, pixels, palette=b"", compression=0, height=2, masks=b""):
    """A BMP of 4 x 2 pixels, as Pillow does not write them."""
    header = struct.pack(
        "<IiiHHIIiiII", 40, 4, height, 1, bits, compression, len(pixels), 0, 0, len(palette) // 4, 0
    )
    start = 14 + len(header) + len(masks) + len(palette)
    total = start + len(pixels)
    return struct.pack("<2sIHHI", b"BM", total, 0, 0, start) + header + masks + palette + pixels


PALETTE = bytes(range(0, 64)) * 16
GRAY_16 = Image.fromarray((np.arange(54).reshape(6, 9) * 1200).astype("uint16"))
SMOOTH = Image.fromarray(np.linspace(0, 255, 32 * 40 * 3).reshape(32, 40, 3).astype("uint8"))
KINDS = {
    "palette BMP": encoded(PHOTO.quantize(16), "BMP"),
    "1-bit BMP": encoded(PHOTO.convert("1"), "BMP"),
    "gray BMP": encoded(PHOTO.convert("L"), "BMP"),
    "BMP": encoded(PHOTO, "BMP"),
    "BMP with alpha": encoded(PHOTO.convert("RGBA"), "BMP"),
    "8-bit BMP, RLE": bmp(8, bytes([2, 1, 2, 3, 0, 0, 4, 5, 0, 1]), PALETTE, compression=1),
    "4-bit BMP": bmp(4, bytes([0x12, 0x34, 0, 0, 0x56, 0x78, 0, 0]), PALETTE[:64]),
    "16-bit BMP": bmp(16, np.arange(8, dtype="<u2").tobytes() * 2),
    "top-down BMP": bmp(24, bytes(range(24)), height=-2),
    "GIF": encoded(PHOTO.quantize(16), "GIF"),
    "GIF with transparency": encoded(PHOTO.quantize(16), "GIF", transparency=3),
    "WebP": encoded(PHOTO, "WEBP", lossless=True),
    "WebP with alpha": encoded(PHOTO.convert("RGBA"), "WEBP", lossless=True),
    "lossy WebP": encoded(PHOTO, "WEBP"),
    "PNG": encoded(PHOTO, "PNG"),
    "gray PNG with alpha": encoded(PHOTO.convert("LA"), "PNG"),
    "palette PNG": encoded(PHOTO.quantize(16), "PNG"),
    "palette PNG, one transparent": encoded(PHOTO.quantize(16), "PNG", transparency=3),
    "palette PNG, with alphas": encoded(PHOTO.quantize(16), "PNG", transparency=bytes(range(16))),
    "1-bit PNG": encoded(PHOTO.convert("1"), "PNG"),
    "animated PNG": encoded(PHOTO, "PNG", save_all=True, append_images=[PHOTO.rotate(180)]),
    "JPEG": encoded(SMOOTH, "JPEG"),
    "gray JPEG": encoded(SMOOTH.convert("L"), "JPEG"),
    "progressive JPEG": encoded(SMOOTH, "JPEG", progressive=True),
    "CMYK JPEG": encoded(SMOOTH.convert("CMYK"), "JPEG"),
    "multi-picture JPEG": encoded(SMOOTH, "MPO", save_all=True, append_images=[SMOOTH]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_that_pillow_reads(kind):
    contents = KINDS[kind]
    check_image(contents)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of transparency in bytes
        expected = by_pillow(contents).astype(int)
    error = np.abs(decode_image(contents).numpy() - expected).max()
    assert error <= (3 if "JPEG" in kind else 0)
    assert decode_image(contents, channels=1).shape == (*expected.shape[:2], 1)


def test_of_16_bits_the_upper_8_are_used():
    expected = np.asarray(GRAY_16) >> 8
    found = decode_image(encoded(GRAY_16, "PNG")).numpy()
    np.testing.assert_array_equal(found, np.repeat(expected[..., None], 3, axis=2))


def exif(orientation, order="<"):
    """Exif data with the tag of the orientation alone."""
    mark = b"II*\0" if order == "<" else b"MM\0*"
    entry = struct.pack(order + "HHIHH", 0x0112, 3, 1, orientation, 0)
    return b"Exif\0\0" + mark + struct.pack(order + "IH", 8, 1) + entry + bytes(4)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_images_are_upright(kind, order):
    options = {"JPEG": {"quality": 95}, "PNG": {}, "WEBP": {"lossless": True}}[kind]
    image = SMOOTH if kind == "JPEG" else PHOTO
    for orientation in range(1, 9):
        contents = encoded(image, kind, exif=exif(orientation, order), **options)
        expected = by_pillow(contents)
        assert expected.shape[:2] == (image.size if orientation >= 5 else image.size[::-1])
        found = decode_image(contents).numpy()
        np.testing.assert_allclose(found, expected, atol=3 if kind == "JPEG" else 0)
        part = decode_window(contents, lambda size: tf.unstack([1, 2, 3, size[1] - 5])).numpy()
        np.testing.assert_array_equal(part, found[1:4, 2:-3])


def test_exif_data_may_come_last_in_a_png():
    plain = encoded(PHOTO, "PNG")
    data = b"eXIf" + exif(6)[6:]
    chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    contents = plain[:-12] + chunk + plain[-12:]
    expected = by_pillow(contents)
    assert expected.shape == (9, 6, 3)
    np.testing.assert_array_equal(decode_image(contents), expected)


@pytest.mark.parametrize(
    "data", [exif(0), exif(9), exif(6)[:-12], b"Exif\0\0", b"Exif\0\0nonsense", exif(6)[:14]]
)
def test_exif_data_that_say_nothing_turn_nothing(data):
    contents = encoded(PHOTO, "JPEG", exif=data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = decode_image(encoded(PHOTO, "JPEG"))
        np.testing.assert_array_equal(decode_image(contents), plain)


def claim_png(width, height):
    """A PNG of a few bytes that claims to have many pixels."""

    def chunk(name, data):
        crc = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def claim_jpeg(width, height):
    contents = encoded(SMOOTH, "JPEG")
    return contents.replace(struct.pack(">HH", 32, 40), struct.pack(">HH", height, width), 1)


FRAMES = {"save_all": True, "append_images": [PHOTO.rotate(180)], "duration": 100}
NOT_READ = {
    "an animation of 2 frames": [
        encoded(PHOTO, "WEBP", **FRAMES),
        encoded(PHOTO, "WEBP", lossless=True, **FRAMES),
        encoded(PHOTO.convert("RGBA"), "WEBP", **FRAMES),
        encoded(PHOTO.quantize(9), "GIF", **FRAMES),
    ],
    "pixels": [claim_png(65535, 65535), claim_png(20000, 5000), claim_jpeg(65535, 65535)],
    "text, not an image": [b"no image", b"\n"],
    "HTML": [b"<!DOCTYPE html><html>404</html>", b" <svg/>", b"<?xml version='1.0'?>"],
    "an empty file": [b""],
    "a TIFF image": [encoded(PHOTO, "TIFF")],
    "an icon": [encoded(PHOTO, "ICO")],
    "a JPEG 2000 image": [encoded(PHOTO, "JPEG2000")],
    "an AVIF image": [b"\0\0\0\x1cftypavif"],
    "none of JPEG": [bytes(100), PIXELS.tobytes()],
}


@pytest.mark.parametrize("reason", NOT_READ)
def test_what_is_not_read_is_said(reason):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for contents in NOT_READ[reason]:
            with pytest.raises(ValueError, match=reason):
                check_image(contents)
            with pytest.raises(tf.errors.OpError, match=reason):
                decode_image(contents)


def test_whatever_is_cut_short_is_not_read():
    for kind in KINDS.keys() - {"multi-picture JPEG"}:  # the first half of which is a whole one
        contents = KINDS[kind]
        for part in (2, 11, 25, len(contents) // 2):
            with pytest.raises(ValueError, match=r"^its? "):
                check_image(contents[:part])


def test_a_file_that_is_not_there_to_read_is_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "loop.jpg").symlink_to(tmp_path / "loop.jpg")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "s.jpg"))
    for name, reason in (
        ("none.jpg", "No such file"),
        ("pipe.jpg", "it is a pipe, not a regular file"),
        ("s.jpg", "it is a socket"),
        ("folder.jpg", "it is a folder"),
        ("text.jpg", "it is text"),
        ("loop.jpg", "Too many levels"),
    ):
        with pytest.raises(ValueError, match=rf"The image .*{name} cannot be read \({reason}"):
            read_image(str(tmp_path / name))
    with pytest.raises(ValueError, match=r"/dev/zero cannot be read \(it is a device"):
        read_image("/dev/zero")


def test_names_of_files_may_be_any_bytes(tmp_path):
    path = os.path.join(tmp_path, os.fsdecode(b"caf\xe9 \xff.png"))
    with open(path, "wb") as file:
        file.write(KINDS["PNG"])
    np.testing.assert_array_equal(read_image(path), PIXELS)
