"""Images in IDX files. The truth is bytes that are put together by hand."""

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from reszoo.data import Pipeline, load_source

TRAIN, TEST = "train-images-idx3-ubyte", "t10k-images-idx3-ubyte"
TRAIN_LABELS, TEST_LABELS = "train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def images_file(number=6, height=2, width=3, begin=0):
    pixels = bytes((begin + index) % 256 for index in range(number * height * width))
    return struct.pack(">BBBBIII", 0, 0, 8, 3, number, height, width) + pixels


def labels_file(*labels):
    return struct.pack(">BBBBI", 0, 0, 8, 1, len(labels)) + bytes(labels)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / TRAIN).write_bytes(images_file())
    (tmp_path / TRAIN_LABELS).write_bytes(labels_file(0, 1, 2, 0, 1, 0))
    (tmp_path / TEST).write_bytes(images_file(2, begin=100))
    (tmp_path / TEST_LABELS).write_bytes(labels_file(2, 1))
    return tmp_path


def load(folder):
    return load_source(f"idx:{folder}")


def arrays(dataset):
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.stack(images), np.array(labels)


def test_images_and_labels_are_the_bytes_of_the_files(folder, caplog):
    source = load(folder)
    images, labels = arrays(source.train)
    np.testing.assert_array_equal(images, np.arange(36, dtype="uint8").reshape(6, 2, 3, 1))
    assert images.dtype == np.uint8
    assert labels.tolist() == [0, 1, 2, 0, 1, 0]
    images, labels = arrays(source.test)
    np.testing.assert_array_equal(images.ravel(), np.arange(100, 112))
    assert labels.tolist() == [2, 1]
    assert (source.train_examples, source.test_examples) == (6, 2)
    assert (source.image_shape, source.class_names) == ((2, 3, 1), ("0", "1", "2"))
    assert source.counts_of_classes() == (3, 2, 1)
    assert source.contents.counts == {"train": (3, 2, 1), "test": (0, 1, 1)}
    assert not caplog.text


def test_batches_have_the_pixels_in_the_range_from_0_to_1(folder):
    images, labels, _ = next(iter(Pipeline(load(folder), batch_size=2).test_batches()))
    np.testing.assert_allclose(images[1].numpy().ravel(), np.arange(106, 112) / 255, rtol=1e-6)
    assert labels.numpy().tolist() == [2, 1]


def test_files_are_compressed_or_not_by_their_content(folder):
    plain = load(folder)
    for name in (TRAIN, TEST_LABELS):
        (folder / name).write_bytes(gzip.compress((folder / name).read_bytes()))
    # A name may say what is not so.
    (folder / TEST).rename(folder / f"{TEST}.gz")
    packed = gzip.compress((folder / TRAIN_LABELS).read_bytes()[:7])
    packed += gzip.compress((folder / TRAIN_LABELS).read_bytes()[7:])  # in two members
    (folder / TRAIN_LABELS).unlink()
    (folder / "train-labels.idx1-ubyte.GZ").write_bytes(packed)
    source = load(folder)
    assert source.digest == plain.digest
    for split in ("train", "test"):
        for found, expected in zip(
            arrays(getattr(source, split)), arrays(getattr(plain, split)), strict=True
        ):
            np.testing.assert_array_equal(found, expected)


def test_files_may_have_the_names_of_other_data_sets(folder):
    digest = load(folder).digest
    for file in list(folder.iterdir()):
        name = file.name.replace("t10k", "test").replace("-idx", ".idx")
        file.rename(folder / f"emnist-balanced-{name}")
    assert load(folder).digest == digest


def test_the_digest_is_that_of_what_is_in_the_files(folder):
    digests = {load(folder).digest}
    (folder / TEST_LABELS).write_bytes(labels_file(2, 0))
    digests.add(load(folder).digest)
    (folder / TRAIN).write_bytes(images_file(begin=1))
    digests.add(load(folder).digest)
    for name, number in ((TRAIN, 6), (TEST, 2)):  # the same bytes in another shape
        (folder / name).write_bytes(images_file(number, 3, 2, begin=1))
    digests.add(load(folder).digest)
    (folder / "labels.txt").write_text("shirt\ncoat\nbag\n")
    source = load(folder)
    assert source.class_names == ("shirt", "coat", "bag")
    assert len({*digests, source.digest}) == 5


