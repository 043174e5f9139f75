"""Alarms go off when they should, once, and leave a trace in three places."""

import logging
from dataclasses import dataclass

import keras
import numpy as np
import pytest
from tensorboard.backend.event_processing import event_accumulator

import reszoo
from reszoo import BasicBranch, ResidualBlock
from reszoo.gradients import (
    DeadBranch,
    Exploding,
    GrowingStream,
    NonFinite,
    SaturatedScale,
    Vanishing,
    load,
)
from reszoo.gradients.alarm_log import AlarmWatch, read_findings
from reszoo.gradients.alarms import RecordedStep, describe_alarms
from reszoo.gradients.log import records


def recorded(step=0, **statistics):
    names = ("skip", "branch", "output")
    zeros = {f"{name}_gradient_nonfinite": [0.0, 0.0] for name in names}
    norms = {f"{name}_gradient_norm": [1.0, 1.0] for name in (*names, "input")}
    arrays = {name: np.array(row) for name, row in {**zeros, **norms, **statistics}.items()}
    return RecordedStep(step, {"first": None, "last": None}, arrays)


@pytest.mark.parametrize(
    ("alarm", "statistics", "found"),
    [
        (NonFinite(), {"branch_gradient_nonfinite": [0, 3]}, ("last", "branch")),
        (Vanishing(fraction=0.01), {"input_gradient_norm": [0.009, 1]}, ("first", None)),
        (Exploding(multiple=100), {"input_gradient_norm": [101, 1]}, ("first", None)),
        (DeadBranch(1), {"branch_gradient_norm": [1, 0]}, ("last", "branch")),
    ],
)
def test_each_alarm_finds_its_block_and_path(alarm, statistics, found):
    assert list(alarm.look(recorded())) == []
    ((block, path, text),) = alarm.look(recorded(**statistics))
    assert (block, path) == found
    assert text


def test_a_stream_that_grows_is_told_at_every_block_that_is_too_large():
    alarm = GrowingStream(multiple=10)
    assert list(alarm.look(recorded(sum_rms=[2.0, 20.0]))) == []
    assert list(alarm.look(recorded(sum_rms=[0.0, 20.0]))) == []
    ((block, path, text),) = alarm.look(recorded(sum_rms=[2.0, 21.0]))
    assert (block, path) == ("last", None)
    assert "10.5 times that of the first block" in text


def test_thresholds_are_exact():
    edge = {"input_gradient_norm": [0.01, 1]}
    assert list(Vanishing(fraction=0.01).look(recorded(**edge))) == []
    # Without any gradient at the last block there is nothing to compare with.
    nothing = {"output_gradient_norm": [0, 0], "input_gradient_norm": [0, 0]}
    assert list(Vanishing().look(recorded(**nothing))) == []
    assert list(DeadBranch(1).look(recorded(branch_gradient_norm=[0, 0], **nothing))) == []


def test_an_alarm_goes_off_once_after_enough_recorded_steps(tmp_path):
    watch = AlarmWatch([DeadBranch(recorded_steps=3)], str(tmp_path), 0)
    dead = {"branch_gradient_norm": [0, 1]}
    rows = [dead, dead, {}, dead, dead, dead, dead]
    steps = [step for step, row in enumerate(rows) if watch.look(recorded(step, **row))]
    assert steps == [5]
    assert [finding.step for finding in read_findings(str(tmp_path))] == [5]


def test_findings_undone_by_a_restart_are_removed(tmp_path):
    dead = {"branch_gradient_norm": [0, 1]}
    watch = AlarmWatch([DeadBranch(1)], str(tmp_path), 0)
    for step in (0, 2, 4):
        watch.look(recorded(step, **dead))
        watch.look(recorded(step + 1))
    AlarmWatch([DeadBranch(1)], str(tmp_path), 3)
    assert [finding.step for finding in read_findings(str(tmp_path))] == [0, 2]


def test_a_run_that_is_taken_up_again_counts_on(tmp_path):
    dead = {"branch_gradient_norm": [0, 1]}

    def watch(first_step):
        return AlarmWatch([DeadBranch(recorded_steps=3)], str(tmp_path), first_step)

    before = watch(0)
    for step in range(3):
        before.look(recorded(step, **dead))  # two steps of these are undone
    after = watch(1)
    assert [step for step in range(1, 5) if after.look(recorded(step, **dead))] == [2]
    after.look(recorded(5))
    again = watch(6)
    assert [step for step in range(6, 10) if again.look(recorded(step, **dead))] == [8]


