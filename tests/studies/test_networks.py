"""Configurations of the studies' networks, those of the published settings among them."""

import pytest
import requests
import tensorflow_datasets as tfds

from reszoo.gradients.blocks import find_blocks
from reszoo.studies import gradient_by_depth, lesioning, path_lengths
from reszoo.studies.networks import KINDS_OF_NETWORKS, on_digits
from reszoo.studies.trained_cell import train
from reszoo.training.config import checked

STUDIES = (gradient_by_depth, path_lengths, lesioning)


@pytest.mark.parametrize("study", STUDIES)
def test_the_configurations_of_the_published_setting_are_right(study):
    for cell in study.cells("paper"):
        config = checked(study.configuration_of(cell.parameters))
        assert config.data.name == "tfds:cifar10"
        assert sum(config.model.blocks) * 2 + 2 == cell.parameters["depth"]


def test_a_published_setting_trains_on_made_up_images(tmp_path, monkeypatch):
    # A network that answers: what is downloaded is `mock_data`'s.
    monkeypatch.setattr(requests, "head", lambda url, timeout: requests.Response())
    cell = gradient_by_depth.cells("paper")[0]
    config = gradient_by_depth.configuration_of(cell.parameters)
    config.update_from_flattened_dict(
        {"model.blocks": (1, 1, 1), "model.width": 4, "batch_size": 8, "epochs": 1}
    )
    with tfds.testing.mock_data(num_examples=16):
        trained = train(config, tmp_path)
    assert trained.accuracy >= 0


def test_the_kinds_differ_in_their_shortcuts_and_gates_alone():
    configs = [on_digits(kind, 20, 0, 1) for kind in KINDS_OF_NETWORKS]
    assert {config.model.blocks for config in configs} == {(3, 3, 3)}
    options = [set(config.model.items()) for config in configs]
    assert {name for name, _ in set.union(*options) - set.intersection(*options)} == {
        "shortcut",
        "gate",
    }


def test_a_network_without_normalization_has_none():
    from reszoo.models import create_model

    options = checked(on_digits("residual", 8, 0, 1, norm=None)).model.to_dict()
    [options.pop(name) for name in ("weights", "frozen")]
    model = create_model(options.pop("name"), num_classes=10, input_shape=(8, 8, 1), **options)
    assert len(find_blocks(model)) == 3
    assert not any("norm" in weight.path for weight in model.weights)
