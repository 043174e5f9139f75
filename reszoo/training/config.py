"""The configuration of a run: a table of its fields, with defaults and ranges, and its check."""

import dataclasses
import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

import reszoo.words as words
from reszoo.gradients.statistics import SETS, statistics_of
from reszoo.ranges import (
    Either,
    Exactly,
    Maybe,
    Number,
    Several,
    Switch,
    Text,
    Values,
    Whole,
    Word,
    check,
    shown,
)
from reszoo.training.loggers import LOGGERS

REQUIRED = "required"
OF_THE_MODEL = "the model's"

LARGE = 1e9  # above any number of a sensible training
LARGEST_EPOCHS = 999_999  # the names of checkpoints have six digits for epochs
LARGEST_STEPS = 2**31 - 1
LARGEST_SIDE = 16_384  # pixels, and filters
LARGEST_SEED = 2**32 - 1  # the largest that NumPy takes

_EPOCHS = Whole(0, LARGEST_EPOCHS)
_STEPS = Whole(0, LARGEST_STEPS)
_SHARE = Number(0, 1)
_PART = Number(0, 1, below=True)
_FACTOR = Number(0, 1, above=True)
_FROM_ZERO = Number(0, LARGE)
_FILTERS = Whole(1, LARGEST_SIDE)
_SWITCH = Switch()


@dataclasses.dataclass(frozen=True)
class Field:
    """A field of a configuration.

    Args:
        values: Range of the field's values.
        default: Value where a configuration leaves the field out; `REQUIRED` where it must be
            given, `OF_THE_MODEL` where each model has a default of its own.
        meaning: Description of the field, for the document.
    """

    values: Values
    default: Any
    meaning: str


