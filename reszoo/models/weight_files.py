"""Weights as named arrays, from files, hubs and other libraries' models."""

import os
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import h5py
import keras
import numpy as np

from reszoo.layers import ResidualBlock
from reszoo.models.onnx_files import read_onnx
from reszoo.models.untrusted_files import check_hdf5, check_keras_file, kind_of
from reszoo.models.weight_names import named_weights

Arrays = dict[str, np.ndarray]


def read_weights(source: str | os.PathLike | keras.Model | Mapping[str, Any]) -> Arrays:
    """Returns the named arrays of a source of weights.

    Args:
        source: As in `reszoo.load_weights`.

    Returns:
        The arrays by their names in the source, of floating-point numbers except for counters.

    Raises:
        ValueError: If the source cannot be read, or a weight in it is not finite.
    """
    if isinstance(source, keras.Model):
        return _checked(_from_model(source), f"the model {source.name!r}")
    if isinstance(source, Mapping):
        return _checked(_from_mapping(source, "the dictionary"), "the dictionary")
    if not isinstance(source, str | os.PathLike):
        raise ValueError(
            "The source of weights must be a path, an address, a keras.Model or a dictionary of "
            f"arrays, but is {source!r}."
        )
    source = os.fspath(source)
    if source.startswith("hf://"):
        return read_weights(_download(source))
    if source.startswith("keras_hub://"):
        preset = _keras_hub_model(source.removeprefix("keras_hub://"))
        return _checked(_from_model(preset), repr(source))
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", source):
        raise ValueError(
            f"{source!r} is an address that is not read. Download the file and give its path, or "
            "give hf://OWNER/NAME or keras_hub://PRESET."
        )
    return _checked(_read_file(Path(source).expanduser()), repr(source))


def _read_file(path: Path) -> Arrays:
    name = repr(os.fspath(path))
    if not path.exists():
        raise ValueError(
            f"There is no file {name}. Give a .safetensors, .pt, .pth, .bin, .h5, .keras or .onnx "
            "file, hf://OWNER/NAME, keras_hub://PRESET, a keras.Model or a dictionary of arrays."
        )
    if not path.is_file():
        raise ValueError(f"{name} is a directory or a device. Give the file of weights itself.")
    form = next((form for form in _FORMATS if path.name.lower().endswith(form.suffixes)), None)
    if form is None:
        suffixes = ", ".join(suffix for each in _FORMATS for suffix in each.suffixes)
        raise ValueError(
            f"{name} is none of {suffixes}. Of a run of train.py give its model.keras, not a "
            "checkpoint."
        )
    try:
        kind = kind_of(path)
    except OSError as error:
        raise ValueError(f"{name} cannot be read ({error.strerror or error}).") from error
    if kind not in form.kinds:
        raise ValueError(f"{name} is no {form.name}: it holds {kind}. {_cure(kind)}")
    return form.read(path)


def _cure(kind: str) -> str:
    suffixes = next((form.suffixes for form in _FORMATS if kind in form.kinds), None)
    if suffixes:
        return f"Rename it so that it ends in {suffixes[0]}, if that is what it should be."
    if "LFS" in kind:
        return "Have it replaced by the file itself, with git lfs pull."
    return "Download or save it again."


def _checked(arrays: Arrays, where: str) -> Arrays:
    """Returns the arrays in dtypes of NumPy, after checking that their numbers are usable."""
    checked = {}
    for name, array in arrays.items():
        array = array.astype(np.float32) if array.dtype.name == "bfloat16" else array
        if not is_counter(name) and array.dtype.kind != "f":
            raise ValueError(
                f"The weight {name!r} in {where} is of {array.dtype}, but must be of "
                "floating-point numbers. Save the weights as float32."
            )
        checked[name] = array
    broken = [n for n, array in checked.items() if not np.isfinite(array).all()]
    if broken:
        more = f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        raise ValueError(
            f"Weights in {where} are not finite: {', '.join(broken[:5])}{more}. Give those of a "
            "training that did not diverge."
        )
    return checked


