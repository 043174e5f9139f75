"""PyTorch loops of one's own are recorded, in one process and in several."""

import keras
import numpy as np
import pytest
import torch

import reszoo
from tests.children import ROOT, blocks_on, free_port, run_two_processes
from tests.gradients.dense import BATCHES, LOSS, assert_recorded, dense_model, recorded, sgd
from tests.on_torch.by_hand import assert_same, training_by_hand


@pytest.fixture(scope="module")
def by_hand():
    return training_by_hand(dense_model(), sgd(), BATCHES, LOSS)


def loop(model, step, batches=BATCHES, log_dir=None, every_steps=1, first=0):
    """Runs a step on each batch, recorded if there is a directory; returns the weights."""
    recorders = [reszoo.GradientRecorder(log_dir, every_steps)] if log_dir else []
    for recorder in recorders:
        recorder.begin_at(first)
    callbacks = keras.callbacks.CallbackList(recorders, model=model)
    callbacks.on_train_begin()
    for recorder in recorders:
        step = recorder.recorded(step)
    for batch, (x, labels) in enumerate(batches):
        callbacks.on_train_batch_begin(batch)
        step(torch.as_tensor(x), torch.as_tensor(labels))
        callbacks.on_train_batch_end(batch)
    callbacks.on_train_end()
    return [v.numpy().copy() for v in model.variables]


def torch_step(model, scaler=None, **options):
    """Returns a step with an optimizer of PyTorch."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, **options)

    def step(x, labels):
        optimizer.zero_grad()
        loss = LOSS(labels, model(x))
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()

    return step


def keras_step(model):
    optimizer = sgd()
    optimizer.build(model.trainable_variables)

    def step(x, labels):
        model.zero_grad()
        LOSS(labels, model(x)).backward()
        variables = model.trainable_variables
        with torch.no_grad():
            optimizer.apply([variable.value.grad for variable in variables], variables)

    return step


def closure_step(model):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x, labels):
        def closure():
            optimizer.zero_grad()
            loss = LOSS(labels, model(x))
            loss.backward()
            return loss

        optimizer.step(closure)

    return step


STEPS = {
    "torch.optim": torch_step,
    "foreach": lambda model: torch_step(model, foreach=True),
    "closure": closure_step,
    "keras": keras_step,
    "scaler": lambda model: torch_step(model, torch.amp.GradScaler("cpu", init_scale=256.0)),
}


@pytest.mark.parametrize("kind", STEPS)
def test_a_loop_records_what_is_found_by_hand(kind, by_hand, tmp_path):
    model = dense_model()
    weights = loop(model, STEPS[kind](model), log_dir=tmp_path)
    assert_recorded(tmp_path, by_hand)
    plain = dense_model()
    assert_same(weights, loop(plain, STEPS[kind](plain)))


def test_steps_that_are_not_due_run_as_they_are(by_hand, tmp_path):
    model = dense_model()
    loop(model, torch_step(model), log_dir=tmp_path, every_steps=3)
    assert_recorded(tmp_path, by_hand, steps=[0, 3])


def test_a_loop_goes_on_where_it_was(by_hand, tmp_path):
    model = dense_model()
    step = torch_step(model)
    loop(model, step, BATCHES[:2], tmp_path)
    loop(model, step, BATCHES[2:], tmp_path, first=2)
    assert_recorded(tmp_path, by_hand)


def test_a_scaler_that_skips_an_update_leaves_it_out(tmp_path):
    model = dense_model()
    scaler, batch = (
        torch.amp.GradScaler("cpu"),
        (np.full_like(BATCHES[0][0], np.inf), BATCHES[0][1]),
    )
    with pytest.warns(UserWarning, match="no optimizer's apply was given 16 of the weights"):
        loop(model, torch_step(model, scaler), [batch], tmp_path)
    found = recorded(tmp_path)[0]["identity"]
    assert found["branch_gradient_nonfinite"] > 0
    assert np.isnan(found["update_norm"])


def test_processes_of_one_training_record_one_batch(by_hand, tmp_path):
    run_two_processes("tests.on_torch.two_processes", str(tmp_path))
    for kind in ("torch", "keras"):
        assert_recorded(tmp_path / kind, by_hand)
        assert len(list((tmp_path / kind).iterdir())) == 1


def test_the_python_of_the_document_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1"}
    for name, value in {**settings, "GLOO_SOCKET_IFNAME": "lo"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", free_port())
    blocks, names = blocks_on("torch", (ROOT / "docs" / "own_loop.md").read_text()), {}
    for block in blocks:
        exec(block, names)
    for run in ("torch", "parallel"):
        assert sorted(recorded(tmp_path / "runs" / run)) == [0, 2]
