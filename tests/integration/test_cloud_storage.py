"""Work on `gs://` comes to the same as on a local disk.

TensorFlow's own `gs://` file system is at work, with its default settings, and talks to a stand-in
for Google Cloud Storage (`cloud_storage.py`).
"""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import time
from dataclasses import asdict

import keras
import numpy as np
import pytest
import tensorflow as tf

import reszoo
from reszoo import ResidualBlock, StopGradSkip, training
from reszoo.data import load_source
from reszoo.files import as_path
from reszoo.gradients import load, read_findings
from reszoo.gradients.log import LogWriter
from reszoo.report import write_report
from reszoo.training import lock
from reszoo.training.callbacks.stop_on_signal import StopOnSignal
from reszoo.training.metrics_file import read_metrics
from reszoo.training.modes.trained_model import load_model
from tests.data.test_tfrecord import labels_of, write_set
from tests.integration.cloud_storage import CloudStorage, serve
from tests.training.tiny import get_config

BUCKET = "bucket"


@pytest.fixture(scope="module", autouse=True)
def storage(tmp_path_factory):
    """Access of this process, and of those that it starts, to the storage."""
    storage = CloudStorage(BUCKET)
    ca_file = str(tmp_path_factory.mktemp("authority") / "ca.pem")
    with serve(storage, ca_file) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        # How soon a request that failed is sent again; 1 s by default.
        patch.setenv("GCS_RETRY_CONFIG_INIT_DELAY_TIME_US", "1000")
        yield storage


@pytest.fixture(autouse=True)
def _no_request_is_left(storage):
    storage.requests.clear()