def is_counter(name: str) -> bool:
    """Returns whether an entry is a count of batches or the state of a random generator.

    Args:
        name: Name of the entry in a source of weights.
    """
    return name.endswith("num_batches_tracked") or "seed_generator" in name


def _unique(named: Iterable[tuple[str, np.ndarray]], where: str) -> Arrays:
    arrays = {}
    for name, array in named:
        if name in arrays:
            raise ValueError(f"{where} has two weights {name!r}. Save it with names of their own.")
        arrays[name] = array
    return arrays


def _from_model(model: keras.Model) -> Arrays:
    if any(isinstance(layer, ResidualBlock) for layer in model.layers):
        return {name: np.asarray(v) for name, v in named_weights(model).items()}
    named = (
        (f"{layer.name}/{v.name}", np.asarray(v)) for layer in _leaves(model) for v in layer.weights
    )
    return _unique(named, f"The model {model.name!r}")


def _leaves(model: keras.Model) -> Iterator[keras.layers.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _read_safetensors(path: Path) -> Arrays:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load_file
    except ImportError as error:
        raise ValueError(f"{os.fspath(path)!r} needs pip install safetensors.") from error
    try:
        return load_file(path)
    except (AttributeError, KeyError, SafetensorError) as error:  # also a type that NumPy lacks
        raise ValueError(
            f"{os.fspath(path)!r} is no safetensors file that can be read: {error}. Download or "
            "save it again, in float32."
        ) from error


def _read_torch(path: Path) -> Arrays:
    name = repr(os.fspath(path))
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"Reading {name} needs torch (pip install torch); .safetensors does not."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about a program, which is refused anyway
            # Tensors alone: a pickle that would run code is refused.
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f"{name} is no torch file of tensors: {reason_of(error)} Save model.state_dict() with "
            "torch.save."
        ) from error
    state = _state_in(state)
    wrong = _not_of_tensors(state, torch.is_tensor)
    if wrong:
        raise ValueError(
            f"{name} holds no state dict, but {wrong}. Save model.state_dict() with torch.save."
        )
    return _from_mapping(state, name)


def _state_in(state: Any) -> Any:
    """Returns the state dict in a training's checkpoint."""
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    return state


def _from_mapping(state: Mapping[str, Any], name: str) -> Arrays:
    # Prefixes of names in data-parallel and compiled models.
    prefix = re.compile(r"^((module|_orig_mod)\.)+")
    entries = _state_in(state).items()
    for key, _ in entries:
        if not isinstance(key, str):
            raise ValueError(f"Names of weights must be strings, but {name} has {key!r}.")
    return _unique(((prefix.sub("", key), _as_numpy(t, key, name)) for key, t in entries), name)


def _not_of_tensors(state: Any, is_tensor: Callable[[Any], bool]) -> str | None:
    """Returns a description of an object that is not a state dict, or `None` if it is one."""
    if not isinstance(state, dict):
        return type(state).__name__
    for key, value in state.items():
        if not isinstance(key, str) or not is_tensor(value):
            return f"a dict whose {key!r} is {type(value).__name__}"
    return None


def _as_numpy(tensor: Any, key: str, name: str) -> np.ndarray:
    try:
        if not hasattr(tensor, "detach"):
            return np.asarray(tensor)
        tensor = tensor.detach().cpu()
        # NumPy has no bfloat16.
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    except (TypeError, RuntimeError, ValueError) as error:  # sparse, quantized, without values
        raise ValueError(
            f"The weight {key!r} in {name} is no dense tensor of numbers: {reason_of(error)} Save "
            "the weights as float32."
        ) from error


