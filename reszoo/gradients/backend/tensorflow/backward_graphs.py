"""Changes of variables in the graphs that TensorFlow makes for a backward pass."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf

from reszoo.gradients.patching import replace
from reszoo.keras_internals import backward_graphs_of_control_flow, keep_changes


@contextlib.contextmanager
def changing_variables() -> Iterator[None]:
    """Context in which variables can be read and changed, whichever graph is the default one.

    The backward graph of a condition or a loop cannot read a variable that no graph around it has
    read. The backward function of a `tf.function` that is called eagerly keeps no change.
    """
    if not tf.executing_eagerly():
        keep_changes(tf.compat.v1.get_default_graph())
    with contextlib.ExitStack() as put_back:
        for kind in backward_graphs_of_control_flow():
            put_back.callback(replace(kind, "capture", _capture(kind.capture)))
        yield


def _capture(original: Callable) -> Callable:
    """Returns the replacement of a graph's `capture`, which has the graph around it capture first.

    Args:
        original: The method that is replaced.
    """

    @functools.wraps(original)
    def capture(graph: Any, tensor: Any, name: str | None = None, **options: Any) -> Any:
        if tensor.dtype == tf.resource and not tf.is_symbolic_tensor(tensor):
            tensor = graph.outer_graph.capture(tensor)
        return original(graph, tensor, name, **options)

    return capture
