import os

import numpy as np
import pytest
from PIL import Image

from reszoo.data import Pipeline, load_source


def put(folder, name, mode="RGB", value=200, **options):
    folder.mkdir(parents=True, exist_ok=True)
    channels = {"RGB": (3,), "RGBA": (4,), "L": ()}[mode]
    pixels = np.full((6, 9, *channels), value, "uint8")
    Image.fromarray(pixels).save(folder / name, **options)


@pytest.fixture
def photos(tmp_path):
    for index in range(5):
        put(tmp_path / "cat", f"{index}.png", value=50)
        put(tmp_path / "dog", f"{index}.jpg")
    put(tmp_path / "dog", "web.webp")
    put(tmp_path / "dog", "gray.jpg", "L")
    put(tmp_path / "dog", "alpha.png", "RGBA")
    return tmp_path


def files(dataset):
    return {name.decode() for name, _ in dataset.as_numpy_iterator()}


def test_every_kind_of_image_becomes_three_channels(photos):
    source = load_source(f"folder:{photos}")
    assert source.class_names == ("cat", "dog")
    assert (source.train_examples, source.test_examples) == (11, 2)
    assert not files(source.train) & files(source.test)
    pipeline = Pipeline(source, batch_size=11, image_size=4)
    images, labels = next(iter(pipeline.train_batches(0)))
    assert images.shape == (11, 4, 4, 3)
    expected = np.where(labels == 0, 50, 200)[:, None] / 255
    np.testing.assert_allclose(images[:, 0, 0], np.repeat(expected, 3, axis=1), atol=0.01)


def test_folders_for_training_and_testing_are_taken_as_they_are(tmp_path):
    for split, count in (("train", 3), ("val", 2)):
        for index in range(count):
            put(tmp_path / split / "cat", f"{index}.png")
            put(tmp_path / split / "dog", f"{index}.png")
    source = load_source(f"folder:{tmp_path}")
    assert (source.train_examples, source.test_examples) == (6, 4)
    assert all("/val/" in name for name in files(source.test))


def test_images_that_cannot_be_read_are_named_counted_and_left_out(photos, caplog):
    whole = (photos / "dog" / "0.jpg").read_bytes()
    (photos / "dog" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "cat" / "text.png").write_text("no image")
    source = load_source(f"folder:{photos}", corrupt_images=2)
    assert source.train_examples + source.test_examples == 13
    assert "1 that cannot be read, since its header is broken" in caplog.text
    assert "(dog/cut.jpg)" in caplog.text
    assert "1 that cannot be read, since it is text, not an image (cat/text.png)" in caplog.text
    with pytest.raises(ValueError, match=r"2 images cannot be read, the first is .*text.png"):
        load_source(f"folder:{photos}", corrupt_images=1)


def test_what_a_folder_lacks(tmp_path):
    with pytest.raises(ValueError, match="There is no folder"):
        load_source(f"folder:{tmp_path}/none")
    put(tmp_path / "cat", "0.png")
    with pytest.raises(ValueError, match="of at least two classes, but has 1 folders"):
        load_source(f"folder:{tmp_path}")
    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match=r"class 'dog' in .* must have an image"):
        load_source(f"folder:{tmp_path}")
    put(tmp_path / "dog", "0.png")
    with pytest.raises(ValueError, match="train and one to test, but 'cat' has 1"):
        load_source(f"folder:{tmp_path}")
    for split, name in (("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "cow")):
        put(tmp_path / "both" / split / name, "0.png")
    with pytest.raises(ValueError, match="must have the same classes, but 'cow'"):
        load_source(f"folder:{tmp_path}/both")


def put_classes(root, *folders, count=6):
    """Images that all differ, in every one of the folders."""
    generator = np.random.default_rng(0)
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 256, (2, 3, 3)).astype("uint8")
            Image.fromarray(pixels).save(root / folder / f"{index}.png")
    return root


def put_splits(root, *splits):
    return put_classes(root, *(f"{split}/{name}" for split in splits for name in ("cat", "dog")))


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "valid"),
        ("train", "validation"),
        ("Train", "Test"),
        ("Training", "Testing"),
        ("TRAIN", "DEV"),
        ("training_set", "test_set"),
        ("train2017", "val2017"),
        ("imagesTrain", "imagesVal"),
    ],
)
def test_splits_have_many_names(tmp_path, train, test):
    source = load_source(f"folder:{put_splits(tmp_path, train, test)}")
    assert (source.class_names, source.train_examples) == (("cat", "dog"), 12)
    assert all(f"/{test}/" in name for name in files(source.test))


def test_a_split_that_is_not_used_is_said(tmp_path, caplog):
    source = load_source(f"folder:{put_splits(tmp_path, 'train', 'valid', 'test', 'extra')}")
    assert all("/test/" in name for name in files(source.test))
    assert "12 validation images, since test images are tested (valid/cat/0.png, " in caplog.text
    assert "1 folders beside those of the splits (extra)" in caplog.text


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog"), r"the same folders \(cat, dog\)"),
        (("cat/train", "cat/test", "dog/train", "dog/test"), r"the same folders \(test, train\)"),
        (("train/a/cat", "train/a/dog", "train/b/cat", "train/b/dog", "test/c"), "same folders"),
        (("train/cat", "train/dog"), "has the split train, but no test or validation"),
        (("test/cat", "val/dog"), "has the split test, val, but no train"),
        (("train/cat", "Train/cat", "test/cat"), "Train and train in .* of the train split"),
        (("train", "test"), "no folders in them"),
        (("data/cat", "data/dog"), r"has 1 folders\. Did you mean .*/data\?"),
        # As an archive with a folder in each folder is unpacked.
        (
            ("seg_train/seg_train/cat", "seg_test/seg_test/cat", "seg_pred/seg_pred"),
            "seg_train, seg_test of .* have the names of splits, but not the same folders",
        ),
    ],
)
def test_folders_whose_classes_are_not_clear(tmp_path, folders, message):
    with pytest.raises(ValueError, match=message):
        load_source(f"folder:{put_classes(tmp_path, *folders, count=1)}")


