import pytest

from reszoo.training.state import TrainingState, state_from_json, state_to_json


def test_the_state_of_an_earlier_version_is_read():
    state = TrainingState(epoch=2, best=0.5, best_epoch=1)
    text = state_to_json(state).replace('"history": []', '"stopped": true')
    assert state_from_json(text) == state
    with pytest.raises(ValueError, match="it says of the training"):
        state_from_json('{"phase": 1}')
