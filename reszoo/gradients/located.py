"""Places of residual sums in the calls of layers, so that a run of the model's code finds them."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras

from reszoo.gradients.call_stack import Frame
from reszoo.gradients.flow import GatedSum, ResidualSum, gated_sums, residual_sums
from reszoo.gradients.found_block import PathStep
from reszoo.gradients.traced_calls import Trace, TracedCall, innermost_around
from reszoo.keras_internals import is_addition, is_layer_of_keras, is_subtraction, sublayers
from reszoo.layers import ResidualBlock

SKIP, BRANCH = "skip", "branch"
# Kinds of operations that are not listed, since they change no number.
_NOT_LISTED = ("Identity", "Cast", "Reshape")


class Site(NamedTuple):
    """A place in a layer's call where a tensor is handed from one piece of code to another.

    Attributes:
        kind: `"argument"` that the layer's `call` gets, `"passed"` to a layer that it calls,
            `"given"` back by that, `"operand"` and `"result"` of an addition, `"returned"`.
        key: The called layer or the addition; `None` for the layer itself.
        position: The position among the values there, structures flattened.
    """

    kind: str
    key: Any
    position: int


@dataclass
class Located:
    """A residual sum inside of a layer.

    Attributes:
        sum: The sum.
        layer: The layer in whose call the fork is read.
        adds_in: The layer in whose call the sum is computed.
        path_to_sum: The calls from the one call to the other.
        readers: The sites that read the fork: for the skip, the branch, and neither.
        visible: The path whose version of the fork all other code of the call sees; `None` if no
            code but that at the sites reads it.
        produced: The site where the fork's tensor appears, if there is a visible version.
        activated: The site where the activation of the sum appears; `None` if that is not seen.
        has_activation: Whether an activation function is the only reader of the sum.
        activation: The name of that function.
        shortcut_layers: The layers called on the shortcut.
        branch_layers: Those called on the branch.
        steps: What is applied on the skip and on the branch, in its order.
        shortcut_kinds: The kinds of other operations on the shortcut.
        own_weights: Weights of the layer itself that may be on the paths.
        shapes: The shapes at the fork and of the sum; `None` for one of unknown rank.
        fork_key: The same for all blocks with this fork.
        parts: The layers and additions on the paths.
        names: The names of the layers around, the outermost first.
        name: Its name, if no other has it.
    """

    sum: ResidualSum
    layer: keras.layers.Layer
    adds_in: keras.layers.Layer
    path_to_sum: tuple = ()
    readers: dict[str | None, set[Site]] = field(default_factory=dict)
    visible: str | None = None
    produced: Site | None = None
    activated: Site | None = None
    has_activation: bool = False
    activation: str | None = None
    shortcut_layers: list[keras.layers.Layer] = field(default_factory=list)
    branch_layers: list[keras.layers.Layer] = field(default_factory=list)
    steps: dict[str, list[PathStep]] = field(default_factory=dict)
    shortcut_kinds: list[str] = field(default_factory=list)
    own_weights: list[keras.Variable] = field(default_factory=list)
    shapes: tuple[tuple | None, tuple | None] = ((), ())
    fork_key: Any = None
    parts: list[Any] = field(default_factory=list)
    names: tuple[str, ...] = ()
    name: str = ""

    @property
    def key(self) -> Any:
        """The same in each search that finds it."""
        return id(self.layer), self.path_to_sum, self.sum.addition.place[1]

    def forget_shapes(self) -> None:
        """Forgets the shapes of what is applied: they are of sizes chosen for a trace."""
        for step in itertools.chain.from_iterable(self.steps.values()):
            step.input_shape = step.output_shape = None


class Unseen(NamedTuple):
    """Something that is added inside of a layer and cannot be recorded; other sums of it can be.

    Attributes:
        layer: The layer.
        reason: Why not.
        is_whole: Whether nothing of this layer can be recorded, because a call of it is not seen.
    """

    layer: keras.layers.Layer
    reason: str
    is_whole: bool = False


class NotSeenError(Exception):
    """A residual sum that a run of the model's code cannot find.

    Args:
        layer: The layer that it is in.
        reason: Why not.
        is_whole: Whether nothing of this layer can be recorded.
    """

    def __init__(self, layer: keras.layers.Layer, reason: str, is_whole: bool = False):
        super().__init__(reason)
        self.unseen = Unseen(layer, reason, is_whole)


def located_in(trace: Trace, graph_owners: Iterable[Any]) -> tuple[list[Located], list[Unseen]]:
    """Returns the residual sums inside of layers, and others that cannot be recorded.

    Args:
        trace: The trace of a model.
        graph_owners: The functional models whose own additions are found in their graphs.
    """
    owners = {id(owner) for owner in graph_owners}
    found, unseen = [], [Unseen(*of_layer) for of_layer in trace.unseen]
    for residual_sum in residual_sums(trace.flow):
        try:
            located = _located(trace, residual_sum, owners)
        except NotSeenError as error:
            unseen.append(error.unseen)
            continue
        if located is not None:
            found.append(located)
    return found, [*unseen, *_gated(trace, owners)]


def _gated(trace: Trace, owners: set[int]) -> Iterator[Unseen]:
    """Yields the layers that add a branch and a gated shortcut."""
    for found in gated_sums(trace.flow):
        adding = found.addition.place[0]
        between = trace.flow.between(found.fork, found.addition.result)
        calls = [trace.call_of[n] for n in between]
        call = innermost_around([adding, *calls])
        if call is None or (id(call.layer) in owners and _is_of_graph(call, adding)):
            continue
        if not (isinstance(call.layer, ResidualBlock) or is_layer_of_keras(call.layer)):
            yield Unseen(call.layer, reason_of_gated(found))


def reason_of_gated(found: GatedSum) -> str:
    """Returns why a gated sum is not recorded.

    Args:
        found: The sum.
    """
    if found.reads_more:
        shared = " and share a gate" if found.shares_gate else ""
        return (
            f"the two paths of a block read another tensor{shared}, as those of each step of a "
            "GRU do, so that they part at several tensors"
        )
    return (
        "the two paths of a block share a gate or a part of it, as in a highway network; "
        "reszoo.layers.ExclusiveGatedBlock computes it for each of them"
    )


def _located(trace: Trace, found: ResidualSum, owners: set[int]) -> Located | None:
    """Returns a sum with its places; `None` if it is no block."""
    flow, adding = trace.flow, found.addition.place[0]
    of_path = {
        SKIP: set(flow.between(found.fork, found.skip.tensor)),
        BRANCH: {n for term in found.branch for n in flow.between(found.fork, term.tensor)},
    }
    calls = [trace.call_of[n] for n in of_path[SKIP] | of_path[BRANCH]]
    call = innermost_around([adding, *calls])
    if call is None or (id(call.layer) in owners and _is_of_graph(call, adding)):
        return None
    layers = {path: _layers_called(trace, call, adding, of_path[path]) for path in of_path}
    if isinstance(call.layer, ResidualBlock) or not _only_adds(call, adding, calls):
        return None
    if not (layers[BRANCH] or _has_own_kernel(trace, call, of_path[BRANCH])):
        return None
    if not _is_shortcut(trace, found, of_path):
        return None
    _check_seen(trace, found, [adding, call, *calls])
    located = Located(
        found,
        call.layer,
        adding.layer,
        tuple(inner.key for inner in adding.lineage()[len(call.lineage()) :]),
        shortcut_layers=layers[SKIP],
        branch_layers=layers[BRANCH],
        steps={path: _steps(trace, call, adding, of_path[path]) for path in of_path},
        shortcut_kinds=[trace.kinds[n] for n in sorted(of_path[SKIP])],
        own_weights=_own_weights(trace, call, of_path[SKIP] | of_path[BRANCH]),
        shapes=(flow.tensors[found.fork].shape, flow.tensors[found.addition.result].shape),
        fork_key=(id(trace), found.fork),
        names=tuple(around.layer.name for around in call.lineage()),
    )
    _find_fork(trace, located, call, of_path)
    _find_activation(trace, located, call)
    on_paths = of_path[SKIP] | of_path[BRANCH]
    inner = [a for a in flow.additions if a.result in on_paths]
    located.parts = [*layers[SKIP], *layers[BRANCH], *inner]
    return located


def _is_of_graph(call: TracedCall, adding: TracedCall) -> bool:
    """Returns whether the node of a functional model that adds is known to add."""
    return call is adding or is_addition(adding.layer) or is_subtraction(adding.layer)


def _only_adds(call: TracedCall, adding: TracedCall, calls: Iterable[TracedCall]) -> bool:
    """Returns whether a layer that adds what it is given has no layers on the paths itself."""
    adds = call.below(adding)
    return adds is None or all(c is adding for c in calls if call.below(c) is adds)


def _is_shortcut(trace: Trace, found: ResidualSum, of_path: dict[str, set[int]]) -> bool:
    """Returns whether a shortcut is one: a sum of two linear functions, as of scores, has none."""

    def some(path: str, attribute: str) -> bool:
        return any(getattr(trace.flow.tensors[n], attribute) for n in of_path[path])

    return found.has_identity or not some(SKIP, "kernels") or some(BRANCH, "is_nonlinear")


def _has_own_kernel(trace: Trace, call: TracedCall, numbers: set[int]) -> bool:
    """Returns whether a user's own code multiplies by a matrix of weights itself."""
    return not is_layer_of_keras(call.layer) and any(
        trace.flow.tensors[n].kernels for n in numbers if trace.call_of[n] is call
    )


