"""Residual blocks whose additions are inside of layers, and runs through their taps.

A trace of the model finds them once. In a recorded run the model's own code runs; what a layer's
`call` hands to the layers that it calls, and what it adds, is replaced by the block's versions.
"""

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import keras

from reszoo.gradients.call_stack import CallKey, CallStack, Frame, Place
from reszoo.gradients.flow import Term
from reszoo.gradients.found_block import FoundBlock, PathStep, compatible
from reszoo.gradients.located import BRANCH, SKIP, Located, Site

# The attribute of a model under which the calls that act are found.
_ACTING = "_reszoo_calls"


class CallsBlock(FoundBlock):
    """A residual block inside of a layer: its sum is computed in the layer's `call`.

    Args:
        calls: The search that found it.
        located: The places of its fork and its sum in the calls of layers.
    """

    def __init__(self, calls: "Calls", located: Located):
        super().__init__()
        self.found_in = calls
        self.located = located
        self.sum = located.sum
        self.key = located.key
        self.name = located.name
        self.fork_key = located.fork_key

    def activation(self, y: Any) -> Any:
        """Returns its argument: the model's own call computes the activation of the sum."""
        return y

    def lose(self) -> None:
        """Does nothing. Called where a fork has run without its sum."""

    @property
    def parts(self) -> list[Any]:
        return self.located.parts

    @property
    def places(self) -> list[Any]:
        return [self.located.sum.addition, self.located.layer]

    @property
    def shortcut_operations(self) -> Sequence[keras.Operation]:
        return self.located.shortcut_layers

    @property
    def branch_operations(self) -> Sequence[keras.Operation]:
        return self.located.branch_layers

    @property
    def steps(self) -> dict[str, list[PathStep]]:
        return self.located.steps

    @property
    def activation_in_words(self) -> str | None:
        return self.located.activation

    @property
    def trainable_variables(self) -> list[keras.Variable]:
        own = [v for v in self.located.own_weights if v.trainable]
        return [*super().trainable_variables, *own]

    @property
    def shortcut_in_words(self) -> str:
        if self.located.shortcut_layers or not self.located.shortcut_kinds:
            return super().shortcut_in_words
        return ", ".join(kind.lower() for kind in self.located.shortcut_kinds)

    @property
    def shapes(self) -> tuple[tuple | None, tuple | None]:
        return self.located.shapes

    def readers_of_fork(self) -> tuple[set[Any], set[Any]]:
        """Returns the sites that read the fork for the shortcut, and for the branch."""
        return self.located.readers[SKIP], self.located.readers[BRANCH]


