"""Functions of arrays, compiled and differentiated."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from reszoo.gradients.patching import replace

# Logits of masked positions, as in `jax.nn.dot_product_attention`.
_MASKED = -0.7 * float(np.finfo(np.float32).max)


@contextlib.contextmanager
def float64() -> Iterator[None]:
    """Context in which tensors can be float64, and attention is computed in it."""
    put_back = replace(jax.nn, "dot_product_attention", _attention)
    try:
        with jax.enable_x64(True):
            yield
    finally:
        put_back()


def compiled(function: Callable) -> Callable:
    """Returns a compiled function of NumPy arrays.

    Args:
        function: Takes structures of tensors, and returns one.
    """
    traced = jax.jit(function)

    def run(*arguments: Any) -> Any:
        result = jax.device_get(traced(*arguments))
        jax.effects_barrier()  # waits for what `call_with_value` calls
        return result

    return run


def value_and_gradients(function: Callable, x: Any, *others: Any) -> tuple[np.ndarray, Any]:
    """Returns the value of a function, and its gradients by the arrays of its first argument.

    Args:
        function: Takes structures of tensors, and returns a scalar.
        x: Its first argument, a structure of arrays.
        *others: Its other arguments.
    """
    return jax.device_get(jax.jit(jax.value_and_grad(function))(x, *others))


def call_with_value(function: Callable, x: Any) -> None:
    """Calls a function with the value of a tensor, whenever it is computed.

    Args:
        function: Takes the value.
        x: A tensor, also one within a function that is traced.
    """
    jax.debug.callback(function, x)


def _attention(
    query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, **options: Any
) -> Any:
    """Replaces `jax.nn.dot_product_attention`, which computes its softmax in float32."""
    scale = options.get("scale") or query.shape[-1] ** -0.5
    groups = query.shape[2] // key.shape[2]
    key, value = (jnp.repeat(x, groups, axis=2) for x in (key, value))
    logits = scale * jnp.einsum("btnh,bsnh->bnts", query, key)
    if bias is not None:
        logits += bias
    seen = jnp.ones_like(logits, bool) if mask is None else jnp.broadcast_to(mask, logits.shape)
    if options.get("is_causal"):
        seen = jnp.tril(seen)
    shares = jax.nn.softmax(jnp.where(seen, logits, _MASKED))
    return jnp.einsum("bnts,bsnh->btnh", shares, value)
