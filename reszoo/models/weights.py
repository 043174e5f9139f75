"""Loading weights from other libraries, saving for them, and freezing."""

import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from reszoo.files import written_whole
from reszoo.keras_internals import sublayers
from reszoo.models.weight_files import Arrays, is_counter, read_weights
from reszoo.models.weight_names import SCHEMES, Scheme, named_weights, scheme_of

Source = str | os.PathLike | keras.Model | Mapping[str, Any]
Naming = str | Scheme | Callable[[str], str | None]
Misshapen = tuple[str, tuple[int, ...], tuple[int, ...]]  # a name, our shape and theirs
Mismatch = tuple[list[str], list[Misshapen], list[str]]  # missing, misshapen, unexpected

# The number that keras.applications adds to the variance.
_APPLICATIONS_EPSILON = 1.001e-5


def load_weights(model: keras.Model, source: Source, scheme: Naming | None = None) -> list[str]:
    """Copies weights into a model, from another library, a file, a dictionary or a hub.

    All of them are copied, or none: a mismatch raises before anything is changed. Two mismatches
    are allowed for fine-tuning, and are reported in the result and in a logged warning: with a head
    for another number of classes, or none, the model's own head keeps its initial weights, and for
    another number of image channels the first convolution is adapted (summed over the channels for
    one channel, else repeated and scaled so that its output keeps its size).

    Biases before a batch normalization and another epsilon, as keras.applications has them, are
    folded into the moving mean and variance, exactly.

    Args:
        model: A model of `reszoo`.
        source: A `.safetensors` file or a PyTorch state dict (`.pt`, `.pth`, `.bin`; read with
            `weights_only=True`, so that nothing in it is executed) named as in torchvision or
            timm; a `.keras` file; a keras.applications `.h5`; an `.onnx` file, of which the weights
            are found by their places (normalizations are folded there, so that the model is one of
            `norm=None`); a `keras.Model` of reszoo,
            keras.applications or KerasHub; `hf://OWNER/NAME` on the Hugging Face Hub;
            `keras_hub://PRESET`; or a dictionary of arrays by their names, such as a state dict.
        scheme: Scheme of the names in the source: a key of `reszoo.models.weight_names.SCHEMES`; a
            function that returns the source's name for one of ours (those that
            `reszoo.models.named_weights` gives), or `None` if it has none, with kernels laid out as
            in Keras; or a `reszoo.models.Scheme`, which also says how kernels are laid out. `None`
            to detect it.

    Returns:
        One sentence for each of these mismatches; empty for an exact copy.

    Raises:
        ValueError: If the source cannot be read, or does not fit: with the missing, the unexpected
            and the wrongly shaped entries.

    Example:

    >>> from reszoo import ResNet18
    >>> first, second = ResNet18(width=8), ResNet18(width=8)
    >>> load_weights(second, first)
    []
    """
    arrays = read_weights(source)
    chosen = _found_scheme(arrays, source) if scheme is None else _given_scheme(scheme)
    if chosen.name == "keras_applications":
        arrays = _without_convolution_biases(arrays, model, chosen)
    notes, values = _Match(model, chosen, arrays).checked(source)
    weights = named_weights(model)
    # All are cast before the first is assigned, so that an error leaves the model unchanged.
    values = {name: _cast(value, name, weights[name], source) for name, value in values.items()}
    for name, value in values.items():
        weights[name].assign(value)
    for note in notes:
        logging.getLogger(__name__).warning("%s", note)
    return notes


