"""Taps of a whole model: installed while a recorded step runs, and read by the host."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import torch

from reszoo.distribution import is_chief
from reszoo.gradients.backend.torch.block_sums import BlockSums
from reszoo.gradients.backend.torch.passes import Passes
from reszoo.gradients.backend.torch.processes import gathered, number_of_processes
from reszoo.gradients.backend.torch.reductions import OnHost, Scale, Sum
from reszoo.gradients.backend.torch.switch import Switch
from reszoo.gradients.backend.torch.taps import BlockTaps
from reszoo.gradients.backend.torch.update_taps import UpdateTaps
from reszoo.gradients.backend.torch.weight_sums import WeightSums
from reszoo.gradients.blocks import find_blocks, found_in
from reszoo.gradients.first_batch import check_built, has_all_weights
from reszoo.gradients.found_block import FoundBlock, acting_block
from reszoo.gradients.left_out import LeftOut, pass_of_all
from reszoo.gradients.measures import BACKWARD_PLACES, measures_of
from reszoo.gradients.patching import replace
from reszoo.keras_internals import RUN_BACKWARD
from reszoo.layers import ResidualBlock
from reszoo.updates import accumulation_steps, optimizer_of

_WHY_UNREACHED = "were run in torch.no_grad()"


class ModelTaps:
    """Taps of the residual blocks of a model and of its optimizers.

    Between recorded steps the model is unchanged: the taps are installed when one begins, and
    removed when it ends, with or without an error.

    Args:
        model: A built model.
        sets: Names of the sets of statistics whose sums are computed.
        blocks: The blocks by name; `None` for every `ResidualBlock` of the model.

    Raises:
        ValueError: If the model has no residual block, is not built, or lacks one of these blocks.
    """

    updates_model = True

    def __init__(
        self,
        model: keras.Model,
        sets: Iterable[str],
        blocks: Mapping[str, ResidualBlock | FoundBlock] | None = None,
    ):
        check_built(model)
        self.model = model
        self.blocks = find_blocks(model) if blocks is None else dict(blocks)
        self._found_in = found_in(model, self.blocks)
        self.variables = list(model.trainable_variables)
        self._measures = measures_of(sets)
        self._optimizer = optimizer_of(model)  # a loop of one's own may have another
        if self._optimizer and not self._optimizer.built and has_all_weights(model):
            # Otherwise its `apply` builds it, with the weights that do not exist yet.
            self._optimizer.build(self.variables)
        self._switch = Switch(self._optimizer)
        self._passes = Passes(list(self.blocks.values()))
        self._number_of_passes = 0
        # Those of the recorded batches, with their scales.
        self._losses: list[tuple[Sum, Scale]] = []
        self._of_blocks = [BlockSums(self._measures) for _ in self.blocks]
        self._of_weights = None
        if {"weights", "noise_scale", "variables"}.intersection(sets):
            self._of_weights = WeightSums(len(self.variables), "noise_scale" in sets)
        of_blocks = zip(self.blocks.values(), self._of_blocks, strict=True)
        self._updates = UpdateTaps(self.variables, self._of_weights, of_blocks, self._switch)
        paths = [variable.path for variable in self.variables]
        self._left_out = LeftOut(model.name, self.blocks, paths, self._measures, _WHY_UNREACHED)

    @property
    def parts(self) -> int:
        """Number of parts of a batch: accumulated batches.

        The gradients of several processes are averaged before an optimizer gets them.
        """
        return accumulation_steps(self._optimizer)

    @property
    def writes(self) -> bool:
        """Role of this process: true if it writes the log."""
        return is_chief()

    def recorded(self, step: Callable, asks: bool = True) -> Callable:
        """Returns a step that is recorded whenever its batch is due.

        Args:
            step: A function that computes gradients and calls `apply` of an optimizer of Keras, or
                `step` of one of `torch.optim`.
            asks: Not used: the host always knows whether a batch is due.

        Returns:
            A function with the same arguments and result.
        """

        @torch.compiler.disable
        def recorded_step(*args: Any, **kwargs: Any) -> Any:
            if not self._switch.begin_batch():
                return step(*args, **kwargs)
            with self._in_place():
                return step(*args, **kwargs)

        return recorded_step

    def set_due(self, batches: int, first: int) -> None:
        """Sets which batch to record.

        Args:
            batches: Number of batches that have been tried.
            first: The first batch to record, counted from 0.
        """
        self._switch.set(batches, first)
        self._clear()

    def update_state(self) -> tuple[bool, bool]:
        """Returns whether the update to record has begun, and whether it is over."""
        return self._switch.state()

    def take(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], float | None, int]:
        """Returns all sums, in one transfer, and sets them to zero.

        Returns:
            The sums of the blocks, each of shape `(blocks,)`, and those of the weights, each of
            shape `(weights,)`, float64, by name; the loss, `None` if it is not known; and the
            number of recorded batches.
        """
        number = len(self.blocks) * len(self._measures)
        *values, of_loss = self._values()
        of_blocks: dict[str, Any] = {}
        for i, of_processes in enumerate(values[:number]):
            measure = self._measures[i % len(self._measures)]
            whole = of_processes.max(axis=0) if measure.maximum else of_processes.sum(axis=0)
            for name, value in zip(measure.powers, whole, strict=True):
                of_blocks.setdefault(name, []).append(value)
        of_blocks = {name: np.array(column) for name, column in of_blocks.items()}
        of_weights = {}
        if self._of_weights is not None:
            # Every process has the same gradients, averaged, and the same weights.
            of_weights = self._of_weights.by_name([x[0] for x in values[number:]])
        seen = self._switch.seen
        if seen:
            ran = np.array([sums.ran > 0 for sums in self._of_blocks])
            passes = [[sums.passes[p] for p in BACKWARD_PLACES] for sums in self._of_blocks]
            reached = np.array(passes)
            self._left_out.leave_out_blocks(of_blocks, ran, reached, self._number_of_passes)
            self._left_out.leave_out_weights(of_weights)
        loss, known = of_loss.sum(axis=0).tolist()
        loss = loss if seen and known == seen * number_of_processes() else None
        self._left_out.tell_of_loss(loss, self._number_of_passes)
        self._switch.seen = 0
        self._clear()
        return of_blocks, of_weights, loss, seen

    def _values(self) -> list[np.ndarray]:
        """Returns the values of all sums, each `(processes, sums)`.

        Those of the blocks are the first. The last are the loss, and the number of batches in which
        it is known.
        """
        sources = [*self._of_blocks, *([] if self._of_weights is None else [self._of_weights])]
        sums = [x for source in sources for x in source.sums()]
        on_host = OnHost([*sums, *(x for pair in self._losses for x in pair)])
        # A scale of zero and sums beyond float64 give values that are not finite, as on a device.
        with np.errstate(all="ignore"):
            values = [x for source in sources for x in source.result(on_host)]
            losses = [on_host([loss]) / on_host([scale]) for loss, scale in self._losses]
        values.append(np.array([np.sum(losses), len(losses)]))
        joined = gathered(np.concatenate(values), on_host.device)
        return np.split(joined, np.cumsum([len(x) for x in values])[:-1], axis=1)

    def _clear(self) -> None:
        for sums in (*self._of_blocks, self._of_weights):
            if sums is not None:
                sums.clear()
        self._number_of_passes = 0
        self._losses.clear()

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        """Context of a recorded batch, in which the taps are installed."""
        self._passes.begin_batch()
        with contextlib.ExitStack() as put_back:
            # Compiled code would not call the taps, and this leaves it as it is.
            put_back.enter_context(torch.compiler.set_stance("force_eager"))
            put_back.enter_context(self._updates.in_place())
            for replacement in self._replacements():
                put_back.callback(replace(*replacement))
            yield
        recorded = {number for sums in self._of_blocks for number in sums.end_batch()}
        number = pass_of_all(recorded, self._passes.number)
        loss = self._passes.losses[number - 1] if number else None
        if number and loss is not None:
            self._losses.append((loss, self._passes.scales[number - 1]))
        self._number_of_passes += self._passes.number

    def _replacements(self) -> Iterator[tuple[Any, str, Callable]]:
        """Yields the attributes that are replaced: owner, name, replacement."""
        for position, block in enumerate(self.blocks.values()):
            block = acting_block(block)
            sums = self._of_blocks[position]
            taps = BlockTaps(block, position, sums, self._passes)
            for attribute, replacement in taps.replacements().items():
                yield block, attribute, replacement
        for searched in self._found_in:
            yield from searched.replacements() if searched.acting() is None else ()
        run_backward = vars(torch.autograd)[RUN_BACKWARD]
        yield torch.autograd, RUN_BACKWARD, self._passes.counted(run_backward, self._scale)

    def _scale(self) -> torch.Tensor | float:
        """Returns the divisor of gradients: the loss scale, times accumulation and processes."""
        # The gradients of all processes are averaged, so the loss is the mean of their losses.
        batches = accumulation_steps(self._optimizer) * number_of_processes()
        return self._updates.loss_scale() * batches
