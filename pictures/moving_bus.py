"""The bus of several runs, with a frame for each recorded step.

The ribbons are the page's own, on one logarithmic scale for all runs and steps.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pictures.browser import opened, picture_of
from tests.integration.pages import Page

SIZE = (860, 800)
# It plays for so long, and then stands still before it begins again.
MILLISECONDS_OF_FRAMES, MILLISECONDS_AT_THE_END = 5000, 1000
# Colours of edges are rounded to multiples of it, which no eye sees and which halves the file.
# Those of areas, of this part of the first frame or more, stay what they are.
COLOUR_STEP = 8
AREA = 5e-4

_STYLE = """
.gf-body { padding: 0; }
.gf-section.gf-tracks { border: none; border-radius: 0; padding: 14px 20px 8px; }
.gf-header, .gf-track:not(:first-child), .gf-legends, .gf-column, .gf-strip, .gf-tiles,
.gf-controls, .gf-question, .gf-take, .gf-sentence, .gf-dot,
.gf-loss-now { display: none !important; }
.gf .gf-track-head { justify-content: space-between; font-size: 15px; }
.gf .gf-panel h3 { font-size: 17px; }
.gf .gf-panel-head { justify-content: space-between; margin: 8px 0 2px; }
.moving-factor, .moving-step { color: var(--muted); }
.moving-factor b, .moving-step strong {
  color: var(--text); display: inline-block; text-align: right;
}
.moving-factor b { min-width: 72px; }
.moving-step strong { min-width: 30px; }
"""

# The page's words are replaced by those for people who do not know it.
_PREPARE = """({title, names}) => {
  const added = (parent, name) => {
    const element = document.createElement("span");
    element.className = name;
    parent.append(element);
  };
  document.querySelector(".gf-tracks h2").textContent = title;
  added(document.querySelector(".gf-tracks .gf-track-head"), "moving-step");
  document.querySelectorAll(".gf-panel").forEach((panel, i) => {
    panel.querySelector("h3").textContent = names[i];
    added(panel.querySelector(".gf-panel-head"), "moving-factor");
  });
}"""

_SHOW = """(i) => {
  const slider = document.querySelector("input[aria-label=Step]");
  slider.value = i;
  slider.dispatchEvent(new Event("input", {bubbles: true}));
  document.querySelector(".moving-step").innerHTML = document.querySelector(".gf-step").innerHTML;
  document.querySelectorAll(".gf-panel").forEach((panel) => {
    const depth = panel.querySelector("[data-tile=depth] strong").textContent;
    panel.querySelector(".moving-factor").innerHTML =
      `from the last block to the first the gradient changes by <b>${depth}</b>`;
  });
}"""


def frames(report: Path, runs: Mapping[str, str], title: str, dark: bool) -> list[Image.Image]:
    """Returns a picture of the buses for each recorded step.

    Args:
        report: The page of the runs, an HTML file.
        runs: What is written beside each run, by its name.
        title: What is written above.
        dark: Whether the pictures are light on dark.
    """
    with opened(report, SIZE, dark, runs=list(runs), widths="log") as page:
        page.tab.add_style_tag(content=_STYLE)
        page.tab.evaluate(_PREPARE, {"title": title, "names": list(runs.values())})
        steps = int(page.find("input[aria-label=Step]").get_attribute("max")) + 1
        return [_frame(page, i) for i in range(steps)]


def _frame(page: Page, i: int) -> Image.Image:
    page.tab.evaluate(_SHOW, i)
    return picture_of(page.find(".gf-tracks").screenshot())


def save(pictures: Sequence[Image.Image], target: Path) -> None:
    """Saves frames as an animated WebP that plays again and again.

    Args:
        pictures: The frames.
        target: The file.
    """
    each = MILLISECONDS_OF_FRAMES // len(pictures)
    durations = [each] * (len(pictures) - 1) + [each + MILLISECONDS_AT_THE_END]
    areas = _colours_of_areas(pictures[0])
    first, *others = [_rounded(picture, areas) for picture in pictures]
    first.save(
        target, save_all=True, append_images=others, duration=durations, loop=0, lossless=True,
        method=4,
    )  # fmt: skip


def _colours_of_areas(picture: Image.Image) -> np.ndarray:
    colours, counts = np.unique(_numbered(np.asarray(picture)), return_counts=True)
    return colours[counts >= AREA * picture.width * picture.height]


def _rounded(picture: Image.Image, areas: np.ndarray) -> Image.Image:
    exact = np.asarray(picture)
    near = np.minimum(255, (exact.astype(int) + COLOUR_STEP // 2) // COLOUR_STEP * COLOUR_STEP)
    is_area = np.isin(_numbered(exact), areas)[..., None]
    return Image.fromarray(np.where(is_area, exact, near).astype(np.uint8))


def _numbered(colours: np.ndarray) -> np.ndarray:
    """A number for each colour."""
    return colours.astype(int) @ [1 << 16, 1 << 8, 1]
