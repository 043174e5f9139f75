"""The command `python -m reszoo.report`."""

import argparse
import sys

from reszoo.report.write import write_report


def main(arguments: list[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: The command's arguments; those of the process if `None`.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(
        prog="python -m reszoo.report",
        description="Shows where the gradient went in finished runs: a picture in each directory, "
        "and in the first a page with all runs and a table of their numbers.",
    )
    parser.add_argument(
        "workdir", nargs="+", help="directory of a training, or of a recorder's log"
    )
    try:
        for path in write_report(parser.parse_args(arguments).workdir):
            print(f"Wrote {path}")
    except (ValueError, OSError) as error:
        print(f"reszoo.report: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
