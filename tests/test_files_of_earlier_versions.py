"""Files of earlier versions load, and hold the same: models, a log, a run that goes on."""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict

import reszoo
from reszoo.gradients import load, load_histograms, load_variables, read_findings
from reszoo.training import prepare
from tests.files_of_earlier_versions.write import outputs_and_gradients

DIRECTORY = Path(__file__).parent / "files_of_earlier_versions"
VERSIONS = sorted(path.name for path in DIRECTORY.iterdir() if path.name[0].isdigit())
MODELS = sorted(path.relative_to(DIRECTORY) for path in DIRECTORY.glob("*/models/*.keras"))


@pytest.fixture(params=VERSIONS)
def version(request):
    return DIRECTORY / request.param


@pytest.mark.parametrize("path", MODELS, ids=str)
def test_a_model_gives_its_outputs_and_gradients(path):
    values = np.load(DIRECTORY / path.parent / "values.npz")
    model = keras.saving.load_model(DIRECTORY / path)
    found = outputs_and_gradients(model, values[f"{path.stem}_inputs"])
    for name, array in zip(("outputs", "gradients"), found, strict=True):
        expected = values[f"{path.stem}_{name}"]
        np.testing.assert_allclose(array, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


def test_a_log_gives_its_values(version):
    log = version / "gradients"
    for found, name in ((load(log), "values.csv"), (load_variables(log), "variables.csv")):
        expected = pd.read_csv(log / name)
        assert (
            found.drop(columns="value")
            .astype(str)
            .equals(expected.drop(columns="value").astype(str))
        )
        np.testing.assert_array_equal(found.value, expected.value.astype("float32"))
    assert set(load_histograms(log).block) == {"first", "second"}
    (finding,) = read_findings(log)
    assert (finding.step, finding.alarm, finding.block) == (0, "vanishing", "first")


def test_a_model_of_a_run_predicts(version):
    model = keras.saving.load_model(version / "run" / "model.keras")
    assert model(np.ones((1, 8, 8, 1))).shape == (1, 10)


def test_a_run_goes_on(version, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(version / "run", workdir)
    config = ConfigDict(json.loads((workdir / "config.json").read_text()))
    config.epochs = 3
    prepare(config, workdir).train()
    found, expected = (
        [json.loads(line) for line in (workdir / name).read_text().splitlines()]
        for name in ("metrics.jsonl", "metrics_of_three_epochs.jsonl")
    )
    for line, expected_line in zip(found, expected, strict=True):
        del line["images_per_second"], expected_line["images_per_second"]
        assert line == pytest.approx(expected_line, rel=1e-3)
    log, recorded = load(workdir), pd.read_csv(workdir / "gradients_of_three_epochs.csv")
    assert list(log.step) == list(recorded.step)
    assert list(log.statistic) == list(recorded.statistic)
    np.testing.assert_allclose(log.value, recorded.value, rtol=1e-2, atol=1e-4)


def test_the_version_now_is_kept_for_the_next():
    assert reszoo.__version__ in VERSIONS, "run python -m tests.files_of_earlier_versions.write"
