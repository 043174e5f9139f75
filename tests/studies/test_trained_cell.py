"""Training of a cell: what diverged is told apart from what was stopped."""

import numpy as np
import pytest

from reszoo.studies.recipes import on_digits
from reszoo.studies.trained_cell import configuration, train
from reszoo.training import RunError
from reszoo.training.run import Run
from reszoo.training.workdir import CHECKPOINTS_DIRECTORY

SMALL = {"model.name": "residual_mlp", "model.width": 4, "model.blocks": 1}


def test_a_training_whose_loss_is_not_finite_diverged(tmp_path):
    fields = on_digits(1, 0) | SMALL | {"recording.every_steps": 0, "model.norm": None}
    fields |= {"model.activation": "linear"}
    fields |= {"optimizer.learning_rate": 1e6, "optimizer.warmup_epochs": 0.0}
    run = train(configuration(fields), tmp_path)
    assert "finite" in run.diverged
    assert np.isnan(run.accuracy)
    assert np.isnan(run.test_loss)


def test_a_training_that_was_told_to_stop_did_not_diverge(tmp_path, monkeypatch):
    def stopped(run):
        (run.workdir / CHECKPOINTS_DIRECTORY).mkdir(exist_ok=True)
        raise RunError("told to stop (SIGTERM); everything is saved.")

    monkeypatch.setattr(Run, "train", stopped)
    with pytest.raises(RunError, match="told to stop"):
        train(configuration(on_digits(2, 0) | SMALL | {"recording.every_steps": 0}), tmp_path)
    assert (tmp_path / CHECKPOINTS_DIRECTORY).exists()
