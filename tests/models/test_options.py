"""Descriptions of networks: their groups of options, and variants of them."""

import dataclasses
from itertools import chain

import pytest

import reszoo
from reszoo.models import ResidualMLP, ResNet, ResNet18, ResNet50V2
from reszoo.models.branches import Bottleneck
from reszoo.models.stages import Stages


@pytest.mark.parametrize("description", [ResNet18, ResidualMLP])
def test_no_group_has_more_than_seven_options_and_each_option_is_in_one(description):
    names = [[f.name for f in dataclasses.fields(g)] for g in description.groups.values()]
    assert max(map(len, names)) <= 7
    assert len(set(chain(*names))) == len(list(chain(*names)))
    assert not set(chain(*names)) & {"name", "description"}


def test_a_variant_differs_in_what_was_changed_alone():
    variant = ResNet50V2.variant(name="mine", width=8)
    assert (variant.name, variant.stages.width) == ("mine", 8)
    assert variant.description == ResNet50V2.description
    assert variant.block == ResNet50V2.block
    assert variant.normalization.preactivation
    assert ResNet50V2.stages.width == 64


def test_a_description_of_ones_own_takes_its_options_by_name():
    resnet = ResNet("mine", "one block", (1,), stem="cifar", width=4, branch=Bottleneck(groups=2))
    assert resnet.stages == Stages((1,), width=4, stem="cifar")
    assert resnet(num_classes=3, input_shape=(8, 8, 3)).output_shape == (None, 3)
    with pytest.raises(ValueError, match="mine has no option 'widht'"):
        ResNet("mine", "one block", (1,), widht=4)


def test_the_readmes_branch_is_that_of_the_zoo():
    spec = next(ResNet18.stages.specs((4, 4)))
    assert type(ResNet18.block.branch(spec, ResNet18.normalization)) is reszoo.BasicBranch
