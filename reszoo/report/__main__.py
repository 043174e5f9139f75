"""The command `python -m reszoo.report`."""

import argparse
import sys
import warnings

from reszoo.report.write import UnreadableRunWarning, write_report


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
    workdirs = parser.parse_args(arguments).workdir
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            for path in write_report(workdirs):
                print(f"Wrote {path}")
        except (ValueError, OSError) as error:
            print(f"reszoo.report: {error}", file=sys.stderr)
            return 1
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"reszoo.report: {text}", file=sys.stderr)
    return int(any(issubclass(each.category, UnreadableRunWarning) for each in caught))


if __name__ == "__main__":
    sys.exit(main())
