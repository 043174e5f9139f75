"""Figure of a run for print: heatmaps of blocks by steps."""

import matplotlib
import matplotlib.colors
import matplotlib.figure
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from reszoo.figure_text import AS_TEXT, drawable

# The page's colours; `frontend/src/scales.js` has the same.
SHARE_COLORS = ("#b34700", "#e08a3c", "#c9c5bd", "#4d94c9", "#00508c")
NORM_COLORS = "cividis"

LETTERS_OF_TITLE, LETTERS_OF_BLOCK = 90, 40

# Panels of the figure: statistic, title, label of the colour bar.
PANELS = (
    ("output_gradient_norm", "What reaches the block: $g_y$", "norm, loss per unit of y"),
    (
        "skip_gradient_norm",
        "What comes back through the skip: $g_{skip}$",
        "norm, loss per unit of x",
    ),
    (
        "branch_gradient_norm",
        "What comes back through the branch: $g_{branch}$",
        "norm, loss per unit of x",
    ),
    (
        "skip_share",
        r"Share of the skip: $|g_{skip}|\,/\,(|g_{skip}| + |g_{branch}|)$",
        "0: branch only, 1: skip only",
    ),
)


def gradient_flow_figure(table: pd.DataFrame, title: str) -> matplotlib.figure.Figure:
    """Draws heatmaps of blocks by steps for the norms of a block's gradients and the skip's share.

    The three norms share one logarithmic colour scale. Zeros and NaN are hatched.

    Args:
        table: A log, from `reszoo.gradients.load`.
        title: The title above all panels.

    Raises:
        ValueError: If the log has no recorded step.
    """
    if table.empty:
        raise ValueError("The log has no recorded step yet, so there is nothing to draw.")
    blocks, steps = table.block.unique(), np.unique(table.step)
    grids = {statistic: _grid(table, statistic, blocks, steps) for statistic, _, _ in PANELS}
    norms = np.concatenate([grids[name].to_numpy().ravel() for name in grids if "norm" in name])
    norms = norms[np.isfinite(norms) & (norms > 0)]
    log_scale = matplotlib.colors.LogNorm(
        norms.min(initial=norms.max(initial=1e-12)), norms.max(initial=1e-12)
    )
    rows = len(next(iter(grids.values())))
    figure = matplotlib.figure.Figure(figsize=(12, 3.2 + 0.36 * rows), layout="constrained")
    figure.suptitle(drawable(title, LETTERS_OF_TITLE), fontsize=14, **AS_TEXT)
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    for axis, (statistic, name, unit) in zip(axes.ravel(), PANELS, strict=True):
        share = statistic == "skip_share"
        scale = matplotlib.colors.Normalize(0, 1) if share else log_scale
        _draw(axis, grids[statistic], scale, share_colors() if share else NORM_COLORS)
        axis.set_title(name, fontsize=11, loc="left")
        figure.colorbar(axis.images[0], ax=axis, label=unit)
    for axis in axes[1]:
        axis.set_xlabel("training step")
    figure.supylabel("blocks, from the input down to the output", fontsize=10)
    return figure


def _grid(
    table: pd.DataFrame, statistic: str, blocks: np.ndarray, steps: np.ndarray
) -> pd.DataFrame:
    """Returns a statistic as blocks by steps, the first block on top; NaN where not recorded."""
    rows = table[table.statistic == statistic]
    grid = rows.pivot(index="block", columns="step", values="value")
    return grid.reindex(index=blocks, columns=steps)


def share_colors() -> matplotlib.colors.Colormap:
    """Returns the page's colours of a share: orange for the branch, blue for the skip."""
    return matplotlib.colors.LinearSegmentedColormap.from_list("share", SHARE_COLORS)


def _draw(
    axis: Axes,
    grid: pd.DataFrame,
    scale: matplotlib.colors.Normalize,
    palette: str | matplotlib.colors.Colormap,
) -> None:
    colors = matplotlib.colormaps.get_cmap(palette).with_extremes(bad="none", under="none")
    axis.patch.set(facecolor="white", edgecolor="0.6", hatch="////")
    values = np.ma.masked_invalid(grid.to_numpy(dtype=float))
    if isinstance(scale, matplotlib.colors.LogNorm):
        values = np.ma.masked_less_equal(values, 0)
    axis.imshow(values, norm=scale, cmap=colors, aspect="auto", interpolation="nearest")
    names = [drawable(name, LETTERS_OF_BLOCK) for name in grid.index]
    axis.set_yticks(range(len(grid)), names, **AS_TEXT)
    shown = np.unique(np.linspace(0, grid.shape[1] - 1, 7).round().astype(int))
    axis.set_xticks(shown, grid.columns[shown])
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
