"""The page of three recorded runs for the site: `python -m reszoo.studies.live_page WORKDIR FILE`.

ResNet-56 on scikit-learn's digits as they are, 8x8 pixels: with its shortcuts, with the gradient
through them stopped, and without them.
"""

import argparse
from pathlib import Path
from typing import Any

import pandas as pd
from ml_collections import ConfigDict

from reszoo.files import write_whole
from reszoo.gradients import load
from reszoo.report.page import page
from reszoo.studies.results import as_markdown
from reszoo.studies.trained_cell import configuration, is_finished, train
from reszoo.training.metrics_file import read_metrics
from reszoo.training.workdir import METRICS_FILE

# The runs by the names that the page shows, with their shortcuts. The first two networks have the
# same layers and weights.
SHORTCUTS = {"with-skip": "projection", "stop-gradient": "stop_gradient", "plain": "none"}

FIELDS: dict[str, Any] = {
    "data.name": "digits",
    "data.image_size": 8,
    "model.name": "resnet56",
    "optimizer.learning_rate": 0.1,
    "optimizer.weight_decay": 1e-4,  # as He et al. 2015
    "optimizer.warmup_epochs": 1.0,
    "recording.every_steps": 6,
    "epochs": 12,
    "batch_size": 64,
    "seed": 0,
}


def write_live_page(workdir: Path, target: Path) -> Path:
    """Trains the runs that are not finished in a work directory, and writes their page.

    The table beside the page, with the suffix `.csv`, has a row for each run: its accuracy, and the
    norm of the gradient that leaves the first block over that which reaches the last one.

    Args:
        workdir: Directory of the runs.
        target: The page, an HTML file.

    Returns:
        `target`.
    """
    folders = [workdir / name for name in SHORTCUTS]
    for folder in folders:
        if not is_finished(config_of(folder.name), folder):
            train(config_of(folder.name), folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_whole(target, page([str(folder) for folder in folders]))
    table = pd.DataFrame([_row(folder) for folder in folders])
    write_whole(target.with_suffix(".csv"), table.to_csv(index=False, float_format="%.4g"))
    return target


def live_table(target: Path) -> str:
    """Returns the table beside a page as Markdown.

    Args:
        target: The page.
    """
    table = pd.read_csv(target.with_suffix(".csv"))
    shown = {
        "run": table.run,
        "`shortcut`": "`" + table.shortcut + "`",
        "test images right": table.test_accuracy.map("{:.1%}".format),
        "factor at the first step": table.change_at_first_step.map("{:.2g}".format),
        "at the last recorded step": table.change_at_last_step.map("{:.2g}".format),
        "median of the steps": table.median_change.map("{:.2g}".format),
    }
    return as_markdown(pd.DataFrame(shown))


def config_of(run: str) -> ConfigDict:
    """Returns the configuration of a run.

    Args:
        run: Name of the run.
    """
    return configuration({**FIELDS, "model.shortcut": SHORTCUTS[run]})


def _row(folder: Path) -> dict[str, Any]:
    change = _change(load(str(folder)))
    return {
        "run": folder.name,
        "shortcut": SHORTCUTS[folder.name],
        "test_accuracy": read_metrics(folder / METRICS_FILE)[-1]["test_accuracy"],
        "change_at_first_step": change.iloc[0],
        "change_at_last_step": change.iloc[-1],
        "median_change": change.median(),
    }


def _change(log: pd.DataFrame) -> pd.Series:
    """Returns what leaves the first block over what reaches the last one, as the page, by step."""

    def norms(statistic: str, block: str) -> pd.Series:
        return log[(log.statistic == statistic) & (log.block == block)].set_index("step").value

    first, *_, last = log.block.unique()
    return norms("input_gradient_norm", first) / norms("output_gradient_norm", last)


def main(arguments: list[str] | None = None) -> None:
    """Trains the runs, and writes their page.

    Args:
        arguments: Arguments of the command; `None` takes those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m reszoo.studies.live_page",
        description="Trains ResNet-56 on digits with its shortcuts, with the gradient through them "
        "stopped, and without them, and writes one page of the three runs.",
    )
    parser.add_argument("workdir", type=Path, help="directory of the runs")
    parser.add_argument("page", type=Path, help="the page, an HTML file")
    options = parser.parse_args(arguments)
    page_file = write_live_page(options.workdir, options.page)
    print(f"Wrote {page_file}. Its table for docs/live.md:\n\n{live_table(page_file)}")


if __name__ == "__main__":
    main()