FIELDS = {
    "data.name": Field(Text("digits"), REQUIRED, "the data set, as above"),
    "data.image_size": Field(
        Maybe(Whole(1, LARGEST_SIDE)),
        None,
        "height and width, in pixels, to which images are resized; `None`: as they are",
    ),
    "data.shift_pixels": Field(
        Whole(0, LARGEST_SIDE), 0, "random shifts of training images: pad and crop"
    ),
    "data.flip": Field(_SWITCH, False, "mirrors half of the training images"),
    "data.crop": Field(
        _SWITCH,
        False,
        "cuts a random part out of training images, and the middle out of test images",
    ),
    "data.mean": Field(
        Several(Number(-LARGE, LARGE), "(0.5,)"),
        (),
        "of each channel, which the model subtracts from its images; `()`: it does not",
    ),
    "data.std": Field(
        Several(Number(0, LARGE, above=True), "(0.2,)"),
        (),
        "of each channel, which the model then divides by",
    ),
    "data.corrupt_images": Field(
        Whole(0, LARGEST_STEPS), 0, "images of a folder or of TFRecords that may be unreadable"
    ),
    "crop.min_area": Field(_FACTOR, 0.08, "least share of the area, of the random part"),
    "crop.max_ratio": Field(Number(1, 100), 4 / 3, "greatest ratio of its sides"),
    "crop.test_share": Field(
        _FACTOR,
        0.875,
        "side of the middle part, over the shorter side of the image; 0.875 is 224 out of 256",
    ),
    "crop.test_image_size": Field(
        Whole(0, LARGEST_SIDE), 0, "pixels of test images, if others than those of training"
    ),
    "augmentation.label_smoothing": Field(
        _PART, 0.0, "share of each label that is spread over all classes"
    ),
    "augmentation.mixup": Field(_FROM_ZERO, 0.0, "`alpha` of mixup; 0: none"),
    "augmentation.cutmix": Field(_SHARE, 0.0, "`factor` of CutMix; 0: none"),
    "augmentation.rand_augment": Field(
        Whole(0, 100), 0, "operations of RandAugment on each image; 0: none"
    ),
    "augmentation.rand_augment_strength": Field(_SHARE, 0.5, "how strong each is"),
    "augmentation.random_erasing": Field(
        _SHARE, 0.0, "share of the images in which a rectangle is erased"
    ),
    "model.name": Field(
        Word(words.MODELS, "the name of a model that reszoo.models.list_models() gives"),
        REQUIRED,
        "a name that `reszoo.models.list_models` gives",
    ),
    "model.weights": Field(
        Text("weights.safetensors", empty=True),
        "",
        "what it starts from: anything that `reszoo.load_weights` takes",
    ),
    "model.frozen": Field(_SWITCH, False, "whether only the last layer is trained"),
    "model.stem": Field(Maybe(Word(words.STEMS)), OF_THE_MODEL, "the layers before the blocks"),
    "model.width": Field(
        Maybe(Either(_FILTERS, Several(_FILTERS, "(32, 64, 128)"))),
        OF_THE_MODEL,
        "filters of the first stage, which each stage doubles, or of each stage",
    ),
    "model.stem_width": Field(Maybe(_FILTERS), OF_THE_MODEL, "filters of the stem"),
    "model.blocks": Field(
        Either(Several(Whole(1, 1000), "(2, 2, 2, 2)"), Whole(1, 1000)),
        OF_THE_MODEL,
        "blocks of each stage; of `residual_mlp` one number",
    ),
    "model.shortcut": Field(Maybe(Word(words.SHORTCUTS)), OF_THE_MODEL, "of every block"),
    "model.gate": Field(Maybe(Word(words.GATES)), OF_THE_MODEL, "how the two paths meet"),
    "model.norm": Field(Maybe(Word(words.NORMS)), OF_THE_MODEL, "normalization"),
    "model.activation": Field(
        Word(words.ACTIVATIONS, "the name of one of keras.activations"),
        OF_THE_MODEL,
        "of every layer",
    ),
    "model.zero_init_last_scale": Field(
        _SWITCH, OF_THE_MODEL, "whether the last normalization of a block starts with scale zero"
    ),
    "model.drop_path": Field(
        _PART, OF_THE_MODEL, "share of the examples that drop the last block's branch"
    ),
    "model.branch_scale": Field(
        Maybe(Number(-LARGE, LARGE)), OF_THE_MODEL, "start of a learned scale of each branch"
    ),
    "model.squeeze_excitation": Field(
        Whole(0, LARGEST_SIDE), OF_THE_MODEL, "channels per unit of it in each branch; 0: none"
    ),
    "model.output_stride": Field(
        Maybe(Whole(1, LARGEST_SIDE)), OF_THE_MODEL, "largest stride; later stages dilate instead"
    ),
    "model.preactivation": Field(
        _SWITCH, OF_THE_MODEL, "whether normalization and activation come before a convolution"
    ),
    "model.pooled_projection": Field(
        _SWITCH, OF_THE_MODEL, "whether projections average over pixels instead of skipping them"
    ),
    "model.strides_at": Field(
        Word(words.STRIDES_AT), OF_THE_MODEL, "which block of a stage has the stride"
    ),
    "model.stage_strides": Field(
        Maybe(Several(Whole(1, LARGEST_SIDE), "(1, 2, 2, 2)")),
        OF_THE_MODEL,
        "stride of each stage, in pixels",
    ),
    "model.padding": Field(
        Word(words.PADDINGS),
        OF_THE_MODEL,
        "of layers with a stride: weights fit any, and give the outputs of one",
    ),
    "model.remat": Field(
        _SWITCH, OF_THE_MODEL, "whether blocks recompute activations: less memory, more time"
    ),
    "model.head_bias": Field(_SWITCH, OF_THE_MODEL, "whether the logits have a bias"),
    "loss.name": Field(
        Word(words.LOSSES),
        "categorical_crossentropy",
        "the binary one takes each class as a question of its own",
    ),
    "loss.class_weights": Field(
        Either(Several(_FROM_ZERO, "(1.0, 2.0)"), Exactly(("balanced",), also=("balanced",))),
        (),
        'a number for each class, or `("balanced",)`; tests leave them out; `()`: none',
    ),
    "loss.target_threshold": Field(
        _PART, 0.0, "share of a mixed label that counts as right, for the binary loss"
    ),
    "optimizer.name": Field(
        Word(words.OPTIMIZERS),
        "sgd",
        "`sgd` is Nesterov's; `muon` is for matrices, the rest is updated as by `adamw`",
    ),
    "optimizer.learning_rate": Field(
        Number(1e-30, 1e6), REQUIRED, "the highest rate, at the end of the warmup"
    ),
    "optimizer.momentum": Field(_PART, 0.9, "of SGD and Muon; `beta_1` of AdamW and LAMB"),
    "optimizer.weight_decay": Field(
        Number(0, 1e6), 0.0, "decoupled; biases, scales and offsets do not decay"
    ),
    "optimizer.warmup_epochs": Field(
        Number(0, LARGEST_EPOCHS),
        0.0,
        "the rate rises for so long; half of the run at most",
    ),
    "optimizer.clip_norm": Field(_FROM_ZERO, 0.0, "bound of the norm of the gradient; 0: none"),
    "optimizer.ema_momentum": Field(
        _PART, 0.0, "averaged weights, which are what is tested and saved; 0: none"
    ),
    "optimizer.accumulation_steps": Field(Whole(1, LARGEST_STEPS), 1, "batches an update"),
    "schedule.name": Field(Word(words.SCHEDULES), "cosine", "how the rate falls"),
    "schedule.boundaries": Field(
        Several(Whole(1, LARGEST_STEPS), "(32000, 48000)", rising=True), (), 'steps, for `"step"`'
    ),
    "schedule.factor": Field(_FACTOR, 0.1, "what the rate is multiplied by at each of them"),
    "schedule.power": Field(Number(0, 100), 1.0, 'for `"polynomial"`; 1 is a straight line'),
    "recording.every_steps": Field(_STEPS, 10, "steps from one record to the next; 0: none"),
    "recording.statistics": Field(
        Several(Word(tuple(SETS)), '("paths", "weights")', distinct=True),
        ("paths", "weights"),
        "sets of [statistics](statistics.md)",
    ),
    "recording.path_lengths": Field(
        Whole(0, 1_000_000),
        0,
        "sets of blocks drawn for each length of a path, before the first step and after every "
        "epoch, on one device; each costs a backward pass of 32 images; 0: none",
    ),
    "recording.alarms.nonfinite": Field(
        _SWITCH, True, "alarm: a gradient has values that are not finite"
    ),
    "recording.alarms.vanishing": Field(
        _SHARE,
        1e-3,
        "alarm: the gradient that leaves the first block is below this share of the last block's; "
        "0: none",
    ),
    "recording.alarms.exploding": Field(
        _FROM_ZERO, 1e3, "alarm: it is above this multiple of the last block's; 0: none"
    ),
    "recording.alarms.dead_branch": Field(
        _STEPS,
        3,
        "alarm: nothing comes back through a branch in so many recorded steps in a row; 0: none",
    ),
    "recording.alarms.saturated_scale": Field(
        _PART,
        0.0,
        "alarm: more than this share of a batch normalization's scales is next to zero; 0: none",
    ),
    "checkpoint.every_steps": Field(
        _STEPS, 0, "steps from one checkpoint to the next, beside one after every epoch; 0: none"
    ),
    "checkpoint.keep": Field(Whole(1, LARGEST_STEPS), 2, "how many of the latest are kept"),
    "best.figure": Field(
        Word(("val_accuracy", "val_loss")), "val_accuracy", "by which an epoch is the best"
    ),
    "best.patience": Field(
        _EPOCHS, 0, "ends the run after so many epochs without a better one; 0: never"
    ),
    "tensorboard.examples": Field(_SWITCH, True, "training images, as the model sees them"),
    "tensorboard.graph": Field(_SWITCH, True, "the model"),
    "tensorboard.confusion_every_epochs": Field(
        _EPOCHS, 0, "confusion matrices beside the one at the end; 0: none"
    ),
    "tensorboard.profile_steps": Field(
        Several(_STEPS, "(30, 40)", counts=(0, 2), rising=True),
        (),
        "first step of a profile, and the one after its last; `()`: none",
    ),
    "nonfinite.action": Field(
        Word(("stop", "roll_back")), "stop", "when the loss or a weight is not a finite number"
    ),
    "nonfinite.rate_factor": Field(_FACTOR, 0.5, "of the learning rate, after a roll-back"),
    "nonfinite.roll_backs": Field(Whole(0, LARGEST_STEPS), 3, "after so many the run stops"),
    "loggers": Field(
        Several(Word(tuple(LOGGERS)), '("wandb",)', distinct=True), (), "as above; `()`: none"
    ),
    "strategy": Field(Word(words.STRATEGIES), "auto", "[where the run is](scaling.md)"),
    "steps_per_loop": Field(
        Whole(1, LARGEST_STEPS), 1, "steps, at most, before the devices come back to the host"
    ),
    "epochs": Field(Whole(1, LARGEST_EPOCHS), 12, "how long"),
    "batch_size": Field(Whole(1, LARGEST_STEPS), 64, "images in a batch, over all devices"),
    "seed": Field(Whole(0, LARGEST_SEED), 0, "of all that is drawn at random"),
    "dtype": Field(Word(words.DTYPES), "float32", "Keras's dtype policy"),
    "jit_compile": Field(_SWITCH, False, "whether steps are compiled by XLA"),
}