def test_labels_may_count_from_1(folder):
    (folder / TRAIN_LABELS).write_bytes(labels_file(1, 2, 3, 1, 2, 1))
    (folder / TEST_LABELS).write_bytes(labels_file(3, 2))
    source = load(folder)
    assert source.class_names == ("1", "2", "3")
    assert arrays(source.train)[1].tolist() == [0, 1, 2, 0, 1, 0]
    assert arrays(source.test)[1].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (TRAIN, b"", r"is no IDX file: .* but begins with b''"),
        (TRAIN, b"<!DOCTYPE html>", r"is no IDX file: .* but begins with b'<!DO'"),
        (TRAIN, b"\3\x08\0\0" + bytes(99), r"must begin with two bytes of zero .* b'\\x03\\x08"),
        (TRAIN, gzip.compress(gzip.compress(b"0")), r"is no IDX file: .* b'\\x1f\\x8b"),
        (
            TRAIN,
            images_file()[:9],
            r"train-images-idx3-ubyte is too short: it ends within its head",
        ),
        (
            TRAIN,
            images_file()[:-1],
            "its header says 6 images of 2 x 3 pixels, which are 36 bytes, but 35 follow it",
        ),
        (TRAIN, images_file() + b"0", "is too long: .* which are 36 bytes, but more follow it"),
        (TRAIN, gzip.compress(images_file() + b"0"), "is too long"),
        (TRAIN, images_file(0), "must have images, but its header says 0 images of 2 x 3 pixels"),
        (TRAIN, images_file(6, 0), "must have images, but its header says 6 images of 0 x 3 pix"),
        (TRAIN, labels_file(1, 2), r"dimensions \(number, height, width\), but have 1 dimensions"),
        (TRAIN_LABELS, images_file(), r"must have the dimensions \(number\), but have 3 dim"),
        (TRAIN, b"\0\0\x08\x04" + bytes(99), r'have 4 dimensions. Color images .* "folder:"'),
        (TRAIN, b"\0\0\x0d\3" + bytes(99), r"must be unsigned bytes .* but are 32-bit floats \(ty"),
        (TRAIN_LABELS, b"\0\0\x0c\1" + bytes(99), "but are 32-bit integers"),
        (TRAIN, struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 28, 28), "2,147,483,648 images .* but 0"),
        (
            TRAIN,
            gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, *[2**32 - 1] * 3) + b"12"),
            "but 2 follow it",
        ),
        (TRAIN_LABELS, labels_file(0, 1, 2), "has 6 images and .* has 3 labels"),
        (TEST, images_file(2, 3, 2), "same size, but those of .* 2 x 3 pixels, .* 3 x 2 pixels"),
        (
            TEST_LABELS,
            labels_file(2, 3),
            r"1 labels of .*t10k.* first that of example 1, which is 3",
        ),
        (TRAIN_LABELS, labels_file(0, 1, 2, 9, 0, 9), "none has the label 3, of 10 .* example 3"),
        (TRAIN, gzip.compress(images_file())[:-9], "cannot be decompressed .* Fetch it again"),
        (TRAIN, gzip.compress(images_file())[:5], "cannot be decompressed"),
        (TRAIN, gzip.compress(images_file()) + b"tail", "cannot be decompressed"),
    ],
)
def test_a_file_that_is_not_as_it_must_be(folder, name, content, message):
    (folder / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [12, -6])  # in the data, and in the checksum
def test_a_damaged_byte_of_a_compressed_file(folder, place):
    packed = bytearray(gzip.compress(images_file()))
    packed[place] ^= 0xFF
    (folder / TRAIN).write_bytes(packed)
    with pytest.raises(ValueError, match=r"train-images-idx3-ubyte cannot be decompressed \("):
        load(folder)


def test_a_missing_file_is_named(folder, tmp_path):
    (folder / TEST_LABELS).rename(folder / "labels.bin")
    with pytest.raises(
        ValueError, match=r"no file of the test labels. It must have 't10k-labels-i"
    ):
        load(folder)
    with pytest.raises(ValueError, match=r"There is no folder .*none"):
        load(tmp_path / "none")
    with pytest.raises(ValueError, match="must be a folder with IDX files, but is a file"):
        load(folder / TRAIN)
    with pytest.raises(ValueError, match="must have a path after 'idx:', such as 'idx:fashion"):
        load_source("idx:")


