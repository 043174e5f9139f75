import copy
import json
import runpy
from pathlib import Path

import keras
import numpy as np
import pytest
from ml_collections import ConfigDict, config_dict

from reszoo import words
from reszoo.data import Augmentation, Crop, load_source
from reszoo.layers.normalization import NORMS
from reszoo.layers.shapes import PADDINGS
from reszoo.models import ResNet18, ResNet50V2Keras
from reszoo.models.catalog import MODELS
from reszoo.models.gates import GATES
from reszoo.models.shortcuts import SHORTCUTS
from reszoo.models.stages import STEMS
from reszoo.ranges import (
    Either,
    Exactly,
    Maybe,
    Several,
    Switch,
    Text,
    Whole,
    Word,
)
from reszoo.training import evaluate_run, export_run, predict_run, prepare
from reszoo.training.config import (
    CONDITIONS,
    FIELDS,
    OF_THE_MODEL,
    REQUIRED,
    SECTIONS,
    checked,
    complete,
    flat,
    markdown_table,
    without_effect,
)
from reszoo.training.config_file import read_config
from reszoo.training.losses import ClassificationLoss
from reszoo.training.optimizers import create_learning_rate, create_optimizer

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
LEAST = {"data.name": "digits", "model.name": "resnet18", "optimizer.learning_rate": 0.1}


def config_of(**changes):
    """The smallest configuration, with changes under their full names."""
    fields = {}
    for name, value in (LEAST | changes).items():
        *sections, field = name.split(".")
        inner = fields
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[field] = value
    return ConfigDict(fields)


def refused(name, value, **others):
    with pytest.raises(ValueError, match=r"must") as error:
        checked(config_of(**{**others, name: value}))
    return str(error.value)


def just_outside(kind):
    least, most = kind.least, kind.most
    if isinstance(kind, Whole):
        return [least - 1, most + 1, least + 0.5, most + 1.0]
    low = [least] if kind.above else [np.nextafter(np.float64(least), -np.inf), least - 1]
    high = [most] if kind.below else [np.nextafter(np.float64(most), np.inf), most + 1]
    return [*map(float, low), *map(float, high), most * 1e30]


def bad(kind):
    """Values that a kind does not take."""
    common = [{}, {"a": 1}, object(), b"digits", 1j, {1}, print]
    if isinstance(kind, Maybe):
        return [value for value in bad(kind.values) if value is not None]
    if isinstance(kind, Either):
        return [value for value in bad(kind.first) if not _good(kind.second, value)]
    common.append(None)
    if isinstance(kind, Several):
        one = good(kind.values)[0]
        elements = [(element,) * max(kind.counts or (1,)) for element in bad(kind.values)]
        wrong = [(one,) * (max(kind.counts) + 1), (one,)] if kind.counts else []
        rising = [(2, 1), (1, 1)] if kind.rising else []
        twice = [(one, one)] if kind.distinct else []
        return [*common, one, *elements, *wrong, *rising, *twice, [None], ((1,),)]
    common += [(), [1], np.zeros(2), ("digits",), ConfigDict({"a": 1})]
    if isinstance(kind, Text):
        return [*common, 3, 0.5, True, "a\0b", *([] if kind.empty else ["", " "])]
    if isinstance(kind, Word | Exactly):
        return [*common, "nosuch", "", 3, 0.5, True, "None"]
    if isinstance(kind, Switch):
        return [*common, 0, 1, 1.0, "True", "true", "no"]
    numbers = [float("nan"), float("inf"), -float("inf"), 1e308, 10**400, -(10**400), 2**63]
    return [*common, *numbers, "0.1", "3", True, np.bool_(True), np.nan, *just_outside(kind)]


