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
    with pytest.raises(ValueError, match="has 1 folders, but at least two classes"):
        load_source(f"folder:{tmp_path}")
    (tmp_path / "dog").mkdir()
    with pytest.raises(ValueError, match=r"no image .* of the class 'dog'"):
        load_source(f"folder:{tmp_path}")
    put(tmp_path / "dog", "0.png")
    with pytest.raises(ValueError, match="'cat' has 1 image, but at least two"):
        load_source(f"folder:{tmp_path}")
    for split, name in (("train", "cat"), ("train", "dog"), ("test", "cat"), ("test", "cow")):
        put(tmp_path / "both" / split / name, "0.png")
    with pytest.raises(ValueError, match="differ in 'cow'"):
        load_source(f"folder:{tmp_path}/both")
