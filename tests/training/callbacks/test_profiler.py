import math

import pytest

from reszoo.training.callbacks.profiler import Profiler


def run(profiler, epochs, batches):
    for epoch in epochs:
        profiler.on_epoch_begin(epoch)
        for batch in batches:
            profiler.on_train_batch_begin(batch)
            profiler.on_train_batch_end(batch)
    profiler.close()


def profiles(directory):
    return list(directory.glob("plugins/profile/*/*.xplane.pb"))


def test_the_steps_asked_for_are_profiled_over_the_end_of_an_epoch(tmp_path):
    run(Profiler(tmp_path, (4, 7), steps_per_epoch=5), range(2), range(5))
    (profile,) = profiles(tmp_path)
    data = profile.read_bytes()
    # Each of them is marked by its number, as a variable-length integer.
    assert b"step_num" in data
    assert b"train" in data


def test_a_profile_that_the_run_ends_before_is_written(tmp_path):
    run(Profiler(tmp_path, (3, 100), steps_per_epoch=5), range(1), range(5))
    assert len(profiles(tmp_path)) == 1


def test_a_run_that_goes_on_after_those_steps_has_no_profile(tmp_path):
    run(Profiler(tmp_path, (3, 5), steps_per_epoch=5), range(1, 3), range(5))
    assert profiles(tmp_path) == []


def test_it_says_how_many_steps_may_run_until_it_begins_or_ends(tmp_path):
    profiler = Profiler(tmp_path, (4, 7), steps_per_epoch=5, writes=False)
    ahead = []
    for epoch, executions in ((0, [(0, 3), (4, 4)]), (1, [(0, 1), (2, 4)])):
        profiler.on_epoch_begin(epoch)
        for first, last in executions:
            ahead.append(profiler.batches_ahead)
            profiler.on_train_batch_begin(first)
            profiler.on_train_batch_end(last)
    assert ahead == [4, 3, 2, math.inf]
    assert profiles(tmp_path) == []


@pytest.mark.parametrize("steps", [(5,), (5, 5), (-1, 3), (1, 2, 3)])
def test_what_is_no_range_of_steps(tmp_path, steps):
    with pytest.raises(ValueError, match="for example"):
        Profiler(tmp_path, steps, 5)
