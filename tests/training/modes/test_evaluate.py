import dataclasses

import keras
import numpy as np
import pandas as pd
import pytest

from reszoo.data import load_source
from reszoo.training import evaluate_run


def test_evaluating_gives_keras_own_figures(config, workdir, capsys):
    figures = evaluate_run(config, workdir)
    model = keras.models.load_model(workdir / "model.keras")
    images, labels = next(iter(load_source("digits").test.batch(360)))
    loss, accuracy = model.evaluate(images, labels, verbose=0)
    assert figures["loss"] == pytest.approx(loss, rel=1e-4)
    assert figures["accuracy"] == pytest.approx(accuracy)
    assert f"test accuracy: {accuracy:.4f}" in capsys.readouterr().out


def test_evaluating_names_the_worst_classes_and_writes_the_confusion_matrix(
    config, workdir, capsys
):
    figures = evaluate_run(config, workdir)
    counts = pd.read_csv(workdir / "confusion.csv", index_col=0).to_numpy()
    assert counts.sum() == 360
    assert np.trace(counts) / 360 == pytest.approx(figures["accuracy"])
    worst = (np.diag(counts) / counts.sum(axis=1)).argmin()
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("class ")]
    assert len(lines) == 5
    assert lines[0].startswith(f"class {worst}: ")


def test_there_is_no_model(config, tmp_path):
    with pytest.raises(ValueError, match="Train first"):
        evaluate_run(config, tmp_path / "none")


def test_a_terminal_obeys_no_name_of_a_class(config, workdir, capsys, monkeypatch):
    names = ("\x1b[2J", "a\nb", "你好", "$x$", *"456789")
    source = dataclasses.replace(load_source("digits"), class_names=names)
    monkeypatch.setattr("reszoo.training.pipeline.load_source", lambda *_: source)
    evaluate_run(config, workdir)
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert all(line.split(" ")[0] in ("test", "class", "confusion") for line in said.splitlines())
    table = pd.read_csv(workdir / "confusion.csv", index_col=0)
    assert tuple(table.columns) == tuple(table.index) == names