def good(kind):
    """Values at the ends of what a kind takes."""
    if isinstance(kind, Maybe):
        return [*good(kind.values), None]
    if isinstance(kind, Either):
        return [*good(kind.first), *good(kind.second)]
    if isinstance(kind, Exactly):
        return [kind.value, list(kind.value), *kind.also]
    if isinstance(kind, Several):
        some = [good(kind.values)[:2], list(dict.fromkeys(good(kind.values)))[:2]]
        return [value for value in ([], (), *map(tuple, some), *some) if _fits(kind, value)]
    if isinstance(kind, Text):
        return ["digits", Path("digits")]
    if isinstance(kind, Word):
        return list(kind.words)
    if isinstance(kind, Switch):
        return [True, False, np.bool_(True)]
    if isinstance(kind, Whole):
        ends = [kind.least, kind.most]
        return [*ends, float(kind.least), np.int64(kind.least), np.float32(kind.least)]
    small, large = (float(np.float32(1e-6)), float(np.float32(1 - 1e-6)))
    ends = [kind.least + small if kind.above else kind.least, large if kind.below else kind.most]
    return [*ends, np.float64(ends[0]), np.float32(ends[1])]


def _fits(kind, values):
    return not kind.counts or len(values) in kind.counts


def _good(kind, value):
    try:
        kind.read(value)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_refuses_what_it_does_not_take_by_its_name(name):
    values = bad(FIELDS[name].values)
    assert len(values) >= 9
    for value in values:
        text = refused(name, value)
        assert text.startswith(f"{name} must be {FIELDS[name].values.allowed}, but got"), value
        assert "\n" not in text


# What belongs together, so that each can be at the end of its range.
BESIDE = {
    "data.shift_pixels": {"data.image_size": None},
    "data.crop": {"data.image_size": 8},
    "recording.statistics": {"recording.every_steps": 0},
    "schedule.name": {"schedule.boundaries": (1,)},
}


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_takes_the_ends_of_its_range_in_types_that_json_has(name):
    for value in good(FIELDS[name].values):
        beside = dict(BESIDE.get(name, {}))
        if name in ("data.mean", "data.std"):
            beside = {"data.mean": (0.5,) * len(value), "data.std": (0.5,) * len(value)}
        if name == "model.blocks" and not isinstance(value, tuple | list):
            beside = {"model.name": "residual_mlp"}
        elif name == "model.blocks" and not value:
            continue  # a network without blocks
        found = flat(checked(config_of(**{**beside, name: value})).to_dict())[name]
        json.dumps(found, allow_nan=False)
        assert found in (value, str(value), tuple(value) if isinstance(value, list) else value) or (
            name == "loss.class_weights"
        )


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_may_be_left_out_or_is_asked_for(name):
    config = config_of()
    section, _, field = name.rpartition(".")
    inner = config.get(section, {}) if section else config
    if field in inner:
        del inner[field]
        with pytest.raises(ValueError, match=f"{name} must be given"):
            checked(config)
        assert FIELDS[name].default is REQUIRED
        return
    found = flat(checked(config).to_dict())
    assert found.get(name, OF_THE_MODEL) == FIELDS[name].default


@pytest.mark.parametrize("name", SECTIONS)
@pytest.mark.parametrize("value", [3, None, "sgd", (), [1]])
def test_a_section_is_no_value(name, value):
    others = {of_field: LEAST[of_field] for of_field in LEAST if not of_field.startswith(name)}
    *sections, field = name.split(".")
    fields = config_of(**others).to_dict()
    inner = fields
    for section in sections:
        inner = inner.setdefault(section, {})
    inner[field] = value
    with pytest.raises(ValueError, match=f"^{name} must be a section of fields, but got"):
        checked(ConfigDict(fields))


