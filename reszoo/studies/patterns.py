"""Eight patterns of gradients, recorded: `python -m reszoo.studies.patterns WORKDIR DOCS`.

Small networks on scikit-learn's digits, each of which shows one pattern that people meet in their
own. Writes the document `how_to_read.md`, its table and its figures.
"""

import argparse
import dataclasses
import importlib.resources
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize
from matplotlib.figure import Figure
from ml_collections import ConfigDict

from reszoo.files import write_whole, written_whole
from reszoo.gradients import load
from reszoo.gradients.alarm_log import read_findings
from reszoo.gradients.log.format import GRADIENTS_DIRECTORY
from reszoo.studies.answers import filled
from reszoo.studies.drawing import BRANCH, SKIP, STYLE, TRUNK
from reszoo.studies.trained_cell import configuration, is_finished, train
from reszoo.training.metrics_file import read_metrics
from reszoo.training.workdir import METRICS_FILE

DOCUMENT = "how_to_read.md"
RESULTS = "patterns"  # directory of the table and the figures, beside the document
TABLE = "patterns.csv"

_STATISTICS = {
    "input_gradient_norm": "g_x",
    "output_gradient_norm": "g_y",
    "skip_gradient_norm": "g_skip",
    "branch_gradient_norm": "g_branch",
    "skip_share": "share",
    "update_to_weight_ratio": "update",
    "weight_gradient_nonfinite": "nonfinite",
}
_SHARES = LinearSegmentedColormap.from_list("shares", (BRANCH, "white", SKIP))

_FIELDS: dict[str, Any] = {
    "data.name": "digits",
    "data.image_size": 8,
    "model.name": "resnet20",
    "model.width": 8,
    "model.shortcut": "zero_pad",
    "optimizer.learning_rate": 0.1,
    "optimizer.weight_decay": 1e-4,
    "optimizer.warmup_epochs": 1.0,
    "recording.every_steps": 4,
    "tensorboard.graph": False,
    "tensorboard.examples": False,
    "epochs": 4,
    "batch_size": 64,
    "seed": 0,
}


@dataclasses.dataclass(frozen=True)
class Pattern:
    """A pattern of gradients.

    Args:
        fields: Fields of its configuration that differ from those of the healthy network.
        shown: What the figure shows of each block over the steps: `"share"`, `"update"` or
            `"nonfinite"`.
    """

    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    shown: str = "share"


_NOT_NORMALIZED: dict[str, Any] = {"model.norm": None, "optimizer.clip_norm": 1.0}

PATTERNS = {
    "healthy": Pattern(),
    "vanishing": Pattern(
        {**_NOT_NORMALIZED, "model.shortcut": "none", "model.blocks": (9, 9, 9)}, "update"
    ),
    "exploding": Pattern({**_NOT_NORMALIZED, "model.blocks": (18, 18, 18), "epochs": 2}),
    "dead_branch": Pattern({"model.zero_init_last_scale": True, "model.branch_scale": 0.0}),
    "zero_start": Pattern({"model.zero_init_last_scale": True}),
    "stop_gradient": Pattern({"model.gate": "stop_skip"}),
    "high_rate": Pattern(
        {"optimizer.learning_rate": 2.0, "optimizer.warmup_epochs": 0.0}, "update"
    ),
    "overflow": Pattern(
        {
            **_NOT_NORMALIZED,
            "model.blocks": (9, 9, 9),
            "dtype": "mixed_float16",
            "epochs": 2,
            "recording.every_steps": 1,
        },
        "nonfinite",
    ),
}

_LABELS = {
    "share": "share of the skip",
    "update": "update over weights",
    "nonfinite": "weight gradients not finite",
}


def config_of(name: str) -> ConfigDict:
    """Returns the configuration of a pattern.

    Args:
        name: Name of the pattern.
    """
    return configuration({**_FIELDS, **PATTERNS[name].fields})


def write_patterns(workdir: Path, docs: Path) -> Path:
    """Trains the patterns that are not finished in a work directory, and writes their document.

    Args:
        workdir: Directory of the runs.
        docs: Directory of the document.

    Returns:
        The document.
    """
    for name in PATTERNS:
        if not is_finished(config_of(name), workdir / name):
            train(config_of(name), workdir / name)
    results = docs / RESULTS
    results.mkdir(parents=True, exist_ok=True)
    table = pd.concat([measured(name, workdir / name) for name in PATTERNS])
    write_whole(results / TABLE, table.to_csv(index=False, float_format="%.4g"))
    table = pd.read_csv(results / TABLE)
    for name in PATTERNS:
        _save(draw(name, table), results / f"{name}.svg")
    write_whole(docs / DOCUMENT, written_document(results))
    return docs / DOCUMENT


