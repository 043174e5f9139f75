"""Calls of layers that run, with numbers for calls and additions that are the same in every run."""

import abc
import contextlib
import functools
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras

from reszoo.gradients import backend
from reszoo.keras_internals import sublayers

# A call of a layer within the call of another: the layer's id, and the number of the call. A layer
# that the call itself creates has the name of its class instead.
CallKey = tuple[int | str, int]
# An addition within the call of a layer: the last layer called before, and a number since then. So
# a layer that is not called in one run, as in stochastic depth, changes no other addition's place.
Place = tuple[CallKey | None, int]


class Frame:
    """One call of a layer that runs.

    Args:
        layer: The layer.
        parent: The call that called it; `None` if it is called from outside.
        key: Its key in that call.
    """

    def __init__(
        self, layer: keras.layers.Layer, parent: "Frame | None" = None, key: CallKey | None = None
    ):
        self.layer = layer
        self.parent = parent
        self.key = key
        self._calls = Counter()
        self._last: CallKey | None = None
        self._additions = 0

    def call(self, layer: int | str) -> CallKey:
        """Returns the key of a layer's call that begins now.

        Args:
            layer: The id of the layer that is called, or the name of its class.
        """
        self._last = (layer, self._calls[layer])
        self._calls[layer] += 1
        self._additions = 0
        return self._last

    def addition(self) -> Place:
        """Returns the place of an addition that begins now."""
        self._additions += 1
        return self._last, self._additions - 1


class CallStack(abc.ABC):
    """Watches the calls of layers and the additions in them, in each thread by itself.

    While its replacements are in place each call of a layer goes through `enter`, `arguments` and
    `leave`, and each addition through `add`.

    Args:
        model: The model whose layers are called.
    """

    def __init__(self, model: keras.layers.Layer):
        self._layers = {id(layer) for layer in (model, *sublayers(model))}
        self._of_thread = threading.local()

    @property
    def top(self) -> Frame | None:
        """The call that runs now, if it is watched."""
        return getattr(self._of_thread, "top", None)

    @contextlib.contextmanager
    def on_top(self, frame: Frame | None) -> Iterator[None]:
        """Context in which a call runs; `None` for one that is not watched.

        Args:
            frame: The call.
        """
        before, self._of_thread.top = self.top, frame
        try:
            yield
        finally:
            self._of_thread.top = before

    def replacements(self) -> list[tuple[Any, str, Any]]:
        """Returns what is replaced: owner, attribute, value."""
        additions = backend.additions
        return [
            (keras.layers.Layer, "__call__", self._call(keras.layers.Layer.__call__)),
            (keras.Operation, "__call__", self._converted(keras.Operation.__call__)),
            *(
                (owner, name, additions.replacement(vars(owner)[name], self._add))
                for owner, name in additions.functions()
            ),
        ]

    @abc.abstractmethod
    def enter(
        self, layer: keras.layers.Layer, key: CallKey | None, args: tuple, kwargs: dict
    ) -> tuple[Frame | None, tuple, dict]:
        """Returns the frame of a call that begins, if it is watched, and the call's arguments.

        Args:
            layer: The layer that is called.
            key: The call's key in the one that runs now, if that is watched.
            args: The arguments.
            kwargs: Those by name.
        """

    def arguments(self, frame: Frame, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """Returns the arguments that the layer's own `call` gets.

        Args:
            frame: The call.
            args: The arguments, converted by Keras.
            kwargs: Those by name.
        """
        return args, kwargs

    @abc.abstractmethod
    def leave(self, frame: Frame | None, key: CallKey | None, outputs: Any) -> Any:
        """Returns the outputs of a call that ends.

        Args:
            frame: The call, if it is watched.
            key: Its key in the one that runs now, if that is watched.
            outputs: What the layer returned.
        """

    @abc.abstractmethod
    def add(
        self, frame: Frame, place: Place, operands: Sequence[Any], own: Callable[[Sequence], Any]
    ) -> Any:
        """Returns a sum.

        Args:
            frame: The call in which it is computed.
            place: Its place.
            operands: The tensors that are added.
            own: Takes them, and adds them.
        """

    def _call(self, original: Callable) -> Callable:
        """Returns the replacement of `Layer.__call__`."""

        @functools.wraps(original)
        def call(layer: keras.layers.Layer, *args: Any, **kwargs: Any) -> Any:
            calling = self.top
            if _are_symbolic(args, kwargs):
                with self.on_top(None):
                    return original(layer, *args, **kwargs)
            known = id(layer) if id(layer) in self._layers else type(layer).__name__
            key = None if calling is None else calling.call(known)
            frame, args, kwargs = self.enter(layer, key, args, kwargs)
            with self.on_top(frame):
                outputs = original(layer, *args, **kwargs)
            return self.leave(frame, key, outputs)

        return backend.additions.as_it_is(call)

    def _converted(self, original: Callable) -> Callable:
        """Returns the replacement of `Operation.__call__`, which `Layer.__call__` calls."""

        @functools.wraps(original)
        def call(operation: keras.Operation, *args: Any, **kwargs: Any) -> Any:
            frame = self.top
            if frame is not None and frame.layer is operation:
                args, kwargs = self.arguments(frame, args, kwargs)
            return original(operation, *args, **kwargs)

        return backend.additions.as_it_is(call)

    def _add(self, operands: Sequence[Any], own: Callable[[Sequence], Any]) -> Any:
        """Replaces the functions that add."""
        frame = self.top
        if frame is None:
            return own(operands)
        return self.add(frame, frame.addition(), operands, own)


def _are_symbolic(args: tuple, kwargs: dict) -> bool:
    return any(isinstance(x, keras.KerasTensor) for x in keras.tree.flatten((args, kwargs)))
