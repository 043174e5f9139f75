"""Data flow that carries gradients, and the residual sums in it.

It is the same search for the graph of a functional model, whose tensors are symbolic, and for the
additions inside of layers, which a trace of the model finds.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Addition:
    """One addition of tensors, or a difference of two.

    Attributes:
        place: Anything by which the searcher knows it.
        operands: The numbers of its tensors; `None` for those that no gradient reaches.
        result: The number of the tensor that it returns.
        subtracts: Whether its second operand is subtracted from the first.
        scope: Additions are joined to one sum only if this is the same.
    """

    place: Any
    operands: tuple[int | None, ...]
    result: int
    subtracts: bool = False
    scope: Any = None


@dataclass(frozen=True)
class Term:
    """A tensor that is added, at its place in an addition.

    Attributes:
        addition: The addition that reads it.
        position: Its position among the operands.
        sign: 1, or -1 for what is subtracted.
        tensor: Its number.
    """

    addition: Addition
    position: int
    sign: int
    tensor: int


@dataclass(frozen=True)
class ResidualSum:
    """A sum of a shortcut and a branch that part at one tensor.

    Attributes:
        addition: The last of the additions, which returns the sum.
        fork: The number of the tensor where the paths part.
        skip: The term at the end of the shortcut.
        branch: The terms of the branch; the branch's output is their sum.
    """

    addition: Addition
    fork: int
    skip: Term
    branch: tuple[Term, ...]

    @property
    def terms(self) -> tuple[Term, ...]:
        """All terms."""
        return (self.skip, *self.branch)

    @property
    def has_identity(self) -> bool:
        """Whether the fork itself is added."""
        return self.skip.tensor == self.fork


@dataclass(frozen=True)
class GatedSum:
    """A sum `f(x) + x g(x)` that is no residual sum, since its paths part at several tensors.

    Attributes:
        addition: The addition that returns the sum.
        fork: The number of `x`.
        shares_gate: Whether the gate, or a part of it, is in `f(x)` too.
        reads_more: Whether anything but `x` and weights is in the sum.
    """

    addition: Addition
    fork: int
    shares_gate: bool
    reads_more: bool


@dataclass
class Tensor:
    """A tensor of the flow.

    Attributes:
        sources: The numbers of the tensors from which gradients flow into it.
        shape: Its shape, with `None` for an unknown size; `None` if its rank is unknown.
        is_nonlinear: Whether an activation function returns it.
        has_weights: Whether weights of the model are in it, beside those in its sources.
        kernels: Number of matrices and filters among these weights.
        is_input: Whether it depends on the model's inputs, and not on its weights alone.
        readers: The numbers of the tensors computed from it.
        origins: A bit for each tensor that it depends on, itself included.
    """

    sources: tuple[int, ...]
    shape: tuple[int | None, ...] | None
    is_nonlinear: bool = False
    has_weights: bool = False
    kernels: int = 0
    is_input: bool = True
    readers: list[int] = field(default_factory=list)
    origins: int = 0


class Flow:
    """Tensors in the order in which they are computed, and the additions among them.

    Attributes:
        tensors: The tensors, by number.
        additions: The additions, in the order in which they are computed.
        concatenations: The number of the result of each concatenation, and its operands.
        products: The numbers of the results of products, element by element.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.additions: list[Addition] = []
        self.concatenations: dict[int, tuple[int, ...]] = {}
        self.products: set[int] = set()
        self._inputs = 0  # a bit for each tensor that depends on the model's inputs

    def add(self, tensor: Tensor) -> int:
        """Adds a tensor whose sources are there, and returns its number.

        Args:
            tensor: The tensor.
        """
        number = len(self.tensors)
        self.tensors.append(tensor)
        tensor.origins = 1 << number
        self._inputs |= tensor.is_input << number
        for source in tensor.sources:
            tensor.origins |= self.tensors[source].origins
            self.tensors[source].readers.append(number)
        return number

    def depends(self, tensor: int, on: int) -> bool:
        """Returns whether a gradient flows from a tensor to one that it depends on, or is itself.

        Args:
            tensor: The number of the tensor.
            on: The number of the other.
        """
        return bool(self.tensors[tensor].origins >> on & 1)

    def between(self, start: int, end: int) -> list[int]:
        """Returns the tensors on the paths from one tensor to another, the latter included.

        Args:
            start: The number of the tensor at which the paths begin.
            end: The number of the tensor at which they end.
        """
        candidates = self.tensors[end].origins >> (start + 1) << (start + 1)
        return [number for number in _bits(candidates) if self.depends(number, start)]

    def common_origin(self, tensors: Iterable[int]) -> int | None:
        """Returns the nearest tensor that all depend on and at which the paths to them part.

        It depends on the model's inputs, since weights may be shared by any two paths. No path goes
        round it: what they have in common besides is reached through it, but for tensors of fewer
        dimensions, such as the embedding of a class.

        Args:
            tensors: Numbers of tensors.

        Returns:
            Its number; `None` if there is none, or paths part at several.
        """
        origins = [self.tensors[number].origins for number in tensors]
        common = functools.reduce(int.__and__, origins) & self._inputs
        if not common:
            return None
        nearest = common.bit_length() - 1
        rank = self._rank(nearest)
        beyond = functools.reduce(int.__or__, origins) & ~common
        exits = {source for v in _bits(beyond) for source in self.tensors[v].sources}
        exits |= set(tensors)
        parting = {x for x in exits if common >> x & 1 and not self._rank(x) < rank}
        return nearest if parting == {nearest} else None

    def _rank(self, tensor: int) -> float:
        """Returns the rank of a tensor; NaN, which is less than none, if it is unknown."""
        shape = self.tensors[tensor].shape
        return math.nan if shape is None else len(shape)