def test_a_whole_section_may_be_left_out():
    config = config_of()
    assert set(checked(config).to_dict()) == {name.split(".")[0] for name in FIELDS}
    for section in ("data", "model", "optimizer"):
        without = ConfigDict({k: v for k, v in config.to_dict().items() if k != section})
        with pytest.raises(ValueError, match=f"{section}.* must be given"):
            checked(without)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("optimizer.learning_rte", r"Did you mean 'optimizer.learning_rate'\?"),
        ("optimizer.lr", "optimizer has name, learning_rate, momentum"),
        ("epoch", r"Did you mean 'epochs'\?"),
        ("learning_rate", r"Did you mean 'optimizer.learning_rate'\?"),
        ("optimiser", r"Did you mean 'optimizer'\?"),
        ("recording.alarms.vanish", r"Did you mean 'recording.alarms.vanishing'\?"),
        ("recording.vanishing", r"Did you mean 'recording.alarms.vanishing'\?"),
        ("recording.alarms.colour", "recording.alarms has nonfinite, vanishing, "),
        ("data.batch_size", r"Did you mean 'batch_size'\?"),
        ("model.depth", "model has name, weights"),
        ("colour", "A configuration has data, crop, .*, epochs, batch_size"),
    ],
)
def test_a_field_that_there_is_not(name, message):
    with pytest.raises(ValueError, match=f"There is no field '{name}'. {message}"):
        checked(config_of(**{name: 3}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.mean": (0.5,)}, "data.mean and data.std must have as many numbers"),
        ({"data.crop": True}, "data.image_size must be given with data.crop=True"),
        ({"data.image_size": 8, "data.shift_pixels": 8}, "data.shift_pixels must be below"),
        ({"model.blocks": 4}, r"model.blocks of resnet18 must be a tuple, .* \(2, 2, 2, 2\)"),
        ({"model.blocks": ()}, "model.blocks of resnet18 must be a tuple"),
        ({"model.name": "residual_mlp", "model.blocks": (1, 2)}, "must be one whole number"),
        ({"model.name": "residual_mlp", "model.stem": "cifar"}, "model.stem must be left out"),
        ({"recording.statistics": ("variables",)}, "recording.statistics=.* has no statistic of"),
        ({"loss.class_weights": (0, 0.0)}, "loss.class_weights must not be all 0"),
        ({"schedule.name": "step"}, 'schedule.boundaries must be given with schedule.name="step"'),
        ({"recording.statistics": ()}, "recording.statistics=.* has no statistic"),
    ],
)
def test_fields_that_do_not_go_together(changes, message):
    with pytest.raises(ValueError, match=message):
        checked(config_of(**changes))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimizer.momentum", 1 - 1e-9, r"but got 0.999999999 \(which is 1 in float32\)\."),
        ("crop.min_area", 1e-60, r"but got 1e-60 \(which is 0 in float32\)\."),
        ("loggers", ("wandb", "mlfow"), r"\(see element 1, 'mlfow'\)\."),
        ("model.name", "resnet19", r"'resnet19'\. Did you mean 'resnet18' or .*\?$"),
        ("model.activation", "rellu", r"'rellu'\. Did you mean 'relu' or .*\?$"),
        ("data.mean", (*range(500), "a"), r"must be a tuple .{0,400}$"),
    ],
)
def test_an_error_says_what_is_wrong_with_a_value(name, value, message):
    with pytest.raises(ValueError, match=message):
        checked(config_of(**{name: value}))


def test_what_is_no_configuration():
    for value in ({"epochs": 3}, None, 3, "configs/digits_resnet18.py"):
        with pytest.raises(ValueError, match=r"must be an ml_collections\.ConfigDict, but got"):
            checked(value)
    config = config_of()
    config.epochs = config_dict.placeholder(int, required=True)
    with pytest.raises(ValueError, match="has a value that cannot be computed"):
        checked(config)
    config = config_of(seed=3)
    config.epochs = config.get_ref("seed") * 2
    assert checked(config).epochs == 6


