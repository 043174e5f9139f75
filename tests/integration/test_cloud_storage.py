"""What is done on `gs://` comes to the same as on a local disk.

TensorFlow's own `gs://` file system is at work, with its default settings, and talks to a stand-in
for Google Cloud Storage (`cloud_storage.py`).
"""

import concurrent.futures
import contextlib
import multiprocessing
import time
from dataclasses import asdict

import keras
import numpy as np
import pytest
import tensorflow as tf

import reszoo
from reszoo import BasicBranch, ResidualBlock, StopGradSkip
from reszoo.gradients import load, read_findings
from reszoo.gradients.log import LogWriter
from tests.integration.cloud_storage import CloudStorage, serve

BUCKET = "bucket"


@pytest.fixture(scope="module")
def storage():
    return CloudStorage(BUCKET)


@pytest.fixture(scope="module")
def environment(storage, tmp_path_factory):
    with serve(storage, str(tmp_path_factory.mktemp("authority") / "ca.pem")) as environment:
        yield environment


@pytest.fixture(autouse=True)
def _no_request_is_left(storage):
    storage.requests.clear()


@pytest.fixture(scope="module")
def pool(environment):
    """Another process, which has access to the storage, as this one has."""
    context = multiprocessing.get_context("spawn")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        # How soon a request that failed is sent again; 1 s by default.
        patch.setenv("GCS_RETRY_CONFIG_INIT_DELAY_TIME_US", "1000")
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
            keras.Input((4, 4, 2)),
            ResidualBlock(BasicBranch(2), name="first"),
            ResidualBlock(BasicBranch(2), StopGradSkip(), name="second"),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, jit_compile=False)
    return model


def fit(model, *callbacks):
    random = np.random.default_rng(0)
    data = random.normal(size=(32, 4, 4, 2)), random.integers(0, 3, 32)
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
    storage.fail(503, 2, lambda request: request.method == "PUT")
    storage.fail(503, 2, lambda request: request.method == "GET")
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


def test_a_bucket_that_does_not_exist_has_no_log(elsewhere):
    with pytest.raises(ValueError, match=r"cannot be read: .*code 404"):
        elsewhere(load, "gs://missing/run")