def fit(data, log_dir, block, **options):
    keras.utils.set_random_seed(1)
    head = [keras.layers.Flatten(), keras.layers.Dense(3)]
    model = keras.Sequential([keras.Input(data.shape[1:]), block, *head])
    model.compile("sgd", "mse", jit_compile=False)
    recorder = reszoo.GradientRecorder(log_dir, 1, **options)
    return model.fit(
        data, np.zeros((len(data), 3)), 4, shuffle=False, verbose=0, callbacks=[recorder]
    )


@pytest.mark.parametrize("stop", [False, True])
def test_a_nan_is_reported_everywhere_and_can_stop_training(stop, tmp_path, caplog):
    data = np.ones((16, 4), "float32")
    data[4] = np.nan
    block = ResidualBlock([keras.layers.Dense(4)], name="block")
    with caplog.at_level(logging.WARNING, logger="absl"):
        fit(data, tmp_path, block, alarms=[NonFinite(stop_training=stop)])
    assert sorted(set(load(str(tmp_path)).step)) == ([0, 1] if stop else [0, 1, 2, 3])
    findings = read_findings(str(tmp_path))
    assert {(f.alarm, f.step, f.block) for f in findings} == {("nonfinite", 1, "block")}
    assert {f.path for f in findings} == {"skip", "branch", "output"}
    assert "Step 1, block" in caplog.text
    accumulator = event_accumulator.EventAccumulator(str(tmp_path))
    accumulator.Reload()
    (event,) = accumulator.Tensors("gradient_flow/alarms")
    assert event.step == 1
    assert findings[0].text in event.tensor_proto.string_val[0].decode()


def test_the_log_says_what_its_steps_were_tested_for(tmp_path):
    data = np.ones((4, 4), "float32")
    alarms = [Exploding(multiple=np.inf), DeadBranch(stop_training=True)]
    for name, tested in (("some", alarms), ("none", ())):
        block = ResidualBlock([keras.layers.Dense(4)], name="block")
        fit(data, tmp_path / name, block, alarms=tested)
    dead = {"alarm": "dead_branch", "recorded_steps": 3, "stop_training": True}
    # JSON has no infinity.
    exploding = {"alarm": "exploding", "recorded_steps": 1, "stop_training": False}
    (record,) = records(str(tmp_path / "some"))
    assert record.tested_alarms == [{**exploding, "multiple": None}, dead]
    (record,) = records(str(tmp_path / "none"))
    assert record.tested_alarms == []


def test_an_alarm_of_ones_own_is_described_by_its_class_and_arguments():
    @dataclass(frozen=True)
    class Own(Vanishing):
        kind = ""
        of: tuple = ("a", 1)

    (described,) = describe_alarms([Own(fraction=0.5)])
    assert described == {
        "alarm": "Own",
        "recorded_steps": 1,
        "stop_training": False,
        "fraction": 0.5,
        "of": "('a', 1)",
    }


def test_scales_next_to_zero_are_found(tmp_path):
    data = np.random.default_rng(0).normal(size=(8, 4, 4, 2)).astype("float32")
    block = ResidualBlock(BasicBranch(2, zero_init_last_scale=True), name="block")
    fit(data, tmp_path, block, alarms=[SaturatedScale(below=0.5)])
    (finding,) = read_findings(str(tmp_path))
    assert finding.alarm == "saturated_scale"
    assert "100%" in finding.text


def test_what_is_no_alarm_or_cannot_look_is_refused(tmp_path):
    with pytest.raises(ValueError, match="is not an alarm"):
        reszoo.GradientRecorder(tmp_path, alarms=["nonfinite"])
    with pytest.raises(ValueError, match="looks at the set 'paths', which is not recorded"):
        reszoo.GradientRecorder(tmp_path, statistics=["weights"], alarms=[NonFinite()])
    with pytest.raises(ValueError, match="at least 1"):
        DeadBranch(recorded_steps=0)


@pytest.mark.parametrize(
    "broken", ["[]", '{"step": 1}', '{"step": "1"}', '{"step": 1, "in_a_row": [["a", "b"]]}', "{"]
)
def test_a_broken_file_of_alarms_is_named_and_kept(tmp_path, broken):
    for name in ("alarms.jsonl", "alarms_in_a_row.jsonl"):
        path = tmp_path / name
        path.write_text(f"{broken}\n{{}}\n")
        with pytest.raises(ValueError, match=rf"Line 1 of .*{name} cannot be read"):
            AlarmWatch([DeadBranch(1)], str(tmp_path), first_step=0)
        assert path.read_text() == f"{broken}\n{{}}\n"
        path.unlink()