def residual_sums(flow: Flow) -> list[ResidualSum]:
    """Returns the residual sums of a flow, in the order of their additions.

    A sum of three terms and more is one: its shortcut is the term that is the fork, or else that
    with the fewest kernels on its path, or else the shortest; the sum of the others is its branch.

    Args:
        flow: The flow.
    """
    found: dict[int, ResidualSum] = {}
    for addition in flow.additions:
        inner = [found.get(x) for x in addition.operands if x is not None]
        inner = [
            s for s in inner if s and flow.tensors[s.addition.result].readers == [addition.result]
        ]
        candidate = _joined(flow, addition, inner) or _sum_at(flow, addition, _terms(addition))
        if candidate is None:
            continue
        found[addition.result] = candidate
        for part in inner:
            if part.fork == candidate.fork:
                found.pop(part.addition.result, None)
    return [
        residual_sum
        for residual_sum in found.values()
        if not (_is_part_of_a_cell(flow, residual_sum) or _is_one_of_many(flow, residual_sum))
    ]


def gated_sums(flow: Flow) -> list[GatedSum]:
    """Returns the sums with a gated shortcut that are no residual sums.

    The gate has weights, as in a highway network or a GRU.

    Args:
        flow: The flow.
    """
    found = []
    for addition in flow.additions:
        terms = [x for x in addition.operands if x is not None]
        if len(terms) == 2 and flow.common_origin(terms) is None:
            sums = (_gated_sum(flow, addition, *pair) for pair in (terms, terms[::-1]))
            found += [gated for gated in sums if gated is not None][:1]
    return found


def _gated_sum(flow: Flow, addition: Addition, gated: int, other: int) -> GatedSum | None:
    """Returns a sum one term of which is a tensor times a gate of itself, read by the other too."""
    sources = flow.tensors[gated].sources if gated in flow.products else ()
    for x in sources:
        gates = [gate for gate in sources if gate != x and flow.depends(gate, x)]
        if flow.tensors[x].shape != flow.tensors[gated].shape or not flow.depends(other, x):
            continue
        of_gates = {number for gate in gates for number in flow.between(x, gate)}
        of_other = set(flow.between(x, other))
        own = of_other - of_gates
        if all(any(flow.tensors[n].kernels for n in path) for path in (of_gates, own)):
            return GatedSum(addition, x, bool(of_other & of_gates), _reads_more(flow, addition, x))
    return None


def _reads_more(flow: Flow, addition: Addition, fork: int) -> bool:
    """Returns whether a sum has anything in it but what depends on a fork, and weights."""
    paths = flow.between(fork, addition.result)
    read = {source for number in paths for source in flow.tensors[number].sources}
    return any(flow.tensors[x].is_input and not flow.depends(x, fork) for x in read)


def _terms(addition: Addition) -> list[Term]:
    return [
        Term(addition, i, -1 if addition.subtracts and i == 1 else 1, x)
        for i, x in enumerate(addition.operands)
        if x is not None
    ]


