import math

import pytest

from reszoo.training.callbacks.best_epoch import BestEpoch
from reszoo.training.state import TrainingState


def state_of(accuracies):
    history = tuple(
        {"epoch": epoch + 1, "test_accuracy": value, "test_loss": -value}
        for epoch, value in enumerate(accuracies)
    )
    return TrainingState(epoch=len(accuracies), history=history)


@pytest.mark.parametrize(
    ("accuracies", "patience", "is_out"),
    [
        ([0.5, 0.6], 1, False),
        ([0.5, 0.5], 1, True),  # as good is not better
        ([0.5, 0.4, 0.3], 3, False),
        ([0.5, 0.4, 0.3], 2, True),
        ([0.5, 0.4, 0.3], 1, True),  # it was more when the run began
        ([0.5, 0.4, 0.3], 0, False),
        ([], 1, False),
    ],
)
def test_patience_is_that_of_now(accuracies, patience, is_out):
    state = state_of(accuracies)
    best = BestEpoch(state, patience=patience)
    best.take_up()
    assert best.out_of_patience == is_out
    state.batch = 3  # of an epoch that has begun, and that is tested yet
    assert not best.out_of_patience


def test_a_figure_that_is_not_a_number_is_worse_than_any():
    state = state_of([math.nan, 0.2, math.nan])
    BestEpoch(state).take_up()
    assert (state.best, state.best_epoch) == (0.2, 2)


def test_without_a_history_the_best_stays_as_it_was_noted():
    state = TrainingState(epoch=4, best=0.5, best_epoch=2)
    best = BestEpoch(state, patience=2)
    best.take_up()
    assert (state.best, state.best_epoch, best.out_of_patience) == (0.5, 2, True)