def _check_seen(trace: Trace, found: ResidualSum, calls: Sequence[TracedCall]) -> None:
    """Refuses a sum whose gradients a recorded run does not see, or that it does not find."""
    call = calls[1]
    reasons = [c.unseen for inner in calls for c in inner.lineage() if c.unseen]
    if trace.reason or reasons:
        raise NotSeenError(call.layer, trace.reason or reasons[0], is_whole=True)
    if any(term.addition.place[1] is None for term in found.terms):
        reason = "it adds by a function of which no call is seen; + or add is"
        raise NotSeenError(call.layer, reason)


def _layers_called(
    trace: Trace, call: TracedCall, adding: TracedCall, numbers: set[int]
) -> list[keras.layers.Layer]:
    """Returns the layers that a call calls on a path, without the one that only adds."""
    below = {id(c): c for n in sorted(numbers) for c in [call.below(trace.call_of[n])] if c}
    adds = call.below(adding)
    return list({id(c.layer): c.layer for c in below.values() if c is not adds}.values())


def _steps(trace: Trace, call: TracedCall, adding: TracedCall, numbers: set[int]) -> list[PathStep]:
    """Returns the calls that a call makes on a path, and what its own code does between them."""
    seen, placed = {id(call.below(adding))}, []
    for number in sorted(numbers):
        inner = call.below(trace.call_of[number])
        if inner is None and trace.kinds[number] not in _NOT_LISTED:
            placed.append((number, trace.kinds[number]))
        elif inner is not None and id(inner) not in seen:
            seen.add(id(inner))
            placed.append((number, inner))
    for inner in trace.calls:  # those that return what they are given, such as dropout at rate 0
        same = numbers & {*inner.passed} & {*inner.returned}
        if same and inner.parent is call and id(inner) not in seen:
            placed.append((max(same) + 0.5, inner))
    in_turn = [what for _, what in sorted(placed, key=lambda each: each[0])]
    grouped = itertools.groupby(in_turn, lambda what: what if isinstance(what, Frame) else None)
    return [_step(trace, inner, whats) for inner, whats in grouped]


