import numpy as np
import pytest
from PIL import Image

from reszoo.data import load_source
from reszoo.training import predict_run
from reszoo.training.run import create_pipeline
from reszoo.training.signature import signature_of


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


def test_predicting_without_the_data(config, workdir, files):
    files, _ = files
    expected = predict_run(config, workdir, files)
    signature_of(create_pipeline(config)).write(workdir)
    config.data.name = "folder:/no/longer/here"
    assert predict_run(config, workdir, files) == expected


def test_what_is_missing(config, workdir):
    with pytest.raises(ValueError, match="Give --images"):
        predict_run(config, workdir, [])
    with pytest.raises(ValueError, match=r"none.png cannot be read"):
        predict_run(config, workdir, ["none.png"])
