"""Records given to the page are those recorded, thinned out without hiding anything."""

import json

import numpy as np
import pytest

from reszoo.gradients.log.format import parse_header
from reszoo.gradients.statistics import STATISTICS
from reszoo.tensorboard import recording as recordings
from tests.unpacking import unpack

HEADER = {
    "version": 1,
    "blocks": [{"name": "a"}, {"name": "b"}],
    "statistics": ["skip_share", "skip_gradient_nonfinite", "of_tomorrow"],
}


def points(steps):
    return [(step, 100.0 + step, np.full((2, 3), step, np.float32)) for step in steps]


def recorded(steps, **changes):
    """A recording whose every value is its step, with no non-finite count."""
    recording = recordings.stack(HEADER, points(steps))
    recording.values[:, :, 1] = 0
    for (step, block, statistic), value in changes.get("values", {}).items():
        recording.values[list(steps).index(step), block, statistic] = value
    return recording


def test_packing_keeps_every_number_in_its_place():
    recording = recorded(range(5))
    recording.values[:] = np.random.default_rng(0).normal(size=(5, 2, 3))
    recording.values[2, 1, 0] = np.nan
    recording.values[3, 0, 2] = np.inf
    header, steps, wall_times, values = unpack(recordings.pack(recording, 50))
    assert header["blocks"] == ["a", "b"]
    assert header["statistics"] == HEADER["statistics"]
    assert header["recorded_steps"] == 50
    np.testing.assert_array_equal(steps, range(5))
    np.testing.assert_array_equal(wall_times, 100.0 + np.arange(5))
    for step in range(5):
        for block in range(2):
            for statistic in range(3):
                expected = recording.values[step, block, statistic]
                np.testing.assert_equal(values[statistic, block, step], expected)


@pytest.mark.parametrize("name", ["b", "bé", "b" * 5, "b" * 6, "<script>", "\u2028"])
def test_numbers_are_aligned_whatever_the_names(name):
    header = {**HEADER, "blocks": [{"name": "a"}, {"name": name}]}
    packed = recordings.pack(recordings.stack(header, points([0, 1])), 2)
    assert unpack(packed)[0]["blocks"] == ["a", name]


def test_steps_are_in_order_and_each_once_as_written_last():
    late = [(3, 0.0, np.full((2, 3), 33, np.float32))]
    recording = recordings.stack(HEADER, points([5, 3, 0]) + late)
    assert list(recording.steps) == [0, 3, 5]
    assert recording.values[1, 0, 0] == 33


def test_steps_of_another_model_are_left_out_and_counted():
    recording = recordings.stack(HEADER, [*points([0, 1]), (2, 0.0, np.zeros((7, 3)))])
    assert list(recording.steps) == [0, 1]
    assert recording.left_out == 1


def part(name, steps, wall_time):
    header = {"blocks": [{"name": name}], "statistics": ["a"]}
    return recordings.stack(header, [(step, wall_time, [[step]]) for step in steps])


def test_of_a_step_under_two_headers_the_later_is_taken():
    joined = recordings.join([part("x", [0, 1], 5.0), part("y", [1, 2], 4.0)])
    assert [block["name"] for block in joined.blocks] == ["x", "y"]
    assert list(joined.steps) == [0, 1, 2]
    np.testing.assert_array_equal(joined.values[:, :, 0], [[0, np.nan], [1, np.nan], [np.nan, 2]])


def test_a_block_is_described_as_it_was_written_last():
    def written(at, **described):
        header = {"blocks": [{"name": "a", **described}], "statistics": ["x"]}
        return recordings.stack(header, [(at, float(at), [[0.0]])])

    parts = [written(2, layers="later"), written(1, layers="earlier")]
    assert recordings.join(parts).blocks == [{"name": "a", "layers": "later"}]
    assert recordings.join(parts[::-1]).blocks == [{"name": "a", "layers": "later"}]


def test_a_run_was_tested_for_the_alarms_of_all_its_parts():
    vanishing, wider, nan = {"alarm": "v", "at": 1}, {"alarm": "v", "at": 2}, {"alarm": "nan"}

    def tested(*of_parts):
        headers = ({"blocks": [{"name": "a"}], "statistics": ["x"], **part} for part in of_parts)
        return recordings.join([recordings.stack(header, []) for header in headers]).tested_alarms

    assert tested({"tested_alarms": [vanishing]}) == [vanishing]
    alike = {"tested_alarms": [nan, vanishing]}, {"tested_alarms": [vanishing, nan]}
    assert tested(*alike) == [nan, vanishing]
    assert tested(alike[0], {"tested_alarms": [wider, nan]}) == [nan]
    assert tested(alike[0], {"tested_alarms": []}) == []
    assert tested({}) is tested(alike[0], {}) is None


