"""Figure of one recorded step for papers and slides: the page's tracks, one below the other."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import matplotlib.colors
import matplotlib.figure
import numpy as np
from matplotlib.axes import Axes

from reszoo.figure_text import AS_TEXT, drawable
from reszoo.report.figure import share_colors
from reszoo.tensorboard.recording import Recording

# The page's colours, those of its style sheet and scales.
SKIP_COLOR, BRANCH_COLOR, TRUNK_COLOR = "#2878b5", "#e07b1f", "#9aa4ae"
RUN_COLORS = ("#2c3640", "#00795a", "#a3507d", "#7a6c00", "#7c5cc4")
PATHS = ("skip", "branch")

_LINEAR, _LOG = matplotlib.colors.Normalize, matplotlib.colors.LogNorm

# Strips: statistic, label, colour map, scale, its ends in words.
STRIPS = (
    ("skip_share", "share", share_colors(), _LINEAR(0, 1), "0 to 1"),
    ("skip_branch_cosine", "cosine", "PRGn", _LINEAR(-1, 1), "\u22121 to 1"),
    ("gradient_gain", "gain", "PRGn", _LOG(0.1, 10), "\u00d70.1 to \u00d710"),
    ("update_to_weight_ratio", "update/weight", "PRGn", _LOG(1e-5, 0.1), "1e-5 to 0.1"),
)


@dataclass(frozen=True)
class Style:
    """Size of a figure.

    Attributes:
        width: In inches.
        font_size: In points.
        heights: Of a bus, the profile and a strip, in inches.
    """

    width: float
    font_size: float
    heights: tuple[float, float, float]


STYLES = {
    "screen": Style(12.0, 10.0, (1.0, 1.6, 0.17)),
    "paper": Style(7.0, 8.0, (0.7, 1.2, 0.12)),
    "column": Style(3.3, 6.5, (0.5, 1.0, 0.1)),
}


@dataclass(frozen=True)
class _Step:
    """One step of a run: values by statistic, and the profile of every step."""

    name: str
    color: str
    blocks: Sequence[Mapping]
    values: Mapping[str, np.ndarray]
    profiles: np.ndarray
    at: int


def tracks_figure(
    runs: Mapping[str, Recording], step: int | None, style: str
) -> matplotlib.figure.Figure:
    """Draws the bus of each run, the gradient by depth of all, and strips of each block.

    Blocks that are inside others are left out, and the figure says how many.

    Args:
        runs: Recordings by the names of their runs.
        step: A recorded step; `None` takes the last one of each run.
        style: A key of `STYLES`.

    Raises:
        ValueError: If a run has not recorded the step.
    """
    of_runs = [
        _at_step(name, RUN_COLORS[index % len(RUN_COLORS)], recording, step)
        for index, (name, recording) in enumerate(runs.items())
    ]
    look = STYLES[style]
    bus, profile, strip = look.heights
    tracks: list[tuple[float, Callable[[Axes], None]]] = []
    widths = _widths(of_runs)
    for run in of_runs:
        tracks.append((bus, _bus_of(run, widths, look, len(of_runs) > 1)))
    tracks.append((profile, lambda axes: _profile(axes, of_runs)))
    for statistic in STRIPS:
        for order, run in enumerate(of_runs):
            if statistic[0] in run.values:
                tracks.append((strip, _strip_of(run, statistic, order == 0)))
    with matplotlib.rc_context({"font.size": look.font_size}):
        return _stacked(tracks, look, _title(of_runs, runs))


def _at_step(name: str, color: str, recording: Recording, step: int | None) -> _Step:
    steps = recording.steps
    if step is not None and step not in steps:
        nearest = steps[np.argsort(np.abs(steps - step), kind="stable")[:2]]
        found = " and ".join(str(each) for each in sorted(nearest))
        raise ValueError(
            f"Step {step} of the run {name!r} must be a recorded one. The nearest are {found}."
        )
    at = len(steps) - 1 if step is None else int(np.searchsorted(steps, step))
    outer = [index for index, block in enumerate(recording.blocks) if not block.get("parent")]
    values = {
        statistic: recording.values[:, outer, index].astype(np.float64)
        for index, statistic in enumerate(recording.statistics)
    }
    nothing = np.full((len(steps), len(outer)), np.nan)
    reaches = values.get("output_gradient_norm", nothing)[:, -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        profiles = np.where(
            reaches > 0, values.get("input_gradient_norm", nothing) / reaches, np.nan
        )
    at_step = {statistic: rows[at] for statistic, rows in values.items()}
    return _Step(name, color, [recording.blocks[i] for i in outer], at_step, profiles, at)


def _title(of_runs: Sequence[_Step], runs: Mapping[str, Recording]) -> str:
    steps = sorted({int(runs[run.name].steps[run.at]) for run in of_runs})
    names = ", ".join(run.name for run in of_runs)
    inner = sum(len(runs[run.name].blocks) - len(run.blocks) for run in of_runs)
    left_out = f" ({inner} blocks inside others are not drawn)" if inner else ""
    return f"{names}: step {' and '.join(map(str, steps))}{left_out}"


def _stacked(
    tracks: Sequence[tuple[float, Callable[[Axes], None]]], look: Style, title: str
) -> matplotlib.figure.Figure:
    """Places tracks of given heights under each other, with one horizontal axis."""
    gap, top = 0.35 * look.font_size / 72, 2.2 * look.font_size / 72
    height = top + sum(each for each, _ in tracks) + gap * len(tracks) + gap
    figure = matplotlib.figure.Figure(figsize=(look.width, height))
    letters = int(look.width * 72 / (0.55 * look.font_size))
    figure.suptitle(
        drawable(title, letters), x=0.01, y=1 - 0.4 * top / height, ha="left", va="center",
        fontsize=1.1 * look.font_size, **AS_TEXT,
    )  # fmt: skip
    left, right = 8 * look.font_size / 72, 5.5 * look.font_size / 72
    bottom = height - top
    for each, draw in tracks:
        bottom -= each
        place = (left / look.width, bottom / height, 1 - (left + right) / look.width, each / height)
        draw(figure.add_axes(place))
        bottom -= gap
    return figure


def _widths(of_runs: Sequence[_Step]) -> Callable[[float], float]:
    """Returns widths of ribbons, of 1: in proportion for one run, by the logarithm for several."""
    names = [f"{place}_gradient_norm" for place in (*PATHS, "input", "output")]
    sizes = [run.values[name] for run in of_runs for name in names if name in run.values]
    known = np.concatenate([*sizes, np.empty(0)])
    known = known[np.isfinite(known) & (known > 0)]
    low, high = known.min(initial=np.inf), known.max(initial=0.0)

    def width(size: float) -> float:
        if not size > 0:
            return 0.0
        if len(of_runs) == 1:
            return max(0.07, min(size / high, 1.0))
        decades = np.log(high / min(low, high / 100))
        return float(np.clip(1 + 0.93 * np.log(size / high) / decades, 0.07, 1.0))

    return width


def _bus_of(
    run: _Step, width: Callable[[float], float], look: Style, is_named: bool
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        """Draws in points, so that a ribbon has one width in every direction."""
        across, up = (axes.get_window_extent().bounds[i] * 72 / axes.figure.dpi for i in (2, 3))
        axes.set(xlim=(0, across), ylim=(0, up))
        axes.axis("off")
        unit = across / len(run.blocks)
        widest = max(1.2, min(0.22 * unit, 0.2 * up))
        for index, block in enumerate(run.blocks):
            _block(axes, run, index, block, (unit, up, widest), width)
        axes.text(across + 3, 0.2 * up, "loss", color="0.4", va="center", size="small")
        if is_named:
            words = drawable(run.name, 14)
            axes.text(-3, 0.2 * up, words, color=run.color, **_LABEL, size="small", **AS_TEXT)
        else:
            _path_names(axes, run, up)

    return draw


_LABEL: dict[str, Any] = {"ha": "right", "va": "center", "weight": "bold"}


def _path_names(axes: Axes, run: _Step, up: float) -> None:
    plain = all(block.get("shortcut") == "zero" for block in run.blocks)
    names = [] if plain else [("skip", 0.2 * up, SKIP_COLOR)]
    for words, y, color in [*names, ("branch", (0.2 if plain else 0.85) * up, BRANCH_COLOR)]:
        axes.text(-3, y, words, color=color, **_LABEL)


def _block(
    axes: Axes,
    run: _Step,
    index: int,
    block: Mapping,
    size: tuple[float, float, float],
    width: Callable[[float], float],
) -> None:
    """Draws the two ribbons of a block from its merge, on the right, to its fork."""
    unit, up, widest = size
    fork, merge, line = (index + 0.08) * unit, (index + 0.92) * unit, 0.2 * up
    norms = {place: run.values.get(f"{place}_gradient_norm") for place in (*PATHS, "output")}
    at = {
        place: 0.0 if norm is None else widest * width(norm[index]) for place, norm in norms.items()
    }
    has_skip = block.get("shortcut") != "zero"
    x = np.linspace(fork, merge, 41)
    rise = _arch((x - fork) / (merge - fork)) * 0.65 * up if has_skip else np.zeros_like(x)
    _ribbon(axes, x, line + rise, (at["branch"], at["output"] or at["branch"]), BRANCH_COLOR)
    if block.get("stops_gradient"):
        axes.plot([fork, merge], [line, line], color="0.2", lw=0.8, ls=(0, (3, 2)))
        axes.plot(
            [(fork + merge) / 2] * 2, [line - 0.08 * up, line + 0.08 * up], color="0.2", lw=1.2
        )
    elif has_skip:
        _ribbon(
            axes, x, np.full_like(x, line), (at["skip"], at["output"] or at["skip"]), SKIP_COLOR
        )
    if merge + 0.16 * unit < len(run.blocks) * unit:
        axes.plot([merge, merge + 0.16 * unit], [line, line], color=TRUNK_COLOR, lw=0.8, zorder=0)


def _arch(part: np.ndarray) -> np.ndarray:
    """Returns heights of 1 along an arch from 0 to 1: up, along and back."""
    up = np.clip(np.minimum(part, 1 - part) / 0.42, 0, 1)
    return up * up * (3 - 2 * up)


def _ribbon(
    axes: Axes, x: np.ndarray, y: np.ndarray, ends: tuple[float, float], color: str
) -> None:
    """Fills along a line, with a width that goes evenly from one end's to the other's."""
    if not any(ends):
        return
    if not ends[0]:
        axes.plot(x, y, color="0.5", lw=0.8, ls=(0, (1, 2)))
        return
    half = np.linspace(*ends, len(x)) / 2
    dx, dy = np.gradient(x), np.gradient(y)
    length = np.hypot(dx, dy)
    across, up = -dy / length * half, dx / length * half
    axes.fill(
        np.r_[x + across, (x - across)[::-1]], np.r_[y + up, (y - up)[::-1]], color=color, lw=0
    )


def _profile(axes: Axes, of_runs: Sequence[_Step]) -> None:
    """Draws the gradient at each block over that at the last: this step, all steps, the first."""
    for run in of_runs:
        x = (np.arange(len(run.blocks)) + 0.5) / len(run.blocks)
        positive = np.where(run.profiles > 0, run.profiles, np.nan)
        kept = ~np.isnan(positive).all(axis=0)
        if not kept.any():
            continue
        low, high = np.nanquantile(positive[:, kept], (0.1, 0.9), axis=0)
        axes.fill_between(x[kept], low, high, color=run.color, alpha=0.14, lw=0)
        axes.plot(x, positive[0], color=run.color, lw=0.7, ls=(0, (1, 2)))
        axes.plot(x, positive[run.at], color=run.color, lw=1.4)
        zero = run.profiles[run.at] == 0
        axes.plot(x[zero], np.zeros(zero.sum()), "x", color=run.color, clip_on=False,
                  transform=axes.get_xaxis_transform(), ms=3)  # fmt: skip
    axes.set(xlim=(0, 1), yscale="log", xticks=[])
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.3), max(high, 3))
    axes.axhline(1, color="0.5", lw=0.6, ls=(0, (3, 2)), zorder=0)
    axes.tick_params(length=2, pad=1.5, which="both")
    axes.minorticks_off()
    axes.yaxis.set_major_formatter(lambda value, _: f"\u00d7{value:g}")
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_title("gradient at each block over that at the last", loc="left", size="small", pad=1)


def _strip_of(run: _Step, strip: tuple, is_first: bool) -> Callable[[Axes], None]:
    """Draws a row of cells: the first run's has the statistic's name, the others' those of runs."""
    statistic, label, colors, scale, ends = strip

    def draw(axes: Axes) -> None:
        palette = matplotlib.colormaps.get_cmap(colors).with_extremes(bad="none")
        axes.patch.set(facecolor="white", edgecolor="0.6", hatch="//////", lw=0)
        values = np.ma.masked_invalid(run.values[statistic][None, :])
        axes.imshow(values, norm=scale, cmap=palette, aspect="auto", interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        words = label if is_first else drawable(run.name, 14)
        place = {"transform": axes.transAxes, "va": "center", "size": "small"}
        axes.text(-0.005, 0.5, words, color=run.color, ha="right", **place, **AS_TEXT)
        if is_first:
            axes.text(1.005, 0.5, ends, color="0.4", **place)

    return draw