def _sections_of(name: str) -> list[str]:
    """Returns the sections around a field, the outermost first."""
    return [name[:index] for index, letter in enumerate(name) if letter == "."]


SECTIONS = tuple(dict.fromkeys(section for name in FIELDS for section in _sections_of(name)))


def complete(config: ConfigDict) -> ConfigDict:
    """Returns a configuration with all defaults filled in, without checking it.

    Args:
        config: The configuration; it is not changed.

    Returns:
        Another configuration.

    Example:

    >>> complete(ConfigDict({"checkpoint": {"keep": 5}})).checkpoint.to_dict()
    {'every_steps': 0, 'keep': 5}
    """
    given = dict(_given(_plain(config)))
    defaults = {
        name: field.default
        for name, field in FIELDS.items()
        if field.default not in (REQUIRED, OF_THE_MODEL)
        and given.keys().isdisjoint(_sections_of(name))
    }
    return ConfigDict(_nested(defaults | given))


def checked(config: ConfigDict) -> ConfigDict:
    """Returns a configuration with all defaults filled in and every value checked.

    NumPy's numbers become Python's, and lists become tuples. It imports Keras, for the options of
    the model.

    Args:
        config: The configuration; it is not changed.

    Returns:
        Another configuration.

    Raises:
        ValueError: If a field does not exist, is missing, or is outside its range.

    Example:

    >>> checked(ConfigDict({"data": {"name": "digits"}, "model": {"name": "resnet18"}}))
    Traceback (most recent call last):
    ...
    ValueError: optimizer.learning_rate must be given: a number of at least 1e-30 and ...
    """
    found = checked_without_keras(config)
    _check_options_of_the_model(dict(_given(found.to_dict())))
    return found


