"""Bad use of a recorder gets a sentence, and nothing is lost by it."""

import pytest

from tests.gradients.bad_use import BAD_USE


@pytest.mark.parametrize("behaviour", BAD_USE, ids=lambda function: function.__name__)
def test_a_recorder(behaviour, tmp_path):
    behaviour(tmp_path)
