"""A step's label is right and no step is lost, however trainings follow one another."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from reszoo import GradientRecorder
from reszoo.gradients import load, load_variables
from reszoo.gradients.alarm_log import read_findings
from reszoo.gradients.alarms import DeadBranch, Vanishing
from tests.gradients.devices import two_devices
from tests.gradients.tiny import (
    BATCHES,
    X,
    Y,
    assert_recorded,
    by_hand,
    compiled,
    fit,
    recorded,
    tiny,
)


@pytest.fixture(scope="module")
def expected():
    """Three epochs of eight batches."""
    return by_hand(3 * BATCHES)


class StopsAfter(keras.callbacks.Callback):
    """Ends training outside a step, as Ctrl-C does."""

    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def on_train_batch_end(self, batch, logs=None):
        self.batches -= 1
        if self.batches == 0:
            raise KeyboardInterrupt


def accumulating(batches=2):
    return keras.optimizers.SGD(0.05, gradient_accumulation_steps=batches)


def accumulated(batches):
    """Returns pairs of batches as the one batch that they stand for."""
    pairs = zip(batches[::2], batches[1::2], strict=False)
    return [tuple(map(np.concatenate, zip(*pair, strict=True))) for pair in pairs]


def generated(number):
    """Returns a data set that does not say how long it is."""

    def batches():
        yield from BATCHES[:number]

    signature = (tf.TensorSpec((None, 4)), tf.TensorSpec((None, 1)))
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


runs_out = pytest.mark.filterwarnings("ignore:Your input ran out of data")


@pytest.mark.parametrize("same_recorder", [True, False])
def test_a_model_that_is_compiled_again_goes_on_counting(same_recorder, expected, tmp_path):
    model, recorder = tiny(), GradientRecorder(tmp_path, 1)
    fit(model, recorder)
    compiled(model)  # the optimizer counts from 0 again
    fit(model, recorder if same_recorder else GradientRecorder(tmp_path, 1))
    assert_recorded(tmp_path, range(16), expected)


def test_a_layer_that_is_unfrozen_is_recorded_from_then_on(tmp_path):
    model = tiny()
    model.get_layer("b").trainable = False
    compiled(model)
    recorder = GradientRecorder(tmp_path, 1, ["paths", "variables"])
    fit(model, recorder, batches=2)
    model.get_layer("b").trainable = True
    compiled(model)
    fit(model, recorder, batches=2)
    assert sorted(recorded(tmp_path)) == [0, 1, 2, 3]
    steps = load_variables(tmp_path).groupby("variable", observed=True).step.agg(set)
    assert sorted(map(len, steps)) == [2, 2, 4, 4]


@pytest.mark.parametrize("recorder_first", [True, False])
def test_a_callback_that_restores_says_where_training_goes_on(recorder_first, expected, tmp_path):
    def trained(*more):
        pair = [
            GradientRecorder(tmp_path / "log", 1),
            keras.callbacks.BackupAndRestore(str(tmp_path / "backup")),
        ]
        fit(tiny(), *(pair if recorder_first else pair[::-1]), *more, epochs=2)

    with pytest.raises(KeyboardInterrupt):
        trained(StopsAfter(11))
    assert max(recorded(tmp_path / "log")) == 10
    trained()
    assert_recorded(tmp_path / "log", range(16), expected)


def test_a_restart_before_the_first_backup_says_what_to_call(caplog, expected, tmp_path):
    def trained(*more, begin=None):
        recorder = GradientRecorder(tmp_path / "log", 1)
        if begin is not None:
            recorder.begin_at(begin)
        backup = keras.callbacks.BackupAndRestore(str(tmp_path / "backup"))
        fit(tiny(run_eagerly=True), recorder, backup, *more, epochs=2)

    with pytest.raises(KeyboardInterrupt):
        trained(StopsAfter(5))
    with pytest.raises(ValueError, match=r"begin_at\(0\) to record .*begin_at\(batch\) with"):
        trained()
    with pytest.raises(KeyboardInterrupt):
        trained(StopsAfter(11), begin=0)
    assert "goes on at step 0: 5 steps" in caplog.text
    trained(begin=0)  # there is a backup now, which says where it goes on
    assert "goes on at step 8: 3 steps" in caplog.text
    assert_recorded(tmp_path / "log", range(16), expected)


@runs_out
def test_batches_are_counted_where_the_data_end_within_an_execution(tmp_path):
    model = tiny(steps_per_execution=3)
    recorder = GradientRecorder(tmp_path, 1)
    model.fit(generated(7), epochs=3, shuffle=False, verbose=0, callbacks=[recorder])
    assert model.optimizer.iterations == 21
    steps = [0, 3, 6, 7, 10, 13, 14, 17, 20]
    assert_recorded(tmp_path, steps, by_hand(3 * BATCHES[:7]))


def test_a_cadence_meets_its_steps_in_executions_of_any_length(expected, tmp_path):
    fit(tiny(steps_per_execution=5), GradientRecorder(tmp_path, 3), epochs=3)
    assert_recorded(tmp_path, [0, 6, 9, 15, 18, 21], expected)


@runs_out
def test_the_end_of_data_is_no_batch(tmp_path):
    recorder = GradientRecorder(tmp_path, 1)
    tiny().fit(generated(3), epochs=2, shuffle=False, verbose=0, callbacks=[recorder])
    assert_recorded(tmp_path, range(6), by_hand(2 * BATCHES[:3]))


@runs_out
def test_accumulated_batches_are_of_one_update_across_the_end_of_data(tmp_path):
    model, recorder = tiny(accumulating()), GradientRecorder(tmp_path, 1)
    model.fit(generated(3), epochs=2, shuffle=False, verbose=0, callbacks=[recorder])
    assert_recorded(tmp_path, range(3), by_hand(accumulated(2 * BATCHES[:3])))


def test_a_training_that_begins_within_an_update_leaves_it_out_and_says_so(caplog, tmp_path):
    model, recorder = tiny(accumulating()), GradientRecorder(tmp_path, 1)
    for _ in range(2):
        fit(model, recorder, batches=5)
    assert "Step 2 is not recorded" in caplog.text
    assert_recorded(tmp_path, [0, 1, 3, 4], by_hand(accumulated(2 * BATCHES[:5])))


def test_updates_over_several_executions_are_recorded_whole(tmp_path):
    model = tiny(accumulating(4), steps_per_execution=3)
    fit(model, GradientRecorder(tmp_path / "3", 1), epochs=2)
    fit(tiny(accumulating(4)), GradientRecorder(tmp_path / "1", 1), epochs=2)
    alone, together = recorded(tmp_path / "1"), recorded(tmp_path / "3")
    assert list(together) == [0, 2]
    assert [alone[step] for step in together] == pytest.approx(list(together.values()))


def test_a_batch_that_a_loss_scale_skips_makes_its_update_unknown(caplog, tmp_path):
    def trained(log_dir, x, y):
        model = tiny(keras.optimizers.LossScaleOptimizer(accumulating()))
        recorder = GradientRecorder(log_dir, 1)
        model.fit(x, y, 8, shuffle=False, verbose=0, callbacks=[recorder])

    x, kept = X.copy(), np.r_[:16, 24:64]
    x[16:24] = np.inf
    trained(tmp_path / "with", x, Y)
    trained(tmp_path / "without", X[kept], Y[kept])
    found, others = recorded(tmp_path / "with"), recorded(tmp_path / "without")
    assert np.isnan(found.pop(1))
    assert recorded(tmp_path / "with", "skip_gradient_nonfinite") == {0: 0, 1: 32, 2: 0}
    assert found == pytest.approx({step: others[step] for step in (0, 2)})
    assert "Step 1: the optimizer skipped a batch" in caplog.text


def test_batches_that_nobody_recorded_count(expected, tmp_path):
    model, recorder = tiny(), GradientRecorder(tmp_path, 3)
    fit(model, recorder, batches=4)
    for batch in BATCHES[4:]:
        model.train_on_batch(*batch)
    for _ in range(2):
        fit(model, recorder)
    assert_recorded(tmp_path, [0, 3, 9, 12, 15, 18, 21], expected)


def test_a_training_that_was_interrupted_goes_on_counting(expected, tmp_path):
    model, recorder = tiny(), GradientRecorder(tmp_path, 1)
    with pytest.raises(KeyboardInterrupt):
        fit(model, StopsAfter(8), recorder, epochs=2)
    fit(model, recorder)
    assert_recorded(tmp_path, range(16), expected)


class InterruptedInAStep(keras.Sequential):
    """Raises once, after the weights were updated."""

    steps = 0

    def train_step(self, data):
        logs = super().train_step(data)
        self.steps += 1
        if self.steps == 8:
            raise KeyboardInterrupt
        return logs


def test_a_batch_whose_step_was_interrupted_counts(expected, tmp_path):
    model = tiny(kind=InterruptedInAStep, run_eagerly=True)
    recorder = GradientRecorder(tmp_path, 1)
    with pytest.raises(KeyboardInterrupt):
        fit(model, recorder)
    fit(model, recorder)
    assert_recorded(tmp_path, [*range(7), *range(8, 16)], expected)


def test_a_loaded_model_goes_on_and_hides_only_what_it_does_again(expected, caplog, tmp_path):
    model = tiny()
    fit(model, GradientRecorder(tmp_path, 1))
    model.save(tmp_path / "model.keras")
    fit(model, GradientRecorder(tmp_path, 1))
    loaded = keras.models.load_model(tmp_path / "model.keras")
    fit(loaded, GradientRecorder(tmp_path, 1), batches=3)
    assert "goes on at step 8: 8 steps" in caplog.text
    assert_recorded(tmp_path, range(11), expected)


def test_weights_that_are_taken_back_take_the_count_back(expected, caplog, tmp_path):
    model, recorder = tiny(), GradientRecorder(tmp_path, 1)
    fit(model, recorder)
    model.save_weights(tmp_path / "w.weights.h5")
    fit(model, recorder, batches=2)
    model.load_weights(tmp_path / "w.weights.h5")
    fit(model, recorder)
    assert "goes on at step 8: 2 steps" in caplog.text
    assert_recorded(tmp_path, range(16), expected)


@pytest.mark.parametrize("same_recorder", [True, False])
def test_another_training_never_hides_what_a_directory_holds(same_recorder, tmp_path):
    alarms = [Vanishing(fraction=1e6)]  # which is always so
    recorder = GradientRecorder(tmp_path, 1, alarms=alarms)
    fit(tiny(), recorder)
    log, findings = load(tmp_path), read_findings(tmp_path)
    other = tiny()
    before = sorted(vars(other))
    with pytest.raises(ValueError, match=r"another training, up to step 7.*log_dir of its own"):
        fit(other, recorder if same_recorder else GradientRecorder(tmp_path, 1, alarms=alarms))
    assert load(tmp_path).equals(log)
    assert read_findings(tmp_path) == findings != []
    fit(other)
    assert set(before) >= set(vars(other)) - {"history", "_eval_epoch_iterator"}


def test_a_model_of_other_blocks_never_hides_what_a_directory_holds(tmp_path):
    fit(tiny(), GradientRecorder(tmp_path, 1))
    other = compiled(keras.models.clone_model(tiny(), call_function=None))
    other.layers[0].name = "c"
    fit(other, batches=2)  # so that its optimizer has counted
    with pytest.raises(ValueError, match="records other blocks"):
        fit(other, GradientRecorder(tmp_path, 1))
    assert sorted(recorded(tmp_path)) == list(range(8))


def test_a_training_that_says_where_it_goes_on_is_believed(tmp_path):
    fit(tiny(), GradientRecorder(tmp_path, 1))
    recorder = GradientRecorder(tmp_path, 1)
    recorder.begin_at(8)
    fit(tiny(), recorder, batches=2)
    assert sorted(recorded(tmp_path)) == list(range(10))


def test_a_log_without_a_step_is_nobodys(tmp_path):
    with pytest.raises(ValueError, match=r"incompatible|shape"):
        tiny().fit(X[:, :3], Y, verbose=0, callbacks=[GradientRecorder(tmp_path, 1)])
    fit(tiny(), GradientRecorder(tmp_path, 1), batches=2)
    assert sorted(recorded(tmp_path)) == [0, 1]


def test_optimizers_that_take_turns_go_on_counting(tmp_path):
    model, recorder = tiny(), GradientRecorder(tmp_path, 1)
    first, second = model.optimizer, keras.optimizers.SGD(0.05)
    for optimizer in (first, second, first):
        fit(compiled(model, optimizer), recorder, batches=2)
    assert sorted(recorded(tmp_path)) == list(range(6))


def test_alarms_go_on_with_the_log(tmp_path):
    model = tiny()
    model.get_layer("b").branch.layers[0].kernel.assign(np.zeros((4, 4)))
    model.get_layer("b").trainable = False
    for _ in range(2):
        compiled(model)
        fit(model, GradientRecorder(tmp_path, 1, alarms=[DeadBranch(3)]), batches=2)
    assert [finding.step for finding in read_findings(tmp_path)] == [2]


def test_several_devices_count_each_batch_once(expected, tmp_path):
    strategy, recorder = two_devices(), GradientRecorder(tmp_path, 1)
    with strategy.scope():
        model = tiny()
    fit(model, recorder, batches=4)
    with strategy.scope():
        compiled(model)
    fit(model, recorder, batches=4)
    assert sorted(recorded(tmp_path)) == list(range(8))
