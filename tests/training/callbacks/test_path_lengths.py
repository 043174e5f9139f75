"""Gradients by the length of their path in the course of a run."""

import shutil

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from reszoo.gradients import gradient_by_path_length
from reszoo.training import prepare
from reszoo.training.callbacks.path_lengths import check_one_device
from reszoo.training.config import complete
from reszoo.training.losses import loss_of
from tests.training import tiny


def config(**changes):
    made = complete(tiny.get_config())
    changes = {"epochs": 1, "recording.path_lengths": 1, "recording.every_steps": 0, **changes}
    made.update_from_flattened_dict(changes)
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two epochs, with what its first weights give."""
    workdir = tmp_path_factory.mktemp("whole") / "run"
    run = prepare(config(epochs=2), workdir)
    images, labels = next(iter(run.pipeline.train_batches(epoch=0)))
    loss = loss_of(run.model)
    first = gradient_by_path_length(run.model, images[:32], labels[:32], loss, samples=1, seed=0)
    run.train()
    return workdir, first


def test_they_are_measured_before_the_first_step_and_after_each_epoch(whole):
    workdir, first = whole
    table = pd.read_csv(workdir / "path_lengths.csv")
    assert sorted(set(table.step)) == [0, 5, 10]
    at_first = table[table.step == 0].drop(columns="step").reset_index(drop=True)
    pd.testing.assert_frame_equal(at_first, first, check_exact=True)
    assert (table.groupby(["length", "sample"]).size() == 3).all()
    assert len(set(table.gradient_norm)) == len(table)


def test_a_run_that_goes_on_has_the_same_rows_and_neither_changes_the_weights(whole, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(whole[0], workdir)
    # Killed after the rows of the second epoch, before its checkpoint, and in the midst of more.
    (workdir / "checkpoints" / "step-000002-000000000.npz").unlink()
    with (workdir / "path_lengths.csv").open("a") as file:
        file.write("11,0,0,1.0,1.0\n12,1,0,1.")
    prepare(config(epochs=2), workdir).train()
    files = [folder / "path_lengths.csv" for folder in (workdir, whole[0])]
    assert files[0].read_text() == files[1].read_text()
    prepare(config(epochs=2, **{"recording.path_lengths": 0}), tmp_path / "plain").train()
    plain, measured = (
        np.load(folder / "checkpoints" / "step-000002-000000000.npz")
        for folder in (tmp_path / "plain", whole[0])
    )
    for name in plain.files:
        if name.startswith("model/"):
            np.testing.assert_array_equal(plain[name], measured[name])


def test_several_devices_are_refused_before_anything_is_made():
    check_one_device(tf.distribute.get_strategy())
    strategy = type("Strategy", (), {"num_replicas_in_sync": 2})()
    with pytest.raises(ValueError, match=r"path_lengths must be 0 on 2 devices, for it takes"):
        check_one_device(strategy)