def measured(name: str, folder: Path) -> pd.DataFrame:
    """Returns what a run recorded, a row for each step and block.

    Args:
        name: Name of the pattern.
        folder: Directory of the run.
    """
    log = load(str(folder / GRADIENTS_DIRECTORY))
    blocks = list(log.block.unique())
    wide = log[log.statistic.isin(_STATISTICS)].pivot(
        index=["step", "block"], columns="statistic", values="value"
    )
    rows = wide.rename(columns=_STATISTICS)[list(_STATISTICS.values())].reset_index()
    places = rows.block.map({block: number for number, block in enumerate(blocks, 1)})
    rows = rows.assign(block=places).sort_values(["step", "block"])
    rows.insert(0, "pattern", name)
    rows["accuracy"] = read_metrics(folder / METRICS_FILE)[-1]["test_accuracy"]
    kinds = dict.fromkeys(found.alarm for found in read_findings(str(folder / GRADIENTS_DIRECTORY)))
    return rows.assign(alarms=", ".join(kinds) or "none")


def draw(name: str, table: pd.DataFrame) -> Figure:
    """Draws a pattern: the gradient by block at some steps, and a statistic by block and step.

    Args:
        name: Name of the pattern.
        table: The table of all patterns.
    """
    rows: Any = table[table.pattern == name]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(8.4, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        _draw_profile(left, rows)
        _draw_over_steps(right, rows, PATTERNS[name].shown)
    return figure


def _draw_profile(axis: Axes, rows: pd.DataFrame) -> None:
    steps = sorted(rows.step.unique())
    for step, style, width in (
        (steps[0], ":", 1.6),
        (steps[len(steps) // 2], "-", 1.0),
        (steps[-1], "-", 2.2),
    ):
        at_step: Any = rows[rows.step == step]
        values = at_step.g_y.where(at_step.g_y > 0)
        axis.plot(at_step.block, values, style, color=TRUNK, linewidth=width, label=f"step {step}")
    axis.set_yscale("log")
    axis.set_xlabel("block, from the input to the loss")
    axis.set_ylabel("gradient that reaches it")
    axis.legend(fontsize=8)


def _draw_over_steps(axis: Axes, rows: pd.DataFrame, shown: str) -> None:
    grid = rows.pivot(index="step", columns="block", values=shown)
    values = np.ma.masked_invalid(grid.to_numpy(float))
    if shown == "share":
        scale, colours = Normalize(0, 1), _SHARES
    else:
        values = np.ma.masked_less_equal(values, 0)
        scale, colours = LogNorm(), matplotlib.colormaps["viridis"]
    colours = colours.with_extremes(bad="0.85")
    image = axis.pcolormesh(
        grid.columns, range(len(grid)), values, norm=scale, cmap=colours, rasterized=True
    )
    axis.invert_yaxis()
    marked = np.unique(np.linspace(0, len(grid) - 1, 5).round().astype(int))
    axis.set_yticks(marked, [str(grid.index[place]) for place in marked])
    axis.grid(visible=False)
    axis.set_xlabel("block")
    axis.set_ylabel("step")
    axis.figure.colorbar(image, ax=axis, label=_LABELS[shown])


def _save(figure: Figure, target: Path) -> None:
    with matplotlib.rc_context(STYLE), written_whole(target) as partial:
        figure.savefig(str(partial), format="svg", bbox_inches="tight", metadata={"Date": None})


def written_document(results: Path) -> str:
    """Returns the text of the document, filled with the numbers of the table.

    Args:
        results: Directory of the table.
    """
    table = pd.read_csv(results / TABLE)
    values = {name: dict(_values(table[table.pattern == name])) for name in PATTERNS}
    folder = importlib.resources.files("reszoo.studies") / "texts" / RESULTS
    return filled((folder / DOCUMENT).read_text(encoding="utf-8"), values)


def _values(rows: Any) -> Iterator[tuple[str, str]]:
    """Yields the numbers of a pattern that its text may name."""
    first, last = (rows[rows.step == step] for step in (rows.step.min(), rows.step.max()))
    yield "accuracy", f"{rows.accuracy.iloc[0]:.1%}"
    yield "alarms", rows.alarms.iloc[0]
    yield "blocks", str(rows.block.max())
    for name, at_step in (("start", first), ("end", last)):
        with np.errstate(invalid="ignore"):  # 0 / 0, where all is dead
            factor = np.divide(at_step.g_x.iloc[0], at_step.g_y.iloc[-1])
        yield f"factor_{name}", _short(factor)
        yield f"share_{name}", f"{at_step.share.median():.0%}"
        yield f"update_{name}", _short(at_step["update"].median())
        yield f"largest_update_{name}", _short(at_step["update"].max())
    overflowed = rows[rows.nonfinite > 0].step.unique()
    yield "overflowed_steps", str(len(overflowed))
    yield "recorded_steps", str(rows.step.nunique())
    yield "dead_end", str(int((last.g_branch == 0).sum()))


def _short(value: float) -> str:
    if not np.isfinite(value):
        return "not defined"
    if 1e-3 < abs(value) < 1e3:
        return f"{value:.2g}"
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")


def main(arguments: list[str] | None = None) -> None:
    """Trains the patterns, and writes their document.

    Args:
        arguments: Arguments of the command; `None` takes those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m reszoo.studies.patterns",
        description="Trains eight small networks whose gradients show what people meet, and writes "
        f"{DOCUMENT} with their figures.",
    )
    parser.add_argument("workdir", type=Path, help="directory of the runs")
    parser.add_argument("docs", type=Path, help="directory of the document")
    options = parser.parse_args(arguments)
    print(f"Wrote {write_patterns(options.workdir, options.docs)}.")


if __name__ == "__main__":
    main()
