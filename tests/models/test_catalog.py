"""Models by name, and the document that lists them."""

from pathlib import Path

import pytest

import reszoo
from reszoo.models import create_model, list_models

from .test_resnet import PARAMETERS

DOCUMENT = Path(__file__).parents[2] / "docs" / "models.md"


def test_every_model_has_a_description_of_one_line():
    for name, description in list_models().items():
        assert description, name
        assert "\n" not in description


def test_wildcards_filter():
    assert list(list_models("resnet1*_1d")) == ["resnet101_1d", "resnet152_1d", "resnet18_1d"]
    assert list_models("densenet*") == {}


def test_models_are_public():
    assert reszoo.ResNet50D(num_classes=3, width=8).name == "resnet50d"
    assert reszoo.list_models is list_models
    with pytest.raises(AttributeError, match="ResNet51"):
        _ = reszoo.ResNet51


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(ValueError, match="resnext50_32x4d"):
        create_model("resnext50")


def test_the_document_lists_every_model():
    text = DOCUMENT.read_text(encoding="utf-8")
    for name, description in list_models().items():
        row = f"| `{name}` | {description} | "
        assert row in text
        if name in PARAMETERS:
            assert f"{row}{PARAMETERS[name]:,} |" in text
