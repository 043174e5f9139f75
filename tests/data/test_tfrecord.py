import bz2
import gzip
import io
import lzma
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from reszoo.data import Crop, Pipeline, load_source
from reszoo.data import tfrecord_index as module


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A folder for what was counted, instead of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "reszoo"


def jpeg(value):
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30, 3), value, "uint8")).save(file, "JPEG")
    return file.getvalue()


def example(label, contents=None, keys=("image/encoded", "image/class/label")):
    feature = {
        keys[0]: tf.train.Feature(
            bytes_list=tf.train.BytesList(
                value=[jpeg(20 * abs(label)) if contents is None else contents]
            )
        ),
        keys[1]: tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def write(path, records):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    return path


def write_set(folder, first=0, classes=3, **options):
    """Two files of training and one of testing, with six and three examples of three classes."""
    labels = range(first, first + classes)
    for index in range(2):
        name = f"train-0000{index}-of-00002"
        write(folder / name, [example(label, **options) for label in labels])
    write(folder / "validation-00000-of-00001", [example(label, **options) for label in labels])
    return folder


def labels_of(dataset):
    return [int(label) for _, label in dataset.as_numpy_iterator()]


@pytest.mark.parametrize("keys", module.KEYS)
@pytest.mark.parametrize("pattern", ["{}", "{}/*", "{}/train*,{}/validation*"])
def test_the_files_of_training_and_testing(tmp_path, pattern, keys):
    folder = write_set(tmp_path / "set", keys=keys)
    (folder / "dataset_info.json").write_text("{}")
    pattern = pattern.replace("{}/*", "{}/*-of-*").format(folder, folder)
    source = load_source(f"tfrecord:{pattern}")
    assert (source.train_examples, source.test_examples) == (6, 3)
    assert source.class_names == ("0", "1", "2")
    assert source.counts_of_classes() == (2, 2, 2)
    pipeline = Pipeline(source, batch_size=6, image_size=8, crop=Crop())
    images, labels = next(iter(pipeline.train_batches(0)))
    assert sorted(labels.numpy()) == [0, 0, 1, 1, 2, 2]
    np.testing.assert_allclose(images[:, 0, 0, 0] * 255, 20 * labels.numpy(), atol=2)
    images, labels, weights = next(iter(pipeline.test_batches()))
    assert labels.numpy()[weights == 1].tolist() == [0, 1, 2]


def test_files_are_in_another_order_for_another_seed(tmp_path):
    folder = tmp_path / "set"
    for index in range(4):
        write(folder / f"train-{index}", [example(index)])
    write(folder / "test-0", [example(0)])
    source = load_source(f"tfrecord:{folder}/*")
    orders = [labels_of(source.reordered(seed)) for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert labels_of(source.train) == sorted(orders[2]) == [0, 1, 2, 3]


def test_labels_may_count_from_one_and_have_names(tmp_path):
    folder = write_set(tmp_path / "set", first=1)
    source = load_source(f"tfrecord:{folder}")
    assert source.class_names == ("1", "2", "3")
    (folder / "labels.txt").write_text("cat\ndog\ncow\n")
    source = load_source(f"tfrecord:{folder}")
    assert source.class_names == ("cat", "dog", "cow")
    assert sorted(labels_of(source.train)) == [0, 0, 1, 1, 2, 2]


def test_labels_that_do_not_fit_the_names(tmp_path):
    folder = write_set(tmp_path / "set")
    (folder / "labels.txt").write_text("cat\ndog\n")
    with pytest.raises(
        ValueError, match=r"2 train examples .* the label 2, but labels must be 0 to 1"
    ):
        load_source(f"tfrecord:{folder}")
    (folder / "labels.txt").write_text("cat\ndog\ncow\nhen\n")
    with pytest.raises(ValueError, match=r"none has the label 3 \('hen'\)"):
        load_source(f"tfrecord:{folder}")


def test_a_test_label_that_no_training_example_has(tmp_path):
    folder = write_set(tmp_path / "set")
    write(folder / "validation-00001-of-00001", [example(-1)])
    with pytest.raises(
        ValueError, match=r"1 test examples .* the label -1, but labels must be 0 to 2"
    ):
        load_source(f"tfrecord:{folder}")


def test_records_that_cannot_be_read_are_named_counted_and_left_out(tmp_path, caplog):
    folder = write_set(tmp_path / "set")
    whole = jpeg(100)
    other = example(1, keys=("image/encoded", "label"))
    broken = [example(0), example(1, whole[: len(whole) // 2]), other, example(2)]
    write(folder / "train-00002-of-00002", broken)
    source = load_source(f"tfrecord:{folder}", corrupt_images=2)
    assert source.train_examples == 8
    assert sorted(labels_of(source.train)) == [0, 0, 0, 1, 1, 2, 2, 2]
    assert sorted(labels_of(source.reordered(5))) == [0, 0, 0, 1, 1, 2, 2, 2]
    assert "record 1 of" in caplog.text
    assert "record 2 of" in caplog.text
    pipeline = Pipeline(source, batch_size=8, image_size=8)
    assert len(list(pipeline.train_batches(0))) == 1
    with pytest.raises(ValueError, match=r"2 records cannot be read, the first is record 1 of"):
        load_source(f"tfrecord:{folder}", corrupt_images=1)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_file_that_is_damaged_is_used_up_to_there(tmp_path, damage, caplog):
    folder = write_set(tmp_path / "set")
    path = write(folder / "train-00002-of-00002", [example(0), example(1), example(2)])
    contents = bytearray(path.read_bytes())
    if damage == "cut":
        contents = contents[:-10]
    else:
        contents[-10] ^= 1
    path.write_bytes(contents)
    source = load_source(f"tfrecord:{folder}", corrupt_images=1)
    assert source.train_examples == 8
    assert "all from record 2 on of" in caplog.text
    assert sorted(labels_of(source.train)) == [0, 0, 0, 1, 1, 1, 2, 2]
    with pytest.raises(ValueError, match="1 records cannot be read"):
        load_source(f"tfrecord:{folder}")


def test_files_are_read_once_until_they_change(tmp_path, cache, monkeypatch):
    folder = write_set(tmp_path / "set")
    first = load_source(f"tfrecord:{folder}")
    assert len(list(cache.iterdir())) == 2
    monkeypatch.setattr(module, "_examined", None)  # would fail
    again = load_source(f"tfrecord:{folder}")
    assert labels_of(again.train) == labels_of(first.train)
    assert again.counts_of_classes() == first.counts_of_classes()
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write(folder / "train-00001-of-00002", [example(label) for label in (0, 1, 2, 2)])
    assert load_source(f"tfrecord:{folder}").train_examples == 7


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": []}', "\ud800"])
def test_a_broken_cache_is_made_again(tmp_path, cache, caplog, content):
    folder = write_set(tmp_path / "set")
    examples = load_source(f"tfrecord:{folder}").train_examples
    whole = {path: path.read_text() for path in cache.iterdir()}
    for path in whole:
        path.write_bytes(content.encode(errors="surrogatepass"))
    assert load_source(f"tfrecord:{folder}").train_examples == examples
    assert "cannot be read" in caplog.text
    assert "It is made again" in caplog.text
    assert {path: path.read_text() for path in cache.iterdir()} == whole


def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert load_source(f"tfrecord:{write_set(tmp_path / 'set')}").train_examples == 6
    assert "the next run reads all images again" in caplog.text


def test_what_the_files_lack(tmp_path):
    folder = write_set(tmp_path / "set")
    for pattern, message in (
        (f"{folder}/none*", "There is no file of train examples"),
        (f"{folder}/train*", "There is no file of test examples"),
        ("a,b,c", "one pattern, or two"),
    ):
        with pytest.raises(ValueError, match=message):
            load_source(f"tfrecord:{pattern}")
    write(tmp_path / "odd" / "train", [example(0, keys=("jpeg", "class"))])
    write(tmp_path / "odd" / "test", [example(0)])
    with pytest.raises(
        ValueError, match=r"have the features class, jpeg, but must have image/encoded and"
    ):
        load_source(f"tfrecord:{tmp_path}/odd")
    write(tmp_path / "odd" / "train", [])
    with pytest.raises(ValueError, match=r"There is no record in .*/odd/train: it is empty"):
        load_source(f"tfrecord:{tmp_path}/odd")


@pytest.mark.parametrize(
    ("pack", "what"),
    [
        (bz2.compress, "it is a bzip2 file, which is not read; unpack it"),
        (lzma.compress, "it is an xz file, which is not read"),
        (lambda data: gzip.compress(gzip.compress(data)), r"it is compressed \(gzip\), but what"),
        (lambda data: b"PAR1" + data, "it is a Parquet file"),
        (lambda data: data[:-3], "it is damaged in its first record, or no TFRecord file"),
    ],
)
def test_a_file_without_a_record_is_said_to_be_what_it_is(tmp_path, pack, what):
    for split in ("train", "test"):
        write(tmp_path / split, [example(0)])
        (tmp_path / split).write_bytes(pack((tmp_path / split).read_bytes()))
    with pytest.raises(ValueError, match=f"There is no record in .*/train: {what}"):
        load_source(f"tfrecord:{tmp_path}")


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
def test_compressed_files_are_read_whatever_their_names(tmp_path, kind):
    plain, folder = write_set(tmp_path / "plain"), tmp_path / "set"
    folder.mkdir()
    for path in plain.iterdir():
        records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
        options = tf.io.TFRecordOptions(kind) if "train" in path.name else None
        with tf.io.TFRecordWriter(str(folder / path.name), options) as writer:
            for record in records:
                writer.write(record)
    source, expected = (load_source(f"tfrecord:{name}") for name in (folder, plain))
    assert labels_of(source.train) == labels_of(expected.train)
    assert labels_of(source.reordered(4)) == labels_of(expected.reordered(4))
    path = folder / "train-00001-of-00002"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"1 records cannot be read, the first is all from record"):
        load_source(f"tfrecord:{folder}")


@pytest.mark.parametrize(
    ("train", "test"),
    [("Training_0", "Testing_0"), ("x.TRAIN.1", "x.eval.1"), ("train/part-0", "valid/part-0")],
)
def test_names_of_splits_are_words_in_names_of_files_or_folders(tmp_path, train, test):
    for name, count in ((train, 2), (test, 1)):
        write(tmp_path / "set" / name, [example(label) for label in range(2)] * count)
    source = load_source(f"tfrecord:{tmp_path}/set")
    assert (source.train_examples, source.test_examples) == (4, 2)


def test_files_that_are_left_out_are_named(tmp_path, caplog):
    folder = write_set(tmp_path / "set")
    write(folder / "test-00000-of-00001", [example(0, jpeg(3))])
    write(folder / "latest-0", [example(0)])
    (folder / "train-2.idx").write_text("0 12")
    (folder / ".train-3.swp").write_text("")
    (folder / "train-4").write_bytes(b"")
    os.mkfifo(folder / "train-5")
    write(folder / "train-00001-of-00004", [example(0)])
    assert load_source(f"tfrecord:{folder}").test_examples == 1
    for text in (
        "1 files of validation, since those of test are tested",
        "1 files whose names say no split",
        "1 files that describe others by their ending",
        "1 hidden files",
        "1 that are no regular files",
        "1 files without a record",
        "3 of 4 files are not there, the first is",
    ):
        assert text in caplog.text


def test_a_file_is_of_one_split(tmp_path):
    folder = write_set(tmp_path / "set")
    with pytest.raises(ValueError, match=r"must share no file, but 1 files .* are in both"):
        load_source(f"tfrecord:{folder}/*,{folder}/val*")
    write(folder / "train_test-0", [example(0)])
    with pytest.raises(ValueError, match="train_test-0 has several splits: test and train"):
        load_source(f"tfrecord:{folder}")


def test_images_that_are_in_both_splits_are_named(tmp_path, caplog):
    load_source(f"tfrecord:{write_set(tmp_path / 'set')}")
    assert "3 test images are training images too, byte for byte" in caplog.text


@pytest.mark.parametrize("label", [200_000_000, 2**62])
def test_a_label_far_out_of_range_is_named_at_once(tmp_path, label):
    folder = write_set(tmp_path / "set")
    write(folder / "train-00001-of-00002", [example(1), example(label, jpeg(1))])
    message = rf"label 3, of .* highest label is {label}, which record 1 of .*train-00001"
    with pytest.raises(ValueError, match=message):
        load_source(f"tfrecord:{folder}")


def odd(**features):
    kinds = {
        bytes: lambda value: tf.train.Feature(bytes_list=tf.train.BytesList(value=value)),
        int: lambda value: tf.train.Feature(int64_list=tf.train.Int64List(value=value)),
    }
    made = {name: kinds[type(value[0])](value) for name, value in features.items()}
    return tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString()


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (odd(image=[jpeg(0)], label=[b"cat"]), "label is a string, not a whole number"),
        (odd(image=[jpeg(0)], label=[1, 2]), "label is not one whole number"),
        (odd(image=[bytes(784)], label=[1]), "it is none of JPEG"),
        (odd(image=[1, 2], label=[1]), "image is not the bytes of one image"),
        (odd(image=[b"II*\0" + bytes(50)], label=[1]), "it is a TIFF image"),
        (odd(image=[jpeg(0)]), "have the features image, but"),
        (b"\xff\xff", "are no tf.train.Example"),
    ],
)
def test_records_that_hold_something_else(tmp_path, record, message):
    for name in ("train", "test"):
        write(tmp_path / "set" / name, [record])
    with pytest.raises(ValueError, match=message):
        load_source(f"tfrecord:{tmp_path}/set")


def test_names_of_classes_are_lines_without_gaps(tmp_path):
    folder = write_set(tmp_path / "set")
    (folder / "labels.txt").write_bytes(b"\xef\xbb\xbfcat\r\ndog\r\ncow\r\n\r\n")
    assert load_source(f"tfrecord:{folder}").class_names == ("cat", "dog", "cow")
    (folder / "labels.txt").write_text("cat\n\ndog\ncow\n")
    with pytest.raises(ValueError, match=r"Line 2 of .*labels.txt is empty"):
        load_source(f"tfrecord:{folder}")
