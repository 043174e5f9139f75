"""Weights as named arrays, from files, hubs and other libraries' models."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from reszoo.layers import ResidualBlock
from reszoo.models.weight_names import named_weights

Arrays = dict[str, np.ndarray]


def read_weights(source: str | os.PathLike | keras.Model) -> Arrays:
    """Returns the named arrays of a source of weights.

    Args:
        source: As in `reszoo.load_weights`.

    Returns:
        The arrays by the names that the source gives them.

    Raises:
        ValueError: If the source cannot be read.
    """
    if isinstance(source, keras.Model):
        return _from_model(source)
    source = os.fspath(source)
    if source.startswith("hf://"):
        return read_weights(_download(source))
    if source.startswith("keras_hub://"):
        return _from_model(_keras_hub_model(source.removeprefix("keras_hub://")))
    path = Path(source)
    if not path.is_file():
        raise ValueError(
            f"There is no file {source!r}. Give a .safetensors, .pt, .pth, .bin, .h5 or .keras "
            "file, hf://OWNER/NAME, keras_hub://PRESET, or a keras.Model."
        )
    for suffixes, read in _READERS.items():
        if path.name.endswith(suffixes):
            return read(path)
    raise ValueError(f"{source!r} is none of {', '.join(s for many in _READERS for s in many)}.")


def _from_model(model: keras.Model) -> Arrays:
    if any(isinstance(layer, ResidualBlock) for layer in model.layers):
        return {name: np.asarray(v) for name, v in named_weights(model).items()}
    return {
        f"{layer.name}/{v.name}": np.asarray(v) for layer in _leaves(model) for v in layer.weights
    }


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
    except SafetensorError as error:
        raise ValueError(f"{os.fspath(path)!r} is no safetensors file: {error}.") from error


def _read_torch(path: Path) -> Arrays:
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f"Reading {os.fspath(path)!r} needs torch (pip install torch); .safetensors does not."
        ) from error
    try:
        # Tensors alone: a pickle that would run code is refused.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{os.fspath(path)!r} is no torch file of tensors: {reason}") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(torch.is_tensor(v) for v in state.values()):
        raise ValueError(f"{os.fspath(path)!r} holds no state dict, but {type(state).__name__}.")
    # NumPy has no bfloat16.
    return {
        key.removeprefix("module."): (t.float() if t.dtype == torch.bfloat16 else t).numpy()
        for key, t in state.items()
    }


def _read_h5(path: Path) -> Arrays:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            group = cast(h5py.Group, file.get("model_weights", file))
            if "layer_names" not in group.attrs:
                raise ValueError(
                    f"{os.fspath(path)!r} names no layers, as Keras 3's .weights.h5. Load it into "
                    "its own model first, and give that model as source."
                )
            return dict(_legacy_arrays(group))
    except OSError as error:
        raise ValueError(f"{os.fspath(path)!r} is no HDF5 file: {error}.") from error


def _legacy_arrays(group: Any) -> Iterator[tuple[str, np.ndarray]]:
    for layer in group.attrs["layer_names"]:
        for weight in group[layer].attrs["weight_names"]:
            name = weight.decode() if isinstance(weight, bytes) else weight
            # "conv1_conv/kernel:0", with the layer's name once or twice before it.
            yield "/".join(re.sub(r":\d+$", "", name).split("/")[-2:]), group[layer][name][()]


def _read_keras(path: Path) -> Arrays:
    return _from_model(cast(keras.Model, keras.saving.load_model(path, compile=False)))


_READERS = {
    (".safetensors",): _read_safetensors,
    (".pt", ".pth", ".bin"): _read_torch,
    (".h5", ".hdf5"): _read_h5,
    (".keras",): _read_keras,
}


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
        reason = str(error).splitlines()[0]
        raise ValueError(f"{source!r} could not be had: {reason}") from error


def _keras_hub_model(preset: str) -> keras.Model:
    try:
        import keras_hub
    except ImportError as error:
        raise ValueError(f"The preset {preset!r} needs pip install keras-hub.") from error
    try:
        return keras_hub.models.ImageClassifier.from_preset(preset, preprocessor=None)
    except (TypeError, ValueError):
        # A preset without a head.
        return keras_hub.models.Backbone.from_preset(preset)