def _step(trace: Trace, inner: Any, whats: Iterable[Any]) -> PathStep:
    if inner is None:
        return PathStep(None, tuple(whats))
    given, returned = (
        [trace.flow.tensors[n].shape for n in numbers if n is not None]
        for numbers in (inner.passed, inner.returned)
    )
    known = (shapes[0] if len(shapes) == 1 else None for shapes in (given, returned))
    return PathStep(inner.layer, (), *known)


def _own_weights(trace: Trace, call: TracedCall, numbers: set[int]) -> list[keras.Variable]:
    """Returns the weights of a layer itself, if its own code uses weights on the paths."""
    if not any(trace.call_of[n] is call and trace.flow.tensors[n].has_weights for n in numbers):
        return []
    of_sublayers = {id(v) for part in sublayers(call.layer, False) for v in part.variables}
    return [v for v in call.layer.variables if id(v) not in of_sublayers]


def _find_fork(
    trace: Trace, located: Located, call: TracedCall, of_path: dict[str, set[int]]
) -> None:
    """Finds the sites that read the fork."""
    fork, skip = located.sum.fork, located.sum.skip
    sites, raw = {SKIP: set(), BRANCH: set(), None: set()}, set()
    for path, numbers in of_path.items():
        for number in trace.readers(fork, numbers):
            inner = call.below(trace.call_of[number])
            if inner is not None:
                sites[path] |= _passed_to(inner, fork, located)
            elif operands := _operands(trace, call, number, fork):
                sites[path] |= operands
            else:
                raw.add(path)
    if located.sum.has_identity:
        inner = call.below(skip.addition.place[0])
        if inner is not None:
            sites[SKIP] |= _passed_to(inner, fork, located)
        else:
            sites[SKIP].add(Site("operand", skip.addition.place[1], skip.position))
    if sites[SKIP] & sites[BRANCH]:
        raise NotSeenError(call.layer, "one of its layers reads the fork for both paths of a block")
    located.readers = sites
    if raw:
        _make_visible(trace, located, call, raw, of_path)


