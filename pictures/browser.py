"""A report in a browser, drawn at double size."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from tests.integration.pages import Page, browser, browser_path

# Pixels of a picture for each pixel of the page.
SCALE = 2


@contextlib.contextmanager
def opened(report: Path, size: tuple[int, int], dark: bool, **state: Any) -> Iterator[Page]:
    """Yields a report in a window of a browser.

    Args:
        report: The HTML file.
        size: Width and height of the window.
        dark: Whether the system is dark, which the page follows.
        **state: What is chosen on the page, by the names that its address has.

    Raises:
        LookupError: If there is no browser.
        RuntimeError: If something went wrong on the page.
    """
    with browser(browser_path()) as chromium:
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]},
            device_scale_factor=SCALE,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
        )
        page = Page(context.new_page())
        yield page.open_file(report.resolve(), **state)
        if page.errors:
            raise RuntimeError(f"The page of {report} has errors: {'; '.join(page.errors)}")


def picture_of(png: bytes) -> Image.Image:
    """Returns what a browser has drawn, in full colour.

    Args:
        png: Content of a PNG file.
    """
    return Image.open(io.BytesIO(png)).convert("RGB")