@pytest.mark.parametrize("beside", ["seg_pred", "seg_pred/images"])
def test_folders_beside_splits_with_longer_names_do_not_make_classes_of_them(
    tmp_path, caplog, beside
):
    put_classes(put_splits(tmp_path, "seg_train", "seg_test"), beside)
    source = load_source(f"folder:{tmp_path}")
    assert (source.class_names, source.train_examples) == (("cat", "dog"), 12)
    assert "1 folders beside those of the splits (seg_pred)" in caplog.text


@pytest.mark.parametrize("name", ["folder:", "folder: ", "tfrecord:"])
def test_a_path_has_to_be_given(name):
    with pytest.raises(ValueError, match=r"must have a path after '(folder|tfrecord):', such as"):
        load_source(name)


def test_classes_may_be_called_as_splits_are_and_have_folders_within(tmp_path):
    put_classes(tmp_path, "train", "bus/images", "test_tube/a", "test_tube/b")
    assert load_source(f"folder:{tmp_path}").class_names == ("bus", "test_tube", "train")


def test_images_stay_in_their_split_when_others_are_added(tmp_path):
    root = put_classes(tmp_path, "cat", "dog", count=40)
    before = load_source(f"folder:{root}").contents
    assert 8 <= len(before.test) <= 24
    for name in ("cat", "dog"):
        for index in range(0, 40, 2):
            (root / name / f"new {index}.png").write_bytes(
                (root / name / f"{index}.png").read_bytes() + b"0"
            )
    now = load_source(f"folder:{root}").contents
    assert before.train.items() < now.train.items()
    assert before.test.items() < now.test.items()


def test_every_class_is_tested_and_trained(tmp_path):
    names = [f"class {number}" for number in range(30)]
    counts = load_source(f"folder:{put_classes(tmp_path, *names, count=2)}").contents.counts
    assert set(counts["train"]) == set(counts["test"]) == {1}


def test_what_is_left_out_is_counted_and_named_by_its_reason(tmp_path, caplog):
    root = put_classes(
        tmp_path, "cat", "cat/.ipynb_checkpoints", "dog", "dog/@eaDir", "__MACOSX/cat", ".hidden"
    )
    (root / "cat" / "._0.png").write_bytes(b"x")
    (root / "cat" / "Thumbs.db").write_bytes(b"x")
    (root / "README.md").write_text("")
    (root / "dog" / "0.tif").write_bytes(b"II*")
    (root / "dog" / "1.TIF").write_bytes(b"II*")
    (root / "dog" / "empty.jpg").write_bytes(b"")
    source = load_source(f"folder:{root}", corrupt_images=1)
    assert source.train_examples + source.test_examples == 12
    for text in (
        "6 hidden files and folders (.hidden, __MACOSX, cat/._0.png, ...)",
        "1 files beside the folders of classes (README.md)",
        "2 files that end in .tif, not in .bmp",
        "1 that cannot be read, since it is an empty file (dog/empty.jpg)",
    ):
        assert text in caplog.text


def test_links_are_followed_once_and_pipes_are_not_read(tmp_path, caplog):
    root = put_classes(tmp_path / "set", "cat", "dog")
    other = put_classes(tmp_path / "other", "cow") / "cow"
    (root / "cow").symlink_to(other)
    (root / "cat" / "loop").symlink_to(root)
    (root / "cat" / "link.png").symlink_to(root / "cat" / "0.png")
    (root / "cat" / "dead.png").symlink_to(root / "cat" / "dead.png")
    (root / "cat" / "zero.png").symlink_to("/dev/zero")
    os.mkfifo(root / "cat" / "pipe.jpg")
    (root / "cat" / "folder.jpg").mkdir()
    source = load_source(f"folder:{root}")
    assert source.class_names == ("cat", "cow", "dog")
    assert source.train_examples + source.test_examples == 18
    assert "2 links to what is there already (cat/link.png, cat/loop)" in caplog.text
    assert "3 that are no regular files, or lead nowhere (cat/dead.png, cat/pipe" in caplog.text


def test_copies_in_both_splits_or_in_several_classes_are_named(tmp_path, caplog):
    root = put_splits(tmp_path, "train", "test")
    (root / "test" / "cat" / "copy.png").write_bytes((root / "train/cat/0.png").read_bytes())
    (root / "train" / "cat" / "copy.png").write_bytes((root / "train/dog/1.png").read_bytes())
    source = load_source(f"folder:{root}")
    assert (source.train_examples, source.test_examples) == (13, 13)
    assert "1 test images are training images too, byte for byte" in caplog.text
    assert "in several classes (train/cat/copy.png, train/dog/1.png)" in caplog.text


def test_names_are_bytes_but_those_of_classes_are_texts(tmp_path):
    root = put_classes(tmp_path, "cat", "dog")
    name = os.path.join(root, "dog", os.fsdecode(b"caf\xe9.png"))
    with open(name, "wb") as file:
        file.write((root / "dog" / "0.png").read_bytes())
    source = load_source(f"folder:{root}")
    assert source.train_examples + source.test_examples == 13
    assert len(source.digest) == 64
    (root / "dog").rename(os.path.join(root, os.fsdecode(b"d\xf6g")))
    with pytest.raises(ValueError, match="is not UTF-8"):
        load_source(f"folder:{root}")
