"""All pictures of the page in the documents, and the live page that they are taken from.

    python -m pictures
    python -m pictures WORKDIR --docs=DOCS

Trains the runs of `reszoo.studies.live_page` that are not finished in the work directory, which
takes some minutes, writes `live/gradient_flow.html` below the documents, and from it the pictures
in `images/`. It needs Chromium and Playwright.
"""

import argparse
from pathlib import Path

from pictures.moving_bus import frames, save
from pictures.screenshots import VIEWS, screenshot
from reszoo.studies.live_page import live_table, write_live_page
from tests.integration.pages import browser_path

ROOT = Path(__file__).parents[1]
TITLE = "The gradient on its way back through ResNet-56, while it learns digits"
RUNS = {"with-skip": "with skips", "stop-gradient": "skips stopped"}


def write_screenshots(report: Path, images: Path) -> None:
    """Writes the views of the page.

    Args:
        report: The page of the recorded runs.
        images: Directory of the pictures.
    """
    for name, view in VIEWS.items():
        screenshot(report, view).save(images / f"{name}.png", optimize=True)


def write_moving_bus(report: Path, images: Path) -> None:
    """Writes the moving pictures, and the first frame of each for those who want no movement.

    Args:
        report: The page of the recorded runs.
        images: Directory of the pictures.
    """
    for name, dark in (("moving_bus", False), ("moving_bus_dark", True)):
        pictures = frames(report, RUNS, TITLE, dark)
        pictures[0].save(images / f"{name}.png", optimize=True)
        save(pictures, images / f"{name}.webp")


def main(arguments: list[str] | None = None) -> None:
    """Records what is not recorded, and writes the pictures.

    Args:
        arguments: Arguments of the command; `None` takes those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pictures",
        description="Writes the pictures of the documents and their live page, from runs that are "
        "trained where they are missing.",
    )
    parser.add_argument(
        "workdir", type=Path, nargs="?", default=ROOT / "runs" / "live", help="directory of the "
        "runs; runs/live if absent",
    )  # fmt: skip
    parser.add_argument(
        "--docs", type=Path, default=ROOT / "docs", help="directory of the documents"
    )
    options = parser.parse_args(arguments)
    try:
        browser_path()  # before the runs are trained
    except LookupError as error:
        parser.error(f"The pictures are taken in a browser, but {error}")
    images = options.docs / "images"
    images.mkdir(parents=True, exist_ok=True)
    report = write_live_page(options.workdir, options.docs / "live" / "gradient_flow.html")
    write_screenshots(report, images)
    write_moving_bus(report, images)
    print(f"Wrote {report} and the pictures in {images}.")
    print(f"The table of the runs for docs/live.md:\n\n{live_table(report)}")


if __name__ == "__main__":
    main()