def test_a_folder_in_the_place_of_a_file(folder, caplog):
    content = (folder / TRAIN).read_bytes()
    (folder / TRAIN).unlink()
    (folder / TRAIN).mkdir()
    with pytest.raises(ValueError, match=r"idx3-ubyte cannot be read: it is a folder, not a"):
        load(folder)
    (folder / TRAIN).rmdir()
    os.mkfifo(folder / TRAIN)  # reading one would never end
    with pytest.raises(ValueError, match="is a pipe, not a regular file"):
        load(folder)
    (folder / "train-images.idx3-ubyte").write_bytes(content)
    load(folder)
    assert f"Left out of {folder}: 1 that are no regular files ({TRAIN})" in caplog.text


def test_memory_grows_with_what_a_file_has_and_not_with_what_it_claims(folder):
    # 1 MiB of zeros, which gzip makes small.
    claim = struct.pack(">4B3I", 0, 0, 8, 3, 2**31, 2**16, 2**16) + bytes(2**20)
    (folder / TRAIN).write_bytes(gzip.compress(claim))
    tracemalloc.start()
    with pytest.raises(ValueError, match="but 1,048,576 follow it"):
        load(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def test_a_file_that_is_there_twice_is_used_once_if_both_hold_the_same(folder, caplog):
    packed = folder / f"{TRAIN}.gz"
    packed.write_bytes(gzip.compress((folder / TRAIN).read_bytes()))
    assert load(folder).train_examples == 6
    assert f"1 files that hold the same as {TRAIN} ({TRAIN}.gz)" in caplog.text
    packed.write_bytes(gzip.compress(images_file(begin=1)))
    with pytest.raises(ValueError, match=r"are both files of the train images, but differ. Keep"):
        load(folder)


def test_what_is_left_out_is_named(folder, caplog):
    (folder / f"._{TRAIN}").write_bytes(b"Mac")
    (folder / "valid-images-idx3-ubyte").write_bytes(images_file())
    (folder / "more-images-idx3-ubyte").write_bytes(images_file())
    (folder / f"{TRAIN}.xz").write_bytes(b"")
    (folder / "README.md").write_text("About these images.")
    assert load(folder).test_examples == 2
    assert f"1 hidden files (._{TRAIN})" in caplog.text
    assert "1 files of validation, since those of test are tested (valid-images" in caplog.text
    assert "1 files whose names say no split (more-images-idx3-ubyte)" in caplog.text
    assert f"1 files whose names are not those of IDX files ({TRAIN}.xz)" in caplog.text
    assert "README" not in caplog.text


def test_names_of_classes_that_do_not_fit(folder):
    names = folder / "labels.txt"
    names.write_text("shirt\ncoat\n")
    with pytest.raises(ValueError, match="must be 0 to 1, as 2 classes are named"):
        load(folder)
    names.write_text("shirt\ncoat\nbag\nboot\n")
    with pytest.raises(ValueError, match=r"none has the label 3 \('boot'\), of 4 classes"):
        load(folder)
    names.unlink()
    names.mkdir()
    with pytest.raises(ValueError, match=r"labels.txt cannot be read \(Is a directory\)"):
        load(folder)


def test_test_images_that_are_training_images_are_counted(folder, caplog):
    (folder / TEST).write_bytes(images_file(2, begin=6))
    load(folder)
    assert (
        "2 test images are training images too, byte for byte, so that the test says less "
        f"(image 0 of {TEST}, image 1 of {TEST})" in caplog.text
    )


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="needs the package dataset-fashion-mnist of Debian")
def test_fashion_mnist():
    source = load(DEBIAN)
    assert (source.train_examples, source.test_examples) == (60_000, 10_000)
    assert source.image_shape == (28, 28, 1)
    assert source.contents.counts == {"train": (6000,) * 10, "test": (1000,) * 10}
    with gzip.open(DEBIAN / f"{TEST}.gz") as file:
        pixels = np.frombuffer(file.read()[16:], "uint8").reshape(-1, 28, 28, 1)
    with gzip.open(DEBIAN / f"{TEST_LABELS}.gz") as file:
        expected = list(file.read()[8:])
    [(images, labels)] = source.test.batch(10_000).as_numpy_iterator()
    np.testing.assert_array_equal(images, pixels)
    assert labels.tolist() == expected
