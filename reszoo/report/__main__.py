"""The command `python -m reszoo.report`."""

import argparse
import sys
import warnings

from reszoo.report.tracks import STYLES
from reszoo.report.write import FORMATS, UnreadableRunWarning, write_report, write_tracks


def main(arguments: list[str] | None = None) -> int:
    """Writes the report of the runs on the command line.

    Args:
        arguments: Arguments of the command; `None` takes those of the process.

    Returns:
        The exit status: 0 if every run has a report.
    """
    parser = argparse.ArgumentParser(
        prog="python -m reszoo.report",
        description="Writes a report of finished runs: a figure in each directory, and in the "
        "first a page with all runs and a table of their statistics.",
    )
    parser.add_argument(
        "workdir", nargs="+", help="directory of a training, or of a recorder's log"
    )
    parser.add_argument(
        "--format", choices=FORMATS, help="also write a figure of one step of all runs, "
        "gradient_flow_tracks, in this format",
    )  # fmt: skip
    parser.add_argument("--step", type=int, help="recorded step of that figure; the last if absent")
    parser.add_argument(
        "--style", choices=tuple(STYLES), help="width of that figure: 12, 7 or 3.3 inches; "
        "paper if absent",
    )  # fmt: skip
    options = parser.parse_args(arguments)
    if options.format is None and (options.step is not None or options.style is not None):
        parser.error(
            "--step and --style are of the figure that --format asks for: add --format=pdf."
        )
    workdirs = options.workdir
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            for path in write_report(workdirs):
                print(f"Wrote {path}")
            if options.format:
                style = options.style or "paper"
                print(f"Wrote {write_tracks(workdirs, options.format, options.step, style)}")
        except (ValueError, OSError) as error:
            print(f"reszoo.report: {error}", file=sys.stderr)
            return 1
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"reszoo.report: {text}", file=sys.stderr)
    return int(any(issubclass(each.category, UnreadableRunWarning) for each in caught))


if __name__ == "__main__":
    sys.exit(main())