@pytest.fixture(scope="module")
def pool(storage):
    """Another process, which has access to the storage, as this one has."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        yield pool


@pytest.fixture
def elsewhere(pool):
    """Calls a function in the other process."""
    return lambda function, *args: pool.submit(function, *args).result(timeout=100)


def model_in_training():
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            ResidualBlock([keras.layers.Dense(4)], name="first"),
            ResidualBlock([keras.layers.Dense(4)], StopGradSkip(), name="second"),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False)
    return model


def fit(model, *callbacks):
    random = np.random.default_rng(0)
    data = random.normal(size=(32, 4)), random.integers(0, 3, 32)
    model.fit(*data, batch_size=8, shuffle=False, verbose=0, callbacks=callbacks)


def record(log_dir):
    model = model_in_training()
    alarm = reszoo.gradients.Exploding(1, multiple=0.01)
    recorder = reszoo.GradientRecorder(log_dir, every_steps=1, alarms=[alarm])
    for _ in range(2):  # the second one finds the log of the first
        fit(model, recorder)
    return load(log_dir), found(log_dir)


def found(log_dir):
    return [{**asdict(finding), "wall_time": None} for finding in read_findings(log_dir)]


def test_a_log_is_that_on_a_local_disk(elsewhere, tmp_path):
    table, findings = elsewhere(record, "gs://bucket/fits")
    expected, expected_findings = elsewhere(record, str(tmp_path))
    assert sorted(set(table.step)) == list(range(8))
    assert table.equals(expected)
    assert findings
    assert findings == expected_findings


def record_while_watched(log_dir, go_on):
    """Stops after the second step until a file is there."""

    def wait(batch, logs):
        while batch == 1 and not tf.io.gfile.exists(go_on):
            time.sleep(0.05)

    recorder = reszoo.GradientRecorder(log_dir, every_steps=1)
    fit(model_in_training(), recorder, keras.callbacks.LambdaCallback(on_train_batch_end=wait))


def test_a_log_can_be_read_while_it_grows(pool, storage):
    training = pool.submit(record_while_watched, "gs://bucket/live", "gs://bucket/live/go_on")
    try:
        assert wait_for_steps("gs://bucket/live", 1) == [0]
    finally:
        storage.write("live/go_on", b"")
        training.result(timeout=100)
    assert steps_of("gs://bucket/live") == [0, 1, 2, 3]


def wait_for_steps(log_dir, number):
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(ValueError):  # there is no log yet
            steps = steps_of(log_dir)
            if len(steps) >= number:
                return steps
        time.sleep(0.1)
    raise AssertionError("nothing was recorded")


def steps_of(log_dir):
    return sorted(set(load(log_dir).step))


def write_steps(log_dir):
    writer = LogWriter(log_dir, [{"name": "block1"}], ["skip_share"], first_step=0)
    for step in range(4):
        writer.write(step, [[0.5]], scalars={})
    writer.close()


def test_a_log_is_not_sent_again_for_each_step(elsewhere, storage):
    elsewhere(write_steps, "gs://bucket/often")
    sent = [len(request.body) for request in storage.requests if request.method == "PUT"]
    assert len(sent) == 3  # when it was opened, at the first step, and at the end
    assert steps_of("gs://bucket/often") == [0, 1, 2, 3]


def test_a_log_that_was_cut_short_gives_what_is_intact(elsewhere, storage):
    elsewhere(write_steps, "gs://bucket/cut")
    (name,) = (name for name in storage.objects if name.startswith("cut/events"))
    storage.write(name, storage.objects[name].content[:-20])
    with pytest.warns(UserWarning, match="damaged after"):
        assert steps_of("gs://bucket/cut") == [0, 1, 2]


def test_a_service_that_is_away_for_a_moment_changes_nothing(elsewhere, storage):
    storage.fail(503, 1, lambda request: request.method == "PUT")
    storage.fail(503, 1, lambda request: request.method == "GET")
    elsewhere(write_steps, "gs://bucket/faults")
    assert not storage.faults
    assert steps_of("gs://bucket/faults") == [0, 1, 2, 3]


def test_who_has_no_access_is_told_so(elsewhere, storage, monkeypatch):
    elsewhere(write_steps, "gs://bucket/shut")
    monkeypatch.setattr(storage, "token", "another token")
    with pytest.raises(ValueError, match=r"log cannot be written to 'gs://.*code 401"):
        elsewhere(write_steps, "gs://bucket/new")
    with pytest.raises(ValueError, match=r"log in 'gs://bucket/shut' cannot be read: .*code 401"):
        load("gs://bucket/shut")


def test_access_that_is_lost_in_training_is_named(elsewhere, storage):
    storage.fail(403, 1, lambda request: len(request.body) > 100)  # more than the beginning
    with pytest.raises(OSError, match=r"log in 'gs://bucket/lost' cannot be written: .*code 403"):
        elsewhere(write_steps, "gs://bucket/lost")


def hurry():
    """Has locks wait for a moment only."""
    lock.SECONDS_BETWEEN_BEATS, lock.SECONDS_UNTIL_DEAD, lock.SECONDS_TO_SETTLE = 0.2, 2.0, 0.1


def train(workdir):
    hurry()
    keras.utils.clear_session()
    config = get_config()
    config.epochs = 1
    config.checkpoint.every_steps = 3
    config.recording.every_steps = 1
    training.prepare(config, workdir).train()


def train_until_killed(workdir):
    """Trains on four batches; the last checkpoint is that after three."""

    def die(callback, batch, logs=None):
        if callback.model.optimizer.iterations == 4:
            os.kill(os.getpid(), signal.SIGKILL)

    StopOnSignal.on_train_batch_end = die
    train(workdir)


def weights(workdir):
    return load_model(workdir).get_weights()


def evaluate(workdir):
    return training.evaluate_run(get_config(), workdir)


def predict(workdir, image):
    return training.predict_run(get_config(), workdir, [image])


def test_a_run_is_that_on_a_local_disk(elsewhere, storage, tmp_path):
    workdir = "gs://bucket/run"
    killed = multiprocessing.get_context("spawn").Process(target=train_until_killed, args=[workdir])
    killed.start()
    killed.join(100)
    assert killed.exitcode == -signal.SIGKILL
    elsewhere(train, "gs://bucket/run")
    elsewhere(train, str(tmp_path / "run"))
    in_storage, on_disk = (
        elsewhere(weights, workdir) for workdir in ("gs://bucket/run", str(tmp_path / "run"))
    )
    assert all(np.array_equal(*pair) for pair in zip(in_storage, on_disk, strict=True))
    assert load("gs://bucket/run").equals(load(str(tmp_path / "run")))
    (tested,) = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert elsewhere(evaluate, "gs://bucket/run")["accuracy"] == tested["test_accuracy"]
    local = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    # What holds a lock on a disk is not the file, and stays.
    assert files(storage.objects) == files(local) - {"run/lock"}
    image = tf.io.encode_png(np.full((8, 8, 1), 128, np.uint8))
    tf.io.write_file(str(tmp_path / "a.png"), image)
    ((answer, _),) = elsewhere(predict, "gs://bucket/run", str(tmp_path / "a.png"))
    assert answer in "0123456789"
    picture, page, table = write_report(["gs://bucket/run"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert table.read_text().startswith("run,step,block,")


def files(names):
    """Returns the names of files, without what differs between those of event files."""
    names = (name for name in names if name.startswith("run/") and not name.endswith("/"))
    return {name.split(".tfevents")[0] for name in names}


def hold(workdir, seconds):
    hurry()
    held = lock.lock_workdir(workdir)
    time.sleep(seconds)
    held.release()


def test_a_workdir_in_use_is_refused(pool, storage, monkeypatch):
    monkeypatch.setattr(lock, "SECONDS_BETWEEN_BEATS", 0.2)
    monkeypatch.setattr(lock, "SECONDS_TO_SETTLE", 0.1)
    other = pool.submit(hold, "gs://bucket/held", 3)
    while "held/lock" not in storage.objects:
        time.sleep(0.05)
    with pytest.raises(ValueError, match=r"Another run is at work in gs://bucket/held: process \d"):
        lock.lock_workdir("gs://bucket/held")
    other.result(timeout=100)
    lock.lock_workdir("gs://bucket/held").release()
    assert "held/lock" not in storage.objects


def test_a_process_that_was_killed_is_in_nobodys_way_for_long(storage, monkeypatch):
    monkeypatch.setattr(lock, "SECONDS_UNTIL_DEAD", 1)
    monkeypatch.setattr(lock, "SECONDS_TO_SETTLE", 0.1)
    storage.write("left/lock", b"process 1 on a machine, a token, 7\n")
    lock.lock_workdir("gs://bucket/left").release()


def take(workdir):
    """Writes into the lock of a work directory, as another run does that has waited for long."""
    (as_path(workdir) / "lock").write_text(f"{'process 1 on a machine, its token, 0':<200}\n")


def wait_until_lost(held):
    for _ in range(100):
        take("gs://bucket/lost_lock")  # again and again, for a beat may be on its way
        held.check()
        time.sleep(0.1)


def test_who_loses_a_workdir_is_told_so(storage, monkeypatch):
    monkeypatch.setattr(lock, "SECONDS_BETWEEN_BEATS", 0.1)
    monkeypatch.setattr(lock, "SECONDS_TO_SETTLE", 0.1)
    held = lock.lock_workdir("gs://bucket/lost_lock")
    held.check()
    with pytest.raises(training.RunError, match=r"Another run has taken gs://.*: process 1 on a m"):
        wait_until_lost(held)
    held.release()
    assert "lost_lock/lock" in storage.objects


def test_who_was_stopped_looks_before_it_saves(storage, monkeypatch):
    monkeypatch.setattr(lock, "SECONDS_TO_SETTLE", 0.1)
    held = lock.lock_workdir("gs://bucket/stopped")
    take("gs://bucket/stopped")
    held.check()  # it was looked at a moment ago
    held._looked_at -= 60
    with pytest.raises(training.RunError, match="Another run has taken"):
        held.check()
    held.release()


def train_until_lost(workdir):
    """Trains where SIGINT is ignored, as in the background of a shell, and is overtaken soon."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def lose(callback, batch, logs=None):
        if callback.model.optimizer.iterations == 2:
            for _ in range(4):  # for a beat may be on its way
                take(workdir)
                time.sleep(0.3)

    StopOnSignal.on_train_batch_end = lose
    try:
        train(workdir)
    finally:
        del StopOnSignal.on_train_batch_end