def save_weights(model: keras.Model, path: str | os.PathLike, format: str = "reszoo") -> None:
    """Writes a model's weights as safetensors, with the names of a library.

    The file is written completely or not at all.

    Args:
        model: A model of `reszoo`.
        path: Path that ends in `.safetensors`.
        format: `"reszoo"`, `"torchvision"` or `"timm"`; torch's `load_state_dict` takes the last
            two, where the network there is the same: neither names nor shapes tell of padding, of
            activations, or of the place of a stride.

    Raises:
        ValueError: If there is no such format, it has no name for one of the weights, or networks
            there cannot have them, such as a bias in a convolution.
    """
    try:
        from safetensors.numpy import save_file
    except ImportError as error:
        raise ValueError("save_weights needs pip install safetensors.") from error
    if not os.fspath(path).endswith(".safetensors"):
        raise ValueError(f"path must end in .safetensors, but got {os.fspath(path)!r}.")
    if format not in ("reszoo", "torchvision", "timm"):
        raise ValueError(f'format must be "reszoo", "torchvision" or "timm", but got {format!r}.')
    _check_format(model, format)
    arrays = _encoded(model, SCHEMES[format])
    with written_whole(Path(path)) as partial:
        save_file(arrays, partial, metadata={"format": "pt" if SCHEMES[format].torch else "np"})


def freeze_backbone(model: keras.Model) -> None:
    """Leaves only a model's head trainable, for fine-tuning.

    Frozen batch normalizations work as at inference, also while training, and keep their moving
    averages (Keras does so for any that is not trainable). Compile the model afterwards.

    Args:
        model: A model of `reszoo` with a head.

    Raises:
        ValueError: If the model has no head.

    Example:

    >>> from reszoo import ResNet18
    >>> model = ResNet18(width=8)
    >>> freeze_backbone(model)
    >>> [weight.path for weight in model.trainable_weights]
    ['logits/kernel', 'logits/bias']
    """
    if not any(layer.name == "logits" for layer in model.layers):
        raise ValueError(f"{model.name!r} has no head 'logits': nothing would be left to train.")
    for layer in model.layers:
        layer.trainable = layer.name == "logits"


def _found_scheme(arrays: Arrays, source: Source) -> Scheme:
    try:
        return scheme_of(list(arrays))
    except ValueError as error:
        raise ValueError(f"{_called(source)!r}: {error}") from error


def _given_scheme(scheme: Naming) -> Scheme:
    if isinstance(scheme, Scheme):
        return scheme
    if callable(scheme):
        return Scheme("of a function", lambda name, names: scheme(name))
    if scheme not in SCHEMES:
        raise ValueError(
            f"There is no scheme {scheme!r}. Give one of {', '.join(SCHEMES)}, or a function that "
            "returns the source's name for one of ours."
        )
    return SCHEMES[scheme]


def _encoded(model: keras.Model, scheme: Scheme) -> Arrays:
    weights = named_weights(model)
    names = frozenset(weights)
    found = {name: scheme.key(name, names) for name in names}
    keys = {name: key for name, key in found.items() if key is not None}
    nameless = sorted(names - keys.keys())
    if nameless:
        raise ValueError(
            f"The format {scheme.name!r} has no name for {nameless[:5]} of {model.name!r}. Use "
            'format="reszoo".'
        )
    arrays = {keys[name]: scheme.encode(np.asarray(v), name, names) for name, v in weights.items()}
    if scheme.torch and "logits/kernel" in names and "logits/bias" not in names:
        # Heads there have a bias; one of zeros changes nothing.
        classes = np.zeros(weights["logits/kernel"].shape[-1], weights["logits/kernel"].dtype)
        arrays[str(scheme.key("logits/bias", names))] = classes
    return arrays


def _check_format(model: keras.Model, format: str) -> None:
    """Raises if the networks of another library cannot have a model's weights."""
    if format == "reszoo":
        return
    weights, layers = named_weights(model), sublayers(model)
    kernels = {name: len(v.shape) for name, v in weights.items() if name.endswith("/kernel")}
    convolutions = {name.removesuffix("kernel") for name, axes in kernels.items() if axes > 2}
    biased = [f"{name}bias" for name in sorted(convolutions) if f"{name}bias" in weights]
    standardized = any(getattr(part, "weight_standardization", False) for part in layers)
    if biased:
        reason = (
            f"its convolutions have no bias, but {len(biased)} of {model.name!r} have one "
            f"({', '.join(biased[:3])})"
        )
    elif standardized and not (format == "timm" and "postactivation/norm/gamma" in weights):
        reason = f"its convolutions are not standardized, but those of {model.name!r} are"
    else:
        return
    raise ValueError(
        f'Networks of {format} cannot load these weights: {reason}. Use format="reszoo", or make '
        'the model with norm="batch".'
    )


