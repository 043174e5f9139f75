import json
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

from reszoo.data import load_source
from reszoo.training import predict_run
from reszoo.training.data_description import describe_data
from reszoo.training.pipeline import create_pipeline


@pytest.fixture
def files(workdir):
    """Twenty digits as files, and their labels."""
    images, labels = next(iter(load_source("digits").test.batch(20)))
    files = [str(workdir / f"{index}.png") for index in range(20)]
    for file, image in zip(files, images.numpy(), strict=True):
        Image.fromarray((image[..., 0] * 255).round().astype("uint8")).save(file)
    return files, labels.numpy()


def test_predicting_images(config, workdir, files, capsys):
    files, labels = files
    answers = predict_run(config, workdir, files)
    right = [name == str(label) for (name, _), label in zip(answers, labels, strict=True)]
    assert np.mean(right) > 0.7
    assert f"{files[0]}: {answers[0][0]} ({answers[0][1]:.1%})" in capsys.readouterr().out


def test_photos_are_turned_as_they_were_taken(config, workdir, files):
    file, turned = files[0][0], str(workdir / "turned.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.open(file).transpose(Image.Transpose.ROTATE_90).save(turned, exif=exif)
    expected, answer = predict_run(config, workdir, [file, turned])
    assert answer == pytest.approx(expected)


def test_predicting_without_the_data(config, workdir, files):
    files, _ = files
    expected = predict_run(config, workdir, files)
    describe_data(create_pipeline(config)).write(workdir)
    config.data.name = "folder:/no/longer/here"
    assert predict_run(config, workdir, files) == expected


def test_what_is_missing(config, workdir):
    with pytest.raises(ValueError, match="Give --images"):
        predict_run(config, workdir, [])
    with pytest.raises(ValueError, match=r"none.png cannot be read"):
        predict_run(config, workdir, ["none.png"])


def broken_data(shape=(8, 8, 1), names=tuple("0123456789"), **more):
    return json.dumps({"image_shape": shape, "class_names": names, **more}).encode()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (broken_data()[:40], "in column"),
        (b"\xff" + broken_data(), "its byte 1 is not UTF-8"),
        (b"[]", "it must be an object"),
        (b'{"image_shape": [8, 8, 1]}', "it has no 'class_names'"),
        (broken_data(names="0123456789"), "'class_names' must be a list"),
        (broken_data(shape=(8, 8)), "'image_shape' must have 3 items, but has 2"),
        (broken_data(shape=(8, 8.5, 1)), "'image_shape'[1] must be a whole number, but is 8.5"),
        (broken_data(shape=(8, 0, 1)), "a height, a width and 1 or 3 channels"),
        (broken_data(shape=(8, 8, 2)), "a height, a width and 1 or 3 channels"),
        (broken_data(names=tuple("012345678")), "and 9 classes"),
        (broken_data(shape=(8, 8, 3)), "images of (8, 8, 3)"),
    ],
)
def test_broken_data_of_a_run_is_one_sentence(config, workdir, files, content, reason):
    (workdir / "data.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"\.(json|keras) ") as error:
        predict_run(config, workdir, files[0])
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_broken_model_is_one_sentence(config, workdir, files):
    path = workdir / "model.keras"
    whole = path.read_bytes()

    def refusal():
        with pytest.raises(ValueError, match=r"model\.keras .*start the run again") as error:
            predict_run(config, workdir, files[0][:1])
        assert "\n" not in str(error.value)
        return str(error.value)

    for content in (b"", whole[:2000], whole[:-300], b"text"):
        path.write_bytes(content)
        assert "cannot be loaded" in refusal()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{")
    assert "cannot be loaded" in refusal()

    class Own(keras.layers.Layer):
        pass

    keras.Sequential([keras.Input((8, 8, 1)), Own()]).save(path)
    assert "Own" in refusal()
    path.unlink()
    path.mkdir()
    assert "cannot be loaded" in refusal()


def test_a_model_with_a_weight_that_is_not_finite_is_refused(config, workdir, files):
    model = keras.models.load_model(workdir / "model.keras")
    model.weights[1].assign(np.full(10, np.nan))
    model.save(workdir / "model.keras")
    with pytest.raises(ValueError, match=r"dense.*/bias' in .* is not finite"):
        predict_run(config, workdir, files[0])


@pytest.mark.parametrize("shape", [(10,), (8, 8, 3), (9, 9, 1)])
def test_the_model_of_another_run_is_refused(config, workdir, files, shape):
    other = keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(10)])
    other.save(workdir / "model.keras")
    with pytest.raises(ValueError, match="Give the configuration that it was trained with"):
        predict_run(config, workdir, files[0])
