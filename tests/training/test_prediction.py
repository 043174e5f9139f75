import numpy as np
import pytest
from PIL import Image

from reszoo.data import load_source
from reszoo.training import predict_run


def test_predicting_images(config, workdir, capsys):
    images, labels = next(iter(load_source("digits").test.batch(20)))
    files = [str(workdir / f"{index}.png") for index in range(20)]
    for file, image in zip(files, images.numpy(), strict=True):
        Image.fromarray((image[..., 0] * 255).round().astype("uint8")).save(file)
    answers = predict_run(config, workdir, files)
    right = [name == str(label) for (name, _), label in zip(answers, labels.numpy(), strict=True)]
    assert np.mean(right) > 0.7
    assert f"{files[0]}: {answers[0][0]} ({answers[0][1]:.1%})" in capsys.readouterr().out


def test_what_is_missing(config, workdir):
    with pytest.raises(ValueError, match="Give --images"):
        predict_run(config, workdir, [])
    with pytest.raises(ValueError, match=r"none.png cannot be read"):
        predict_run(config, workdir, ["none.png"])