@dataclass
class _Match:
    """A model's weights and a source's arrays, compared by name and shape."""

    model: keras.Model
    scheme: Scheme
    arrays: Arrays

    def checked(self, source: Source) -> tuple[list[str], Arrays]:
        """Returns the sentences to report and the values to assign; raises if they do not fit."""
        weights = named_weights(self.model)
        names = frozenset(weights)
        notes, values, missing, misshapen, used = [], {}, [], [], set()
        self._fit_bias_of_head(weights, notes)
        for name, variable in weights.items():
            key = self._key(name, names, used)
            if key not in self.arrays:
                missing.append(name)
                continue
            value = self.scheme.decode(self.arrays[key], name, variable.shape)
            value = self._adapted(name, value, variable.shape, notes)
            if value.shape != tuple(variable.shape):
                misshapen.append((name, tuple(variable.shape), value.shape))
            values[name] = value
        unexpected = [key for key in self.arrays if key not in used and not is_counter(key)]
        missing, misshapen, unexpected = self._without_head(missing, misshapen, unexpected, notes)
        if missing or misshapen or unexpected:
            raise ValueError(_mismatch(self.model, source, missing, misshapen, unexpected))
        head_is_new = any(note.startswith("Head") for note in notes)
        return notes, {n: v for n, v in values.items() if not (head_is_new and _is_head(n))}

    def _key(self, name: str, names: frozenset[str], used: set[str]) -> str | None:
        """Returns the source's name for one of ours, and adds it to those that are used."""
        key = self.scheme.key(name, names)
        if key is None:
            return None
        if not isinstance(key, str) or key in used:
            problem = "which another weight has" if isinstance(key, str) else "which is no string"
            raise ValueError(
                f"The scheme gives the weight {name} the name {key!r}, {problem}. It must return a "
                "name of its own for each weight, or None."
            )
        used.add(key)
        return key

    def _adapted(
        self, name: str, value: np.ndarray, shape: tuple[int, ...], notes: list[str]
    ) -> np.ndarray:
        if name != "stem/conv1/kernel" or value.ndim != len(shape):
            return value
        channels, wanted = value.shape[-2], shape[-2]
        others = value.shape[:-2] == tuple(shape[:-2]) and value.shape[-1] == shape[-1]
        if channels in (0, wanted) or not others:
            return value
        notes.append(f"First convolution adapted from {channels} to {wanted} image channels.")
        if wanted == 1:
            return value.sum(-2, keepdims=True)
        repeated = np.concatenate([value] * -(-wanted // channels), axis=-2)
        return repeated[..., :wanted, :] * (channels / wanted)

    def _without_head(
        self,
        missing: list[str],
        misshapen: list[Misshapen],
        unexpected: list[str],
        notes: list[str],
    ) -> Mismatch:
        """Removes a head of another size from the mismatches, and reports it."""
        names = frozenset(named_weights(self.model))
        heads = {self.scheme.key(f"logits/{leaf}", names) for leaf in ("kernel", "bias")}
        rest = (
            [name for name in missing if not _is_head(name)],
            [entry for entry in misshapen if not _is_head(entry[0])],
            [key for key in unexpected if key not in heads],
        )
        if (len(rest[0]), len(rest[1])) != (len(missing), len(misshapen)):
            notes.append("Head left as initialised: the source has none for as many classes.")
        elif any(map(_is_head, names)):
            return *rest[:2], unexpected
        elif len(rest[2]) != len(unexpected):
            notes.append("The source's head was left out: the model has none.")
        return rest

    def _fit_bias_of_head(self, weights: dict[str, keras.Variable], notes: list[str]) -> None:
        """Adds a bias of zeros to the source's head, or removes one, where that changes nothing."""
        names = frozenset(weights)
        kernel, bias = (self.scheme.key(f"logits/{leaf}", names) for leaf in ("kernel", "bias"))
        if kernel not in self.arrays or bias is None or "logits/kernel" not in names:
            return
        if "logits/bias" not in names and not np.any(self.arrays.get(bias, 1.0)):
            self.arrays = {key: self.arrays[key] for key in self.arrays if key != bias}
        elif "logits/bias" in names and bias not in self.arrays:
            shape = weights["logits/kernel"].shape
            theirs = self.scheme.decode(self.arrays[kernel], "logits/kernel", shape)
            if theirs.shape != tuple(shape):
                return
            self.arrays = {**self.arrays, bias: np.zeros(shape[-1], theirs.dtype)}
            notes.append("The source's head has no bias: the model's is zero.")


def _is_head(name: str) -> bool:
    return name.startswith("logits/")


def _cast(value: np.ndarray, name: str, variable: keras.Variable, source: Source) -> np.ndarray:
    """Returns a weight in the dtype of its variable, after checking its values."""
    value = np.asarray(value)
    with np.errstate(over="ignore"):
        cast = value.astype(np.asarray(variable).dtype)
    if not np.isfinite(cast).all():
        reason = f"has values that are too large for {variable.dtype}"
    elif name.endswith("/moving_variance") and (value < 0).any():
        reason = "is a variance with negative values"
    else:
        return cast
    raise ValueError(
        f"The weight {name} in {_called(source)!r} {reason}; nothing was changed. Save the weights "
        "again, or give others."
    )


def _called(source: Source) -> str:
    if isinstance(source, Mapping):
        return "the dictionary"
    return source.name if isinstance(source, keras.Model) else os.fspath(source)


def _mismatch(
    model: keras.Model,
    source: Source,
    missing: list[str],
    misshapen: list[Misshapen],
    unexpected: list[str],
) -> str:
    lines = [f"The weights in {_called(source)!r} do not fit {model.name!r}; nothing was changed."]
    for title, entries in (("Missing", missing), ("Unexpected", unexpected)):
        if entries:
            lines.append(f"{title} ({len(entries)}): {_listed(entries)}")
    if misshapen:
        shapes = [f"{name} is {theirs}, expected {ours}" for name, ours, theirs in misshapen]
        lines.append(f"Wrongly shaped ({len(shapes)}): {_listed(shapes)}")
    lines.append("Give weights of the same architecture, or make the model that they are of.")
    return "\n".join(lines)


def _listed(entries: list[str]) -> str:
    more = [f"and {len(entries) - 20} more"] if len(entries) > 20 else []
    return "; ".join([*entries[:20], *more])


def _without_convolution_biases(arrays: Arrays, model: keras.Model, scheme: Scheme) -> Arrays:
    """Folds biases and the epsilon of keras.applications into the batch normalizations."""
    weights = named_weights(model)
    names = frozenset(weights)
    own = {scheme.key(name, names) for name in names}
    folded = dict(arrays)
    for key in arrays:
        if key.endswith("/moving_variance"):
            shift = _APPLICATIONS_EPSILON - 1e-5
            folded[key] = arrays[key] + arrays[key].dtype.type(shift)
        match = re.fullmatch(r"(.+)_conv/bias", key)
        if match is None or key in own:
            continue
        mean = arrays.get(f"{match[1]}_bn/moving_mean")
        # One of another shape stays, and is reported as unexpected.
        if mean is not None and mean.shape == arrays[key].shape:
            folded[f"{match[1]}_bn/moving_mean"] = mean - folded.pop(key)
    return folded