def checked_without_keras(config: ConfigDict) -> ConfigDict:
    """Returns a configuration as `checked` does, but for the checks that need Keras.

    Args:
        config: The configuration; it is not changed.

    Raises:
        ValueError: If a field does not exist, is missing, or is outside its range.
    """
    given = dict(_given(_plain(config)))
    for name, value in given.items():
        check_name(name, value)
    values = dict(_given(complete(config).to_dict()))
    for name, field in FIELDS.items():
        if field.default is REQUIRED and name not in values:
            raise ValueError(f"{name} must be given: {field.values.allowed}.")
    read = {name: check(name, value, FIELDS[name].values) for name, value in values.items()}
    for rule in RULES:
        rule(read)
    return ConfigDict(_nested(read))


def check_name(name: str, value: Any = None) -> None:
    """Checks that a field exists.

    Args:
        name: The full name, with that of its section, such as `"data.name"`.
        value: The value given to it, for the error.

    Raises:
        ValueError: If there is no such field.
    """
    if name in SECTIONS:
        fields = ", ".join(f"{name}.{field}" for field in _fields_of(name))
        raise ValueError(
            f"{name} must be a section of fields, but got {shown(value)}. Its fields are {fields}."
        )
    if name not in FIELDS:
        raise ValueError(f"There is no field {name!r}. {_advice(name)}")


