"""Batch normalizations folded into the convolutions before them, for inference."""

import dataclasses
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from reszoo.keras_internals import runs_in_turn, runs_its_graph, sublayers
from reszoo.layers import Convolution
from reszoo.layers.batch_normalization import BatchNormalization
from reszoo.layers.convolution import standardized_kernel
from reszoo.models.copying import Copy
from reszoo.models.places import Place, is_chain, places

layers = keras.layers
_logger = logging.getLogger(__name__)

# The calls whose formula at inference is known, those of Keras and of this package.
_CALLS = (layers.BatchNormalization.call, BatchNormalization.call)

# As far from its average a channel must be representable before the bias is added.
_DEVIATIONS = 10


def _last(kernel: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return kernel * scale


def _transposed(kernel: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return kernel * scale[:, None]


def _depthwise(kernel: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return kernel * scale.reshape(kernel.shape[-2:])


# By the class of a layer: its kernel, and how the kernel is multiplied by a scale of each output
# channel. Not by classes derived from these, whose call may be another.
_KERNELS: dict[type, tuple[str, Callable]] = {
    Convolution: ("kernel", _last),
    layers.Dense: ("kernel", _last),
    layers.Conv1D: ("kernel", _last),
    layers.Conv2D: ("kernel", _last),
    layers.Conv3D: ("kernel", _last),
    layers.Conv1DTranspose: ("kernel", _transposed),
    layers.Conv2DTranspose: ("kernel", _transposed),
    layers.Conv3DTranspose: ("kernel", _transposed),
    layers.DepthwiseConv1D: ("kernel", _depthwise),
    layers.DepthwiseConv2D: ("kernel", _depthwise),
    layers.SeparableConv1D: ("pointwise_kernel", _last),
    layers.SeparableConv2D: ("pointwise_kernel", _last),
}


def fold_normalization(model: keras.Model) -> keras.Model:
    """Returns a model for inference, with batch normalizations folded into layers before them.

    At inference a batch normalization multiplies each channel by a number and adds another one. So
    does a convolution or a dense layer with another kernel and bias, and the normalization directly
    behind it is left out. Outputs are the same up to rounding; the model given is not changed.

    Normalizations stay where nothing can be folded: behind an activation or an addition, as the
    first of a pre-activation block; behind a layer whose output others read too; in or behind a
    layer whose call is not known here. A logged line says how many were folded, and which stay and
    why; it is a warning if any stay.

    In training, the new model is a network without the normalizations that were folded: to train on
    as before, keep the model given. It has to be compiled anew. Regularizers count the folded
    kernels.

    Args:
        model: A functional or sequential `keras.Model`, built. Normalizations are found in models
            within it, and in the chains and blocks of `reszoo.layers`.

    Returns:
        A `keras.Model` of the same inputs, outputs, names and dtypes, with variables of its own. An
        output that was a normalization has the name of the layer before it.

    Raises:
        ValueError: If it is no such model, it is not built, or a layer cannot be copied.

    Reference:
        Jacob et al. 2018, "Quantization and training of neural networks for efficient
        integer-arithmetic-only inference", section 3.2.

    Example:

    >>> from reszoo import ResNet18
    >>> model = ResNet18(width=8, input_shape=(32, 32, 3))
    >>> folded = fold_normalization(model)
    >>> model.count_params() - folded.count_params()
    1800
    """
    _check(model)
    folds, notes = _folds(model)
    removed = {id(one) for fold in folds.values() for one in fold.normalizations}
    copy = Copy(removed, {key: fold.changes for key, fold in folds.items()})
    folded = copy(model)
    copy.copy_values()
    for fold in folds.values():
        fold.assign_to(copy(fold.layer))
    _log(model, len(removed), notes)
    return folded


def _check(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise ValueError(f"fold_normalization takes a keras.Model, but got {model!r}.")
    if runs_its_graph(model) or runs_in_turn(model):
        return
    if not model.built:
        raise ValueError(
            f"{model.name!r} must be built, but is not: its layers have no weights yet. Call it on "
            "a batch, or give its first layer an input shape."
        )
    raise ValueError(
        f"fold_normalization must know which layer follows which, but {model.name!r} of type "
        f"{type(model).__name__} has a call of its own. Make it a functional model, "
        "keras.Model(inputs, outputs), or fold the functional models in it."
    )


@dataclasses.dataclass
class _Fold:
    """A layer with the normalizations that are folded into it.

    Attributes:
        layer: The layer.
        kernel: Its kernel, in float64.
        bias: Its bias.
        normalizations: The normalizations, first to last.
        products: Sizes that its output may have before the bias is added, in each channel.
    """

    layer: Any
    kernel: np.ndarray
    bias: np.ndarray
    normalizations: tuple[Any, ...] = ()
    products: np.ndarray | None = None

    @classmethod
    def of(cls, layer: Any) -> "_Fold":
        kernel = _array(getattr(layer, _KERNELS[type(layer)][0]))
        if getattr(layer, "weight_standardization", False):
            kernel = _array(standardized_kernel(keras.ops.convert_to_tensor(kernel)))
        return cls(layer, kernel, _array(layer.bias) if layer.use_bias else np.zeros(1))

    @property
    def changes(self) -> dict[str, bool]:
        """Changes of the layer's configuration, by its fields."""
        standardizes = getattr(self.layer, "weight_standardization", False)
        return {"use_bias": True, **({"weight_standardization": False} if standardizes else {})}

    def with_normalization(self, normalization: Any) -> "_Fold":
        """Returns the fold with one more normalization."""
        mean, variance = map(_array, (normalization.moving_mean, normalization.moving_variance))
        gamma = _array(normalization.gamma) if normalization.scale else 1.0
        beta = _array(normalization.beta) if normalization.center else 0.0
        with np.errstate(all="ignore"):  # `reason` tells
            scale = gamma / np.sqrt(variance + normalization.epsilon)
            kernel = _KERNELS[type(self.layer)][1](self.kernel, scale)
            bias = (self.bias - mean) * scale + beta
            spread = _DEVIATIONS * np.sqrt(variance)
            products = (np.abs(self.bias - mean) + spread) * np.abs(scale)
        return _Fold(self.layer, kernel, bias, (*self.normalizations, normalization), products)

    @property
    def reason(self) -> str | None:
        """Why the layer cannot hold the weights, or not compute with them; `None` if it can."""
        dtypes = {self.layer.variable_dtype, self.layer.compute_dtype}
        if not all(_is_finite(x, dtype) for x in (self.kernel, self.bias) for dtype in dtypes):
            return "whose values give no finite weights"
        if not _is_finite(self.products, self.layer.compute_dtype):
            kind, dtype = type(self.layer).__name__, self.layer.compute_dtype
            return f"with which the {kind} may exceed {dtype} before its bias is added"
        return None

    def assign_to(self, copy: Any) -> None:
        """Gives the copy of the layer its weights."""
        values = {variable.name: variable for variable in self.layer.weights}
        values |= {_KERNELS[type(copy)][0]: self.kernel, "bias": self.bias}
        for variable in copy.weights:
            variable.assign(values[variable.name])


def _folds(model: keras.Model) -> tuple[dict[int, _Fold], dict[str, list[str]]]:
    """Returns the folds by the `id` of the layer, and the names of what stays, by the reason."""
    found, folds, targets, stay = list(places(model)), {}, {}, defaultdict(dict)
    count = Counter(id(place.layer) for place in found)
    for place in found:
        if not isinstance(place.layer, layers.BatchNormalization):
            continue
        before = targets.get(id(place.before), place.before)
        reason = _reason(place, before, count)
        if reason is None:
            so_far = folds.get(id(before)) or _Fold.of(before)
            fold = so_far.with_normalization(place.layer)
            reason = fold.reason
        if reason is None:
            folds[id(before)], targets[id(place.layer)] = fold, before
        else:
            stay[reason].setdefault(id(place.layer), place.name)
    for layer, reason in _hidden(model, found):
        stay[reason][id(layer)] = layer.path or layer.name  # no path before it is built
    return folds, {reason: list(names.values()) for reason, names in stay.items()}


def _reason(place: Place, before: Any, count: Mapping[int, int]) -> str | None:
    """Returns why a normalization cannot be folded into the layer before it; `None` if it can."""
    normalization: Any = place.layer
    kind = type(before).__name__
    if count[id(normalization)] > 1:
        return "called at several places"
    if type(normalization).call not in _CALLS:
        return f"with a call of its own ({type(normalization).__name__})"
    if place.trains and normalization.trainable:
        return "called with training=True"
    if before is None:
        return place.where
    if type(before) not in _KERNELS:
        return f"behind {kind}"
    if count[id(before)] > 1:
        return f"behind {kind}, which is called at several places"
    if getattr(before, "activation", None) not in (None, keras.activations.linear):
        return f"behind {kind} with an activation"
    if getattr(before, "quantization_mode", None) or getattr(before, "lora_enabled", False):
        return f"behind {kind} that is quantized or has LoRA"
    return _reason_of_options(normalization, before)


def _reason_of_options(normalization: Any, before: Any) -> str | None:
    axes = normalization.input_spec.ndim
    channels = 1 if getattr(before, "data_format", None) == "channels_first" else axes - 1
    if normalization.axis % axes != channels:
        return "over another axis than the channels"
    if normalization.compute_dtype != before.compute_dtype:
        return f"in another dtype than the {type(before).__name__} before"
    if normalization.activity_regularizer or before.activity_regularizer:
        return "with an activity regularizer"
    return None


def _hidden(model: keras.Model, found: Sequence[Place]) -> Iterator[tuple[Any, str]]:
    """Yields the normalizations that have no place, each with the reason."""
    known = {id(place.layer) for place in found}
    for one in sublayers(model):
        if isinstance(one, layers.BatchNormalization) and id(one) not in known:
            around = [p.layer for p in found if any(part is one for part in sublayers(p.layer))]
            yield one, _reason_of_hidden(around[-1] if around else model)


def _reason_of_hidden(owner: Any) -> str:
    if runs_its_graph(owner) or runs_in_turn(owner) or is_chain(owner):
        return "that no call reaches"
    return f"in {type(owner).__name__}, whose call is not known"


def _log(model: keras.Model, folded: int, stay: Mapping[str, Sequence[str]]) -> None:
    staying = sum(map(len, stay.values()))
    if not folded + staying:
        _logger.warning("%r has no batch normalization, so that nothing was folded.", model.name)
        return
    line = f"{folded} of {folded + staying} batch normalizations of {model.name!r} were folded"
    if not stay:
        _logger.info("%s.", line)
        return
    reasons = [f"{len(names)} {reason} ({_listed(names)})" for reason, names in stay.items()]
    _logger.warning("%s; of the others, %s.", line, "; ".join(reasons))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more


def _array(values: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(values)).astype("float64")


def _is_finite(values: Any, dtype: str) -> bool:
    return bool(np.isfinite(_array(keras.ops.cast(values, dtype))).all())