class Calls(CallStack):
    """The residual blocks inside of the layers of a model.

    Args:
        model: The model.
        found: Where its blocks are, in the order in which it reaches their sums.

    Attributes:
        owner: The model.
        blocks: The blocks.
        left_out: The names of those whose paths cross those of another block with the same fork.
    """

    def __init__(self, model: keras.layers.Layer, found: Iterable[Located]):
        super().__init__(model)
        self.owner = model
        self.blocks, self.left_out = compatible(CallsBlock(self, located) for located in found)

    def acting(self) -> "Calls | None":
        """Returns the calls whose `replacements` are in place for the model, or `None`."""
        return vars(self.owner).get(_ACTING)

    def replacements(self) -> list[tuple[Any, str, Any]]:
        """Returns what is replaced for a run that calls the blocks: owner, attribute, value."""
        return [(self.owner, _ACTING, self), *super().replacements()]

    @functools.cached_property
    def _of_layer(self) -> dict[int, list[CallsBlock]]:
        """The blocks of each layer, by its id, the outer ones first."""
        of_layer = {}
        for block in reversed(self.blocks):
            of_layer.setdefault(id(block.located.layer), []).append(block)
        return of_layer

    def enter(
        self, layer: keras.layers.Layer, key: CallKey | None, args: tuple, kwargs: dict
    ) -> tuple[Frame | None, tuple, dict]:
        calling: Any = self.top
        inherited = []
        if calling is not None:
            args, kwargs = self._replaced(calling, "passed", key, (args, kwargs))
            inherited = [
                (run, path[1:]) for run, path in calling.awaited if path and path[0] == key
            ]
        blocks = self._of_layer.get(id(layer), ())
        if not blocks and not inherited:
            return None, args, kwargs
        return _BlockFrame(layer, calling, key, blocks, inherited), args, kwargs

    def arguments(self, frame: Any, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        return self._replaced(frame, "argument", None, (args, kwargs))

    def leave(self, frame: Any, key: CallKey | None, outputs: Any) -> Any:
        if frame is not None:
            outputs = self._replaced(frame, "returned", None, outputs)
            frame.close()
        calling: Any = self.top
        return outputs if calling is None else self._replaced(calling, "given", key, outputs)

    def add(
        self, frame: Any, place: Place, operands: Sequence[Any], own: Callable[[Sequence], Any]
    ) -> Any:
        with self.on_top(None):  # the additions of the taps are not counted
            operands = [
                frame.replaced(Site("operand", place, i), x) for i, x in enumerate(operands)
            ]
            y = frame.sum(place, operands, functools.partial(own, operands))
            return frame.replaced(Site("result", place, 0), y)

    def _replaced(self, frame: Any, kind: str, key: Any, values: Any) -> Any:
        """Returns the values at a site of a call, with the versions that are due there."""
        if (kind, key) not in frame.sites:
            return values
        flat = keras.tree.flatten(values)
        with self.on_top(None):
            flat = [frame.replaced(Site(kind, key, i), x) for i, x in enumerate(flat)]
        return keras.tree.pack_sequence_as(values, flat)


class _BlockFrame(Frame):
    """A call of a layer that has blocks, or that adds for a block of a layer that called it.

    Args:
        layer: The layer.
        parent: The call that called it, if that is watched.
        key: Its key in that call.
        blocks: Its own blocks, the outer ones first.
        inherited: Runs of blocks whose additions are in it, with the calls on the way there.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        parent: Frame | None,
        key: CallKey | None,
        blocks: Iterable[CallsBlock],
        inherited: Iterable[tuple["_BlockRun", tuple]],
    ):
        super().__init__(layer, parent, key)
        self._runs = [_BlockRun(block) for block in blocks]
        self.awaited = [(run, run.block.located.path_to_sum) for run in self._runs]
        self.awaited += inherited
        self._actions: dict[Site, list[Callable[[Any], Any]]] = {}
        for run in self._runs:
            located = run.block.located
            self._act_at(located.activated, run.block.activation)
        for run in self._runs:
            self._act_at(run.block.located.produced, run.visible)
        for run in self._runs:
            for path, sites in run.block.located.readers.items():
                for site in sites:
                    self._act_at(site, functools.partial(run.version, path))
        self.sites = {(site.kind, site.key) for site in self._actions}

    def _act_at(self, site: Site | None, action: Callable[[Any], Any]) -> None:
        if site is not None:
            self._actions.setdefault(site, []).append(action)

    def replaced(self, site: Site, value: Any) -> Any:
        """Returns the value that takes the place of another at a site.

        Args:
            site: The site.
            value: The value that the model's code hands over there.
        """
        for action in self._actions.get(site, ()):
            value = action(value)
        return value

    def sum(self, place: Place, operands: Sequence[Any], own: Callable[[], Any]) -> Any:
        """Returns the sum of an addition in this call.

        Args:
            place: Its place.
            operands: The tensors that are added.
            own: Adds them.
        """
        for run, path in self.awaited:
            if not path and any(t.addition.place[1] == place for t in run.block.sum.terms):
                return run.add(place, operands, own)
        return own()

    def close(self) -> None:
        """Ends the call."""
        for run in self._runs:
            run.close()


class _BlockRun:
    """One run of a block, within one call of its layer.

    Args:
        block: The block.
    """

    def __init__(self, block: CallsBlock):
        self.block = block
        self._ends: dict[str, Any] = {}
        self._terms: dict[Term, Any] = {}
        self._is_merged = False

    def version(self, path: str | None, value: Any) -> Any:
        """Returns the fork's tensor as it is read for a path; for neither, as it was.

        Args:
            path: The path, or `None`.
            value: The tensor as it was handed there.
        """
        if not self._ends:
            if path is None:
                return value
            self._fork(value)
        elif value is not self._ends[""]:
            self._ends["lost"] = True
            return value
        if path is None and self.block.located.visible:
            return self._origin
        return self._ends[path or ""]

    def visible(self, value: Any) -> Any:
        """Returns the version of the fork's tensor that the layer's own code sees.

        Args:
            value: The tensor, where it is computed.
        """
        self._fork(value)
        self._ends[""] = self._ends[self.block.located.visible or ""]
        return self._ends[""]

    def _fork(self, value: Any) -> None:
        skip, branch = self.block.fork(value)
        self._origin = value
        self._ends = {"": value, SKIP: skip, BRANCH: branch}

    def add(self, place: Place, operands: Sequence[Any], own: Callable[[], Any]) -> Any:
        """Returns a sum, by the block's `merge` if it is its last addition."""
        for term in self.block.sum.terms:
            if term.addition.place[1] == place:
                self._terms[term] = operands[term.position]
        if self.block.sum.addition.place[1] != place:
            return own()
        if not self._ends or len(self._terms) < len(self.block.sum.terms):
            return own()
        if self._differ():
            return own()
        self._is_merged = True
        y = self.block.add(own, self._terms)
        return y if self.block.located.has_activation else self.block.activation(y)

    def _differ(self) -> bool:
        """Returns whether the terms have other shapes than in the trace."""
        shapes = [_sizes(x) for x in self._terms.values()]
        return "lost" in self._ends or any(shape != shapes[0] for shape in shapes)

    def close(self) -> None:
        """Ends the run."""
        if self._ends and not self._is_merged:
            self.block.lose()


def _sizes(x: Any) -> tuple | None:
    """Returns the shape of a tensor, or of a number; `None` if its rank is unknown."""
    shape = getattr(x, "shape", ())
    return None if getattr(shape, "rank", 0) is None else tuple(shape)
