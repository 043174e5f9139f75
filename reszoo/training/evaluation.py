"""Tests the model of a finished run."""

from pathlib import Path

from ml_collections import ConfigDict

from reszoo.training.finished import load_model
from reszoo.training.loop import evaluate
from reszoo.training.run import create_pipeline


def evaluate_run(config: ConfigDict, workdir: str | Path) -> dict[str, float]:
    """Tests the model of a run, prints its figures, and returns them.

    Args:
        config: The configuration of the run.
        workdir: Its work directory.

    Raises:
        ValueError: If there is no model.
    """
    figures = evaluate(load_model(workdir), create_pipeline(config))
    for name, value in figures.items():
        print(f"test {name.replace('_', ' ')}: {value:.4f}")
    return figures