def test_what_a_restart_under_another_header_undid_is_left_out():
    before, after = part("x", range(6), 4.0), part("y", [2, 3], 5.0)
    kept = recordings.without_undone([before, after])
    assert [list(each.steps) for each in kept] == [[0, 1], [2, 3]]
    # One follows the other, whatever the clocks say.
    apart = [part("x", [0, 1], 9.0), part("y", [2, 3], 5.0)]
    assert [list(each.steps) for each in recordings.without_undone(apart)] == [[0, 1], [2, 3]]


def test_a_log_without_steps_is_empty():
    recording = recordings.stack(HEADER, [])
    assert recording.values.shape == (0, 2, 3)
    assert unpack(recordings.pack(recording, 0))[1].size == 0
    assert recordings.select_steps(recording, 0, 10, 5).steps.size == 0


def test_a_range_has_its_ends():
    selected = recordings.select_steps(recorded(range(0, 100, 10)), 20, 50, 100)
    assert list(selected.steps) == [20, 30, 40, 50]
    assert list(selected.wall_times) == [120, 130, 140, 150]


@pytest.mark.parametrize("max_steps", [3, 4, 10, 99])
def test_thinning_is_even_in_time_and_keeps_the_ends(max_steps):
    recording = recorded(range(1000))
    selected = recordings.select_steps(recording, 0, 2000, max_steps)
    assert max_steps - 2 <= len(selected.steps) <= max_steps
    assert selected.steps[0] == 0
    assert selected.steps[-1] == 999
    assert np.diff(selected.steps).max() <= 2 * 1000 / (max_steps - 2)
    np.testing.assert_array_equal(selected.values[:, 0, 0], selected.steps)


def test_thinning_is_by_time_not_by_number():
    steps = [*range(1000), 10_000]
    selected = recordings.select_steps(recorded(steps), 0, 10_000, 12)
    assert len(selected.steps) == 3


@pytest.mark.parametrize(
    "change", [{(501, 1, 1): 4.0}, {(501, 0, 2): np.inf}, {(501, 0, 0): -np.inf}]
)
def test_thinning_keeps_a_step_with_nonfinite_values(change):
    selected = recordings.select_steps(recorded(range(1000), values=change), 0, 999, 10)
    assert 501 in selected.steps


def test_an_undefined_value_is_nothing_special():
    change = {(501, 0, 0): np.nan}
    selected = recordings.select_steps(recorded(range(1000), values=change), 0, 999, 10)
    assert 501 not in selected.steps


def test_thinning_keeps_marked_steps():
    recording = recorded(range(1000))
    assert 333 not in recordings.select_steps(recording, 0, 999, 10).steps
    assert 333 in recordings.select_steps(recording, 0, 999, 10, [333, 5000]).steps


def test_blocks_and_statistics_are_selected_by_name():
    recording = recorded(range(3))
    recording.values[:, 1, 2] = 7
    selected = recordings.select(recording, ["b"], ["of_tomorrow"])
    assert [block["name"] for block in selected.blocks] == ["b"]
    assert selected.statistics == ["of_tomorrow"]
    np.testing.assert_array_equal(selected.values, np.full((3, 1, 1), 7))
    assert recordings.select(recording, [], []).values.shape == (3, 2, 3)


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="no block 'c' in this run"):
        recordings.select(recorded([0]), ["c"], [])
    with pytest.raises(ValueError, match="no statistic 'loss' in this run"):
        recordings.select(recorded([0]), [], ["loss"])


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"version": 1}', '{"version": 1, "blocks": [1], "statistics": []}'],
)
def test_a_header_that_is_none_is_refused(content):
    with pytest.raises(ValueError, match="header cannot be read"):
        parse_header(content)


def test_a_header_of_tomorrow_is_refused():
    with pytest.raises(ValueError, match="format 2, and this version of reszoo reads format 1"):
        parse_header('{"version": 2, "blocks": [], "statistics": []}')


def test_every_statistic_of_the_table_is_described():
    described = recordings.describe_statistics([statistic.name for statistic in STATISTICS])
    assert all(entry["unit"] and entry["formula"] for entry in described)
    (unknown,) = recordings.describe_statistics(["of_tomorrow"])
    assert unknown == {"name": "of_tomorrow", "unit": "", "formula": "", "group": "other"}


@pytest.mark.parametrize("text", ["The gradient vanished.", '"The gradient vanished."', "[1]", "{"])
def test_an_alarm_that_is_plain_text_is_its_text(text):
    alarm = recordings.parse_alarm(3, 1.5, text)
    assert alarm["text"] == text
    assert (alarm["step"], alarm["wall_time"], alarm["block"]) == (3, 1.5, None)


def test_an_alarm_names_its_block_and_path():
    text = json.dumps({"step": 9, "alarm": "dead_branch", "block": "b", "path": None, "text": "t"})
    assert recordings.parse_alarm(3, 1.5, text) == {
        "step": 3,
        "wall_time": 1.5,
        "alarm": "dead_branch",
        "block": "b",
        "path": None,
        "text": "t",
    }