def _read_h5(path: Path) -> Arrays:
    name = repr(os.fspath(path))
    try:
        with h5py.File(path, "r") as file:
            check_hdf5(file, name)
            group = cast(h5py.Group, file.get("model_weights", file))
            if "layer_names" not in group.attrs:
                raise ValueError(
                    f"{name} names no layers, as Keras 3's .weights.h5. Load it into its own model "
                    "first, and give that model as source."
                )
            return _unique(_legacy_arrays(group), name)
    except (AttributeError, KeyError, OSError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{name} is no HDF5 file that can be read: {reason_of(error)} Save it again."
        ) from error


def _legacy_arrays(group: Any) -> Iterator[tuple[str, np.ndarray]]:
    for layer in group.attrs["layer_names"]:
        for weight in group[layer].attrs["weight_names"]:
            name = weight.decode() if isinstance(weight, bytes) else weight
            # "conv1_conv/kernel:0", preceded by the layer's name once or twice.
            short = "/".join(re.sub(r":\d+$", "", name).split("/")[-2:])
            yield short, np.asarray(group[layer][name][()])


def _read_keras(path: Path) -> Arrays:
    check_keras_file(path)
    try:
        return _from_model(cast(keras.Model, keras.saving.load_model(path, compile=False)))
    except Exception as error:  # a layer of the file can raise any
        raise ValueError(
            f"{os.fspath(path)!r} cannot be loaded: {reason_of(error)} Save it again with "
            "model.save, and import what its layers are made of first."
        ) from error


def reason_of(error: Exception) -> str:
    """Returns the reason given in an error of a library, as a sentence.

    Args:
        error: The error. Keras nests messages of errors, each after a configuration.
    """
    text = str(error).split("Exception encountered: ")[-1].strip() or type(error).__name__
    return text.splitlines()[0][:200].rstrip(" .:") + "."


@dataclass(frozen=True)
class _Format:
    """A format of files with weights.

    Attributes:
        name: Name of the format in errors.
        suffixes: Ends of the names of its files.
        kinds: Kinds of its files, as `kind_of` returns them.
        read: Function that returns the arrays of a file.
    """

    name: str
    suffixes: tuple[str, ...]
    kinds: tuple[str, ...]
    read: Callable[[Path], Arrays]


_FORMATS = (
    _Format("safetensors file", (".safetensors",), ("safetensors",), _read_safetensors),
    _Format("torch file", (".pt", ".pth", ".bin"), ("a torch archive", "a pickle"), _read_torch),
    _Format("HDF5 file", (".h5", ".hdf5"), ("HDF5",), _read_h5),
    _Format("Keras file", (".keras",), ("a Keras archive",), _read_keras),
    _Format("ONNX file", (".onnx",), ("an ONNX model",), read_onnx),
)


def _download(source: str) -> str:
    """Returns the path of `hf://OWNER/NAME[@REVISION][/FILE]` in the local cache."""
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise ValueError(f"{source!r} needs pip install huggingface_hub.") from error
    match = re.fullmatch(r"hf://([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+))?", source)
    if match is None:
        raise ValueError(
            f"{source!r} is not of the form hf://OWNER/NAME[@REVISION][/FILE], as in "
            "hf://timm/resnet18.a1_in1k."
        )
    repository, revision, file = match.groups()
    try:
        return hf_hub_download(repository, file or "model.safetensors", revision=revision)
    except Exception as error:
        raise ValueError(f"{source!r} could not be had: {reason_of(error)}") from error


def _keras_hub_model(preset: str) -> keras.Model:
    try:
        import keras_hub
    except ImportError as error:
        raise ValueError(f"The preset {preset!r} needs pip install keras-hub.") from error
    try:
        try:
            return keras_hub.models.ImageClassifier.from_preset(preset, preprocessor=None)
        except (TypeError, ValueError):
            # The preset has no head.
            return keras_hub.models.Backbone.from_preset(preset)
    except Exception as error:
        raise ValueError(
            f"The preset {preset!r} could not be had: {reason_of(error)} Give one of KerasHub's "
            "image classifiers or backbones."
        ) from error