@pytest.mark.parametrize(
    "call",
    [
        prepare,
        evaluate_run,
        export_run,
        lambda config, workdir: predict_run(config, workdir, ["a.png"]),
    ],
)
def test_whatever_is_done_with_a_run_checks_its_configuration_before_anything_is_made(
    call, tmp_path
):
    for name, value in {"optimizer.learning_rate": float("nan"), "schedule.factor": -1}.items():
        with pytest.raises(ValueError, match=f"{name} must be a number"):
            call(config_of(**{name: value}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


NEEDED = {
    "crop.max_ratio": (2.0, {"data.crop": True, "data.image_size": 8}),
    "data.corrupt_images": (3, {"data.name": "folder:photos"}),
    "augmentation.rand_augment_strength": (0.2, {"augmentation.rand_augment": 2}),
    "loss.target_threshold": (0.3, {"loss.name": "binary_crossentropy"}),
    "schedule.boundaries": ((3, 4), {"schedule.name": "step"}),
    "schedule.factor": (0.3, {"schedule.name": "step", "schedule.boundaries": (3,)}),
    "schedule.power": (2.0, {"schedule.name": "polynomial"}),
    "recording.statistics": (("weights",), {"recording.every_steps": 1}),
    "recording.alarms.vanishing": (0.5, {"recording.every_steps": 1}),
    "nonfinite.roll_backs": (1, {"nonfinite.action": "roll_back"}),
    "nonfinite.rate_factor": (0.1, {"nonfinite.action": "roll_back"}),
}


@pytest.mark.parametrize("name", NEEDED)
def test_a_field_without_effect_is_found_until_what_it_needs_is_given(name):
    value, needed = NEEDED[name]
    given = {"recording.every_steps": 0, name: value}
    (found,) = without_effect(checked(config_of(**given)))
    assert found.startswith(f"{name}={value!r} (needs ")
    assert not without_effect(checked(config_of(**given | needed)))


def test_every_condition_is_of_a_field_that_is_tried():
    for beginning, _, _ in CONDITIONS:
        assert any(name.startswith(beginning) for name in NEEDED), beginning


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.py")), ids=lambda p: p.name)
def test_no_field_of_the_configurations_is_without_effect(path):
    assert without_effect(read_config(str(path))) == []


def test_a_configuration_is_not_changed_by_a_check():
    config = config_of(**{"data.mean": [0.5], "data.std": [np.float32(0.5)], "epochs": 3.0})
    before = copy.deepcopy(config.to_dict())
    assert checked(config).data.std == (0.5,)
    assert config.to_dict() == before
    assert checked(checked(config)).to_dict() == checked(config).to_dict()


def test_what_an_earlier_run_has_written_is_completed_without_a_check():
    earlier = ConfigDict({"schedule": {"factor": -1}, "gone": 3, "optimizer": None})
    found = complete(earlier).to_dict()
    assert (found["schedule"]["factor"], found["gone"], found["optimizer"]) == (-1, 3, None)
    assert found["schedule"]["name"] == "cosine"


def test_the_words_are_those_of_what_takes_them():
    for name in words.OPTIMIZERS:
        create_optimizer(name, 0.1)
    for name in words.SCHEDULES:
        create_learning_rate(0.1, 0, 100, name=name, boundaries=(3,) * (name == "step"))
    for name in words.LOSSES:
        ClassificationLoss(name)
    for name in words.DTYPES:
        keras.DTypePolicy(name)
    for name in words.DATA_SETS:
        load_source(name)
    assert tuple(MODELS) == words.MODELS
    assert tuple(SHORTCUTS) == words.SHORTCUTS
    assert tuple(GATES) == words.GATES
    assert tuple(NORMS) == words.NORMS
    assert tuple(STEMS) == words.STEMS
    assert tuple(PADDINGS) == words.PADDINGS
    functions = {name for name, each in vars(keras.activations).items() if callable(each)}
    assert functions - {"get", "serialize", "deserialize"} == set(words.ACTIVATIONS)
    ResNet50V2Keras(width=4, strides_at="last")


@pytest.mark.parametrize("section", ["augmentation", "crop"])
def test_the_parts_of_a_pipeline_take_what_their_fields_take(section):
    part = {"augmentation": Augmentation, "crop": Crop}[section]
    for name, field in FIELDS.items():
        if name.startswith(f"{section}."):
            for value in good(field.values):
                part(**{name.removeprefix(f"{section}."): value})


def test_the_fields_of_the_model_are_its_options():
    # These are given by the data, are no text or number, or leave no network of images to train.
    others = {"description", "num_classes", "input_shape", "branch", "features", "spatial_axes"}
    options = ResNet18.options.keys() - others
    of_the_run = {"name", "weights", "frozen"}
    named = {name.removeprefix("model.") for name in FIELDS if name.startswith("model.")}
    assert named - of_the_run == options - {"name"}


def test_the_digits_configuration_names_every_field_that_has_a_default():
    config = runpy.run_path(str(CONFIGS / "digits_resnet18.py"))["get_config"]()
    assert complete(config).to_dict() == config.to_dict() == checked(config).to_dict()


def test_the_cifar_configuration_is_complete_and_its_optimizer_can_be_made():
    config = checked(runpy.run_path(str(CONFIGS / "cifar10_resnet18.py"))["get_config"]())
    rate = create_learning_rate(0.1, 0, 350 * 390, **config.schedule.to_dict())
    found = [float(rate(epoch * 390)) for epoch in (0, 149, 150, 249, 250, 349)]
    assert found == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])


def test_the_documents_table_of_fields_is_that_of_the_code():
    assert markdown_table() in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
