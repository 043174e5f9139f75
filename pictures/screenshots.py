"""Views of the page, as a person sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from pictures.browser import opened, picture_of


@dataclass(frozen=True)
class View:
    """A view of the page.

    Attributes:
        state: What is chosen on the page, by the names that its address has.
        height: Height of the window, which is 1280 pixels wide.
        dark: Whether the page is light on dark.
    """

    state: Mapping[str, Any] = field(default_factory=dict)
    height: int = 800
    dark: bool = False


# What the documents show of the runs of `reszoo.studies.live_page`, by the names of the files.
_ONE_RUN = {"runs": ["with-skip"], "step": 60}
_BLOCK = {"blocks": ["stage1_block1"], "inspect": "stage1_block1"}
VIEWS = {
    "gradient_flow": View(_ONE_RUN),
    "gradient_flow_dark": View(_ONE_RUN, dark=True),
    "gradient_flow_comparison": View({"runs": ["with-skip", "stop-gradient"], "step": 60}),
    "gradient_flow_block": View({"runs": ["stop-gradient"], "step": 60, **_BLOCK}, 840),
}


def screenshot(report: Path, view: View) -> Image.Image:
    """Returns a picture of a view.

    Args:
        report: The page, an HTML file.
        view: The view.
    """
    with opened(report, (1280, view.height), view.dark, **view.state) as page:
        return picture_of(page.tab.screenshot())
