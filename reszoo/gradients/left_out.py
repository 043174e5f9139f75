"""Numbers that a recorded step does not have: NaN in their place, and a warning of each kind."""

import warnings
from collections.abc import Iterable, Sequence

import numpy as np

from reszoo.gradients.measures import BACKWARD_PLACES, NOISE_SUMS, Measure

_NO_LOSS = (
    "the loss of a recorded step is left out, since it is not known: that takes one backward pass "
    "that all blocks are recorded of, from a scalar."
)


def pass_of_all(numbers: Iterable[float], passes: float) -> int | None:
    """Returns the number of the backward pass that all blocks are recorded of, or `None`.

    Args:
        numbers: The number of the pass of each place that a pass has reached, from 1.
        passes: Number of backward passes of the step.

    Example:

    >>> pass_of_all([2, 2], 3), pass_of_all([], 1), pass_of_all([1, 2], 2)
    (2, 1, None)
    """
    found = set(numbers) or ({1} if passes == 1 else set())
    return int(found.pop()) if len(found) == 1 else None


class LeftOut:
    """Replaces sums that were not observed by NaN, and warns once of each kind.

    Args:
        model: Name of the model.
        blocks: Names of its blocks.
        variables: Paths of the weights that are observed.
        measures: The measures that are taken at each block.
        why_unreached: Reasons for which a backward pass can go unobserved on this backend.
    """

    def __init__(
        self,
        model: str,
        blocks: Iterable[str],
        variables: Iterable[str],
        measures: Sequence[Measure],
        why_unreached: str,
    ):
        self._model = model
        self._blocks = np.array(list(blocks), object)
        self._variables = np.array(list(variables), object)
        self._place_of = {name: m.place for m in measures for name in m.powers}
        self._why_unreached = why_unreached
        self._told = set()

    def tell_again(self) -> None:
        """Warns of each kind once more, in another training."""
        self._told.clear()

    def leave_out_blocks(
        self, sums: dict[str, np.ndarray], ran: np.ndarray, reached: np.ndarray, passes: float
    ) -> None:
        """Replaces the sums by NaN where no backward pass was observed.

        Args:
            sums: Sums by name, each of shape `(blocks,)`.
            ran: Whether each block ran forward, of shape `(blocks,)`.
            reached: Number of backward passes at each of `BACKWARD_PLACES`, of shape
                `(blocks, places)`.
            passes: Number of backward passes of the step.
        """
        # The gradient of a block that ran is zero if a pass was made that did not reach it.
        unseen = (reached == 0) & (~ran[:, None] | (passes == 0))
        backward = [name for name, place in self._place_of.items() if place in BACKWARD_PLACES]
        for name in backward:
            sums[name][unseen[:, BACKWARD_PLACES.index(self._place_of[name])]] = np.nan
        if not backward:
            return
        self._tell(
            "blocks",
            self._blocks[unseen.any(axis=1)],
            "no backward pass reached {} in a recorded step, so what comes back to them is "
            f"recorded as NaN: they did not run, or {self._why_unreached}.",
        )
        self._tell(
            "blocks",
            self._blocks[reached.max(axis=1) > 1],
            "several backward passes reached {} in a recorded step. The statistics of their "
            "paths are those of the last that differentiates by their weights.",
        )

    def leave_out(
        self, sums: dict[str, np.ndarray], names: Iterable[str], where: np.ndarray, text: str
    ) -> None:
        """Replaces some sums of some blocks by NaN.

        Args:
            sums: Sums by name, each of shape `(blocks,)`.
            names: The names of those that are replaced.
            where: Whether those of each block are, of shape `(blocks,)`.
            text: The reason, with `{}` for the blocks.
        """
        names = list(names)
        for name in names:
            sums[name][where] = np.nan
        if names:
            self._tell("blocks", self._blocks[where], text)

    def leave_out_weights(self, sums: dict[str, np.ndarray]) -> None:
        """Replaces the sums by NaN where no update was observed.

        Args:
            sums: Sums by name, each of shape `(weights,)`; empty if weights are not observed.
        """
        if not sums:
            return
        updates = sums["updates_seen"]
        for name, values in sums.items():
            if name in NOISE_SUMS:
                values[np.rint(updates) != 1] = np.nan
            elif name != "updates_seen":
                values[updates == 0] = np.nan
        self._tell(
            "weights",
            self._variables[updates == 0],
            "no optimizer's apply was given {} in a recorded step, so norms, gradients and updates "
            "are recorded as NaN.",
        )
        self._tell(
            "weights",
            self._variables[np.rint(updates) > 1],
            "{} are updated several times in a recorded step. Their gradients and updates are "
            "those of the last time.",
        )

    def tell_of_loss(self, loss: float | None, passes: float) -> None:
        """Warns once of a step whose loss is not known, if there was one.

        Args:
            loss: The loss of the step; `None` if it is not known.
            passes: Number of backward passes of the step.
        """
        if loss is None and passes and _NO_LOSS not in self._told:
            self._told.add(_NO_LOSS)
            warnings.warn(f"{self._model!r}: {_NO_LOSS}", stacklevel=4)

    def _tell(self, kind: str, names: np.ndarray, text: str) -> None:
        """Warns once of blocks or weights that are left out."""
        if not len(names) or text in self._told:
            return
        self._told.add(text)
        some = ", ".join([*names[:3], *(["..."] if len(names) > 3 else [])])
        text = text.format(f"{len(names)} of the {kind} ({some})")
        warnings.warn(f"{self._model!r}: {text}", stacklevel=4)