def test_a_run_that_loses_its_workdir_ends_and_saves_nothing_more(elsewhere, storage):
    with pytest.raises(training.RunError, match=r"Another run has taken gs://bucket/overtaken: p"):
        elsewhere(train_until_lost, "gs://bucket/overtaken")
    saved = {name for name in storage.objects if name.startswith("overtaken/checkpoints/step")}
    assert saved == {"overtaken/checkpoints/step-000000-000000000.npz"}
    assert b"process 1 on a machine" in storage.objects["overtaken/lock"].content


def test_a_workdir_without_access_is_refused(elsewhere, storage, monkeypatch):
    monkeypatch.setattr(storage, "token", "another token")
    with pytest.raises(ValueError, match=r"gs://bucket/none cannot be written \(Error .*code 401"):
        elsewhere(train, "gs://bucket/none")


def test_a_checkpoint_that_cannot_be_written_ends_a_run_in_a_sentence(elsewhere, storage):
    storage.fail(403, 1, lambda request: "step-" in request.query.get("name", ""))
    with pytest.raises(
        training.RunError, match=r"could not be written \(Error .*code 403.*Make it"
    ):
        elsewhere(train, "gs://bucket/full")


def test_figures_that_cannot_be_written_end_a_run_in_a_sentence(elsewhere, storage):
    storage.fail(403, 1, lambda request: "/test/events" in request.query.get("name", ""))
    with pytest.raises(training.RunError, match=r"^\[Errno 13\] Error.*code 403.*was saved is"):
        elsewhere(train, "gs://bucket/unshown")


def test_tfrecords_are_those_on_a_local_disk(storage, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for path in write_set(tmp_path / "set").iterdir():
        storage.write(f"data/{path.name}", path.read_bytes())
    source = load_source("tfrecord:gs://bucket/data/*-of-*")
    assert (source.train_examples, source.test_examples) == (6, 3)
    assert labels_of(source.train) == labels_of(load_source(f"tfrecord:{tmp_path}/set").train)


def test_a_bucket_that_does_not_exist_has_no_log(elsewhere):
    with pytest.raises(ValueError, match=r"cannot be read: .*code 404"):
        elsewhere(load, "gs://missing/run")
