"""Functions of arrays, run operation by operation, and differentiated."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import torch


def float64() -> contextlib.AbstractContextManager:
    """Returns a context in which tensors can be float64, as they always can, and have gradients."""
    return torch.inference_mode(False)


def compiled(function: Callable) -> Callable:
    """Returns a function of NumPy arrays. It is not compiled, which takes longer than many runs.

    Args:
        function: Takes structures of tensors, and returns one.
    """

    def run(*arguments: Any) -> Any:
        with torch.no_grad(), _same_run():
            return _as_arrays(function(*_as_tensors(arguments)))

    return run


def value_and_gradients(function: Callable, x: Any, *others: Any) -> tuple[np.ndarray, Any]:
    """Returns the value of a function, and its gradients by the arrays of its first argument.

    Args:
        function: Takes structures of tensors, and returns a scalar.
        x: Its first argument, a structure of arrays.
        *others: Its other arguments.
    """
    x = keras.tree.map_structure(lambda tensor: tensor.requires_grad_(), _as_tensors(x))
    with torch.enable_grad(), _same_run():
        value = function(x, *others)
    leaves = keras.tree.flatten(x)
    gradients = (
        torch.autograd.grad(value, leaves, materialize_grads=True)
        if value.requires_grad
        else [torch.zeros_like(leaf) for leaf in leaves]
    )
    return _as_arrays(value), keras.tree.pack_sequence_as(x, _as_arrays(list(gradients)))


def call_with_value(function: Callable, x: Any) -> None:
    """Calls a function with the value of a tensor, whenever it is computed.

    Args:
        function: Takes the value.
        x: A tensor.
    """
    function(x.detach().cpu())


@contextlib.contextmanager
def _same_run() -> Iterator[None]:
    """Context that is eager, and draws the same random numbers in every run."""
    devices = range(torch.cuda.device_count())
    with torch.random.fork_rng(devices), torch.compiler.set_stance("force_eager"):
        torch.manual_seed(0)
        yield


def _as_tensors(arrays: Any) -> Any:
    return keras.tree.map_structure(keras.ops.convert_to_tensor, arrays)


def _as_arrays(tensors: Any) -> Any:
    return keras.tree.map_structure(lambda x: x.detach().cpu().numpy(), tensors)