def _joined(flow: Flow, addition: Addition, inner: Sequence[ResidualSum]) -> ResidualSum | None:
    """Returns the sum of an addition and of one that only it reads, if they have one fork."""
    for part in inner:
        terms = _terms(addition)
        outer = [term for term in terms if term.tensor != part.addition.result]
        (place,) = [term for term in terms if term.tensor == part.addition.result][:1]
        if place.sign < 0 or not outer or part.addition.scope != addition.scope:
            continue
        together = _sum_at(flow, addition, [*part.terms, *outer])
        if together is not None and together.fork == part.fork:
            return together
    return None


def _sum_at(flow: Flow, addition: Addition, terms: Sequence[Term]) -> ResidualSum | None:
    """Returns the residual sum of some terms, or `None`."""
    tensors = [term.tensor for term in terms]
    shape = flow.tensors[addition.result].shape
    if len(terms) < 2 or len(set(tensors)) < len(tensors):
        return None
    if any(flow.tensors[x].shape != shape for x in tensors):
        return None
    identity = next((t for t in terms if all(flow.depends(x, t.tensor) for x in tensors)), None)
    if identity is not None:
        skip, fork = identity, identity.tensor
    else:
        fork = flow.common_origin(tensors)
        if fork is None:
            return None
        skip = min(terms, key=functools.partial(_depth, flow, fork))
    found = ResidualSum(addition, fork, skip, tuple(term for term in terms if term is not skip))
    return found if skip.sign > 0 and _has_shortcut(flow, found) else None


def _depth(flow: Flow, fork: int, term: Term) -> tuple[int, int]:
    """Returns the number of kernels on the path to a term, and that of its tensors."""
    path = flow.between(fork, term.tensor)
    return sum(flow.tensors[number].kernels for number in path), len(path)


def _has_shortcut(flow: Flow, found: ResidualSum) -> bool:
    """Returns whether the shorter path of a sum is a shortcut, and not a branch among others.

    In a difference it has no weights: otherwise that compares two functions.
    """
    path = [flow.tensors[number] for number in flow.between(found.fork, found.skip.tensor)]
    if found.has_identity or not any(x.has_weights for x in path):
        return True
    if any(term.sign < 0 for term in found.terms):
        return False
    return not any(x.is_nonlinear for x in path) or _has_nonlinear_projection(flow, found)


def _has_nonlinear_projection(flow: Flow, found: ResidualSum) -> bool:
    """Returns whether a shortcut is one projection with an activation, and its branch is deeper."""
    branch, *more = found.branch
    if more or _depth(flow, found.fork, found.skip)[0] != 1:
        return False
    path = flow.between(found.fork, branch.tensor)
    is_deeper = _depth(flow, found.fork, branch)[0] > 1
    return is_deeper and any(flow.tensors[number].is_nonlinear for number in path)


def _is_one_of_many(flow: Flow, found: ResidualSum) -> bool:
    """Returns whether a sum is one of several that add up parallel paths with activations."""
    path = [flow.tensors[number] for number in flow.between(found.fork, found.skip.tensor)]
    if not (any(x.is_nonlinear for x in path) and any(x.has_weights for x in path)):
        return False
    result, ends = found.addition.result, {term.tensor for term in found.branch}
    for addition in flow.additions:
        operands = [x for x in addition.operands if x is not None]
        is_parallel = not all(flow.depends(x, result) for x in operands)
        if result in operands and is_parallel:
            return True
        if addition.result in ends and flow.common_origin(operands) == found.fork:
            return True
    return False


def _is_part_of_a_cell(flow: Flow, found: ResidualSum) -> bool:
    """Returns whether a sum is only concatenated, with another sum that is parallel to it."""
    result = found.addition.result
    readers = flow.tensors[result].readers
    if not readers or not all(reader in flow.concatenations for reader in readers):
        return False
    sums = {addition.result for addition in flow.additions}
    joined = (x for reader in readers for x in flow.concatenations[reader])
    return any(
        x in sums
        and flow.depends(x, found.fork)
        and not flow.depends(x, result)
        and not flow.depends(result, x)
        for x in joined
    )


def _bits(mask: int) -> Iterator[int]:
    """Yields the positions of the bits that are set, the lowest first."""
    while mask:
        lowest = mask & -mask
        yield lowest.bit_length() - 1
        mask ^= lowest