def flat(fields: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns nested fields in one dictionary, by their full names.

    Args:
        fields: Fields by name; the values of sections are dictionaries.
        prefix: Text before each name.

    Example:

    >>> flat({"epochs": 3, "data": {"name": "digits"}})
    {'epochs': 3, 'data.name': 'digits'}
    """
    found = {}
    for name, value in fields.items():
        inner = (
            flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
        found |= inner
    return found


def markdown_table() -> str:
    """Returns the table of all fields, as `docs/training.md` has it."""
    lines = ["| field | default | must be | what it does |", "|---|---|---|---|"]
    for name, field in FIELDS.items():
        own = field.default in (REQUIRED, OF_THE_MODEL)
        default = field.default if own else f"`{_rounded(field.default)!r}`"
        lines.append(f"| `{name}` | {default} | {field.values.allowed} | {field.meaning} |")
    return "\n".join(lines) + "\n"


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value


def _plain(config: Any) -> dict[str, Any]:
    """Returns a configuration as a dictionary."""
    if not hasattr(config, "to_dict"):
        raise ValueError(
            "The configuration must be an ml_collections.ConfigDict, but got "
            f"{shown(config)}. Give ConfigDict(...) of a dictionary."
        )
    try:
        return config.to_dict()
    except Exception as error:  # raised by a placeholder or a computed reference
        raise ValueError(
            f"The configuration has a value that cannot be computed ({type(error).__name__}: "
            f"{error})."
        ) from error


def _given(fields: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the fields by their full names; only sections are looked into."""
    for name, value in fields.items():
        if f"{prefix}{name}" in SECTIONS and isinstance(value, dict):
            yield from _given(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    nested = {}
    for name, value in values.items():
        section, _, field = name.rpartition(".")
        inner = nested
        for outer in section.split(".") * (section in SECTIONS):
            inner = inner.setdefault(outer, {})
        inner[field if section in SECTIONS else name] = value
    return nested


def _fields_of(section: str) -> list[str]:
    inside = f"{section}."
    return [name.removeprefix(inside) for name in FIELDS if name.startswith(inside)]


def _advice(name: str) -> str:
    section, _, leaf = name.rpartition(".")
    elsewhere = [field for field in FIELDS if field.rpartition(".")[2] == leaf]
    if near := elsewhere or _near(name, section, leaf):
        return f"Did you mean {' or '.join(map(repr, near))}?"
    names = _fields_of(section) if section in SECTIONS else [*SECTIONS, *_without_section()]
    return f"{section if section in SECTIONS else 'A configuration'} has {', '.join(names)}."


def _near(name: str, section: str, leaf: str) -> list[str]:
    if section in SECTIONS:
        near = difflib.get_close_matches(leaf, _fields_of(section), cutoff=0.7)
        return [f"{section}.{field}" for field in near]
    return difflib.get_close_matches(name, [*FIELDS, *SECTIONS], cutoff=0.7)


def _without_section() -> list[str]:
    return [name for name in FIELDS if "." not in name]


def _known_data_set(values: Mapping[str, Any]) -> None:
    try:
        words.check_data_set(values["data.name"])
    except ValueError as error:
        raise ValueError(f"data.name must be the name of a data set. {error}") from error


def _as_many_means_as_deviations(values: Mapping[str, Any]) -> None:
    mean, std = values["data.mean"], values["data.std"]
    if len(mean) != len(std):
        raise ValueError(
            "data.mean and data.std must have as many numbers, one a channel, but got "
            f"{mean} and {std}."
        )


def _size_of_crops(values: Mapping[str, Any]) -> None:
    if values["data.crop"] and values["data.image_size"] is None:
        raise ValueError(
            "data.image_size must be given with data.crop=True, for the parts that are cut out "
            "differ in size; for example 224."
        )


def _shift_within_image(values: Mapping[str, Any]) -> None:
    size, shift = values["data.image_size"], values["data.shift_pixels"]
    if size is not None and shift >= size:
        raise ValueError(
            f"data.shift_pixels must be below data.image_size, {size}, but got {shift}."
        )


def _weights_not_all_zero(values: Mapping[str, Any]) -> None:
    weights = values["loss.class_weights"]
    if weights and not any(weights):
        raise ValueError(f"loss.class_weights must not be all 0, but got {weights}.")


def _steps_to_fall_at(values: Mapping[str, Any]) -> None:
    if values["schedule.name"] == "step" and not values["schedule.boundaries"]:
        raise ValueError(
            'schedule.boundaries must be given with schedule.name="step": steps, rising, for '
            "example (32000, 48000)."
        )


def _check_options_of_the_model(values: Mapping[str, Any]) -> None:
    """Checks the options of the chosen network, of which some take blocks as one number."""
    from reszoo.models.catalog import MODELS

    description = MODELS[values["model.name"]]
    options = description.options
    for name in values:
        option = name.removeprefix("model.")
        if name != option and option not in {*options, "weights", "frozen"}:
            raise ValueError(f"{name} must be left out: {description.name} has no such option.")
    blocks = values.get("model.blocks", options["blocks"])
    several = isinstance(options["blocks"], tuple)
    if not blocks or isinstance(blocks, tuple) != several:
        raise ValueError(
            f"model.blocks of {description.name} must be "
            f"{'a tuple, a number for each stage' if several else 'one whole number'}, such as "
            f"{options['blocks']}, but got {blocks}."
        )


def _something_to_record(values: Mapping[str, Any]) -> None:
    if not values["recording.every_steps"]:
        return
    try:
        statistics_of(values["recording.statistics"])
    except ValueError as error:
        raise ValueError(
            f"recording.{error} To record nothing, give recording.every_steps=0."
        ) from error


def _has_schedule(name: str) -> Callable[[Mapping[str, Any]], bool]:
    return lambda values: values["schedule.name"] == name


RULES = (
    _known_data_set,
    _as_many_means_as_deviations,
    _size_of_crops,
    _shift_within_image,
    _weights_not_all_zero,
    _steps_to_fall_at,
    _something_to_record,
)

# Fields that have an effect only where another field has a certain value: their name or common
# beginning; that value, in words; and a function that says whether the other field has it.
CONDITIONS = (
    ("crop.", "data.crop=True", lambda values: values["data.crop"]),
    (
        "data.corrupt_images",
        'a data set "folder:" or "tfrecord:"',
        lambda values: values["data.name"].startswith(("folder:", "tfrecord:")),
    ),
    (
        "augmentation.rand_augment_strength",
        "augmentation.rand_augment",
        lambda values: values["augmentation.rand_augment"] > 0,
    ),
    (
        "loss.target_threshold",
        'loss.name="binary_crossentropy"',
        lambda values: values["loss.name"] == "binary_crossentropy",
    ),
    *(
        (f"schedule.{field}", f'schedule.name="{name}"', _has_schedule(name))
        for field, name in (("boundaries", "step"), ("factor", "step"), ("power", "polynomial"))
    ),
    (
        "recording.statistics",
        "recording.every_steps",
        lambda values: values["recording.every_steps"] > 0,
    ),
    (
        "recording.alarms.",
        'recording.every_steps and the set "paths" of recording.statistics',
        lambda values: (
            values["recording.every_steps"] > 0 and "paths" in values["recording.statistics"]
        ),
    ),
    *(
        (
            f"nonfinite.{field}",
            'nonfinite.action="roll_back"',
            lambda values: values["nonfinite.action"] == "roll_back",
        )
        for field in ("rate_factor", "roll_backs")
    ),
)


def without_effect(config: ConfigDict) -> list[str]:
    """Returns the fields that differ from their defaults but have no effect in a configuration.

    Args:
        config: A configuration that `checked` returned.

    Returns:
        The fields with their values, each with the value of another field that it needs.

    Example:

    >>> fields = {"data": {"name": "digits"}, "model": {"name": "resnet18"}}
    >>> fields |= {"optimizer": {"learning_rate": 0.1}, "schedule": {"power": 2.0}}
    >>> without_effect(checked(ConfigDict(fields)))
    ['schedule.power=2.0 (needs schedule.name="polynomial")']
    """
    values = flat(config.to_dict())
    return [
        f"{name}={value!r} (needs {needed})"
        for name, value in values.items()
        for beginning, needed, holds in CONDITIONS
        if name.startswith(beginning) and value != FIELDS[name].default and not holds(values)
    ]