def _operands(trace: Trace, call: TracedCall, number: int, fork: int) -> set[Site]:
    """Returns the sites where an addition in a call reads the fork; none if it is none."""
    return {
        Site("operand", addition.place[1], i)
        for addition in trace.flow.additions
        if addition.result == number and addition.place[0] is call and addition.place[1]
        for i, operand in enumerate(addition.operands)
        if operand == fork
    }


def _passed_to(inner: TracedCall, fork: int, located: Located) -> set[Site]:
    """Returns the sites where a call is handed the fork."""
    sites = {Site("passed", inner.key, i) for i, n in enumerate(inner.passed) if n == fork}
    if not sites:
        raise NotSeenError(
            located.layer, f"{inner.layer.name!r} reads the fork without being given it"
        )
    return sites


def _make_visible(
    trace: Trace,
    located: Located,
    call: TracedCall,
    raw: set[str],
    of_path: dict[str, set[int]],
) -> None:
    """Has the layer's own code see one path's version of the fork, from where it appears on."""
    if len(raw) > 1:
        raise NotSeenError(call.layer, "its own code reads the fork for both paths of a block")
    located.visible = raw.pop()
    fork = located.sum.fork
    of_sum = {term.addition.result for term in located.sum.terms}
    on_paths = of_path[SKIP] | of_path[BRANCH] | of_sum
    located.produced = _site_of(trace, call, fork)
    if located.produced is None:
        raise NotSeenError(call.layer, "its own code computes the fork of a block and reads it")
    for number in trace.flow.tensors[fork].readers:
        if number in on_paths:
            continue
        around = trace.call_of[number].lineage()
        inner = call.below(trace.call_of[number]) if call in around else None
        if inner is not None:
            located.readers[None] |= _passed_to(inner, fork, located)
        elif operands := _operands(trace, call, number, fork):
            located.readers[None] |= operands
        elif call in around or located.produced.kind != "argument":
            raise NotSeenError(
                call.layer, "its own code reads the fork of a block outside of its paths"
            )
    located.readers[None] -= located.readers[SKIP] | located.readers[BRANCH]


def _site_of(trace: Trace, call: TracedCall, number: int) -> Site | None:
    """Returns the site where a tensor appears in a call, or `None`."""
    if number in call.arguments:
        return Site("argument", None, call.arguments.index(number))
    for inner in trace.calls:
        if inner.parent is call and number in inner.returned and number not in inner.passed:
            return Site("given", inner.key, inner.returned.index(number))
    for addition in trace.flow.additions:
        frame, place = addition.place
        if frame is call and addition.result == number and place is not None:
            return Site("result", place, 0)
    return None


def _find_activation(trace: Trace, located: Located, call: TracedCall) -> None:
    """Finds the site where the activation of the sum appears, if only that reads the sum."""
    readers = trace.flow.tensors[located.sum.addition.result].readers
    if len(readers) != 1:
        return
    (number,) = readers
    if trace.flow.tensors[number].sources != (located.sum.addition.result,):
        return
    located.has_activation = trace.flow.tensors[number].is_nonlinear
    if not located.has_activation:
        return
    located.activation = trace.kinds[number].lower()
    located.activated = next(_sites_with(trace, call, number), None)


def _sites_with(trace: Trace, call: TracedCall, number: int) -> Iterator[Site]:
    """Yields the sites of a call where a tensor is handed over."""
    for inner in trace.calls:
        if inner.parent is call:
            for kind, numbers in (("given", inner.returned), ("passed", inner.passed)):
                if number in numbers:
                    yield Site(kind, inner.key, numbers.index(number))
    if number in call.returned:
        yield Site("returned", None, call.returned.index(number))
