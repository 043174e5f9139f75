"""The command `python -m reszoo.report`."""

import sys
import warnings

from reszoo.report.options import parse_options


def main(arguments: list[str] | None = None) -> int:
    """Writes the report of the runs on the command line.

    Args:
        arguments: Arguments of the command; `None` takes those of the process.

    Returns:
        The exit status: 0 if every run has a report.
    """
    options = parse_options(arguments)
    # Imported now, so that a wrong option is told at once.
    from reszoo.report.write import UnreadableRunWarning, report_files, tracks_files, write_files

    workdirs = options.workdir
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            figure = {}
            if options.format:
                style = options.style or "paper"
                figure = tracks_files(workdirs, options.format, options.step, style)
            for path in write_files({**report_files(workdirs), **figure}):
                print(f"Wrote {path}")
        except (ValueError, OSError) as error:
            print(f"reszoo.report: {error}", file=sys.stderr)
            return 1
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"reszoo.report: {text}", file=sys.stderr)
    return int(any(issubclass(each.category, UnreadableRunWarning) for each in caught))


if __name__ == "__main__":
    sys.exit(main())
