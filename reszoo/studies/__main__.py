"""The command `python -m reszoo.studies`."""

import argparse
import difflib
import os
import sys
from pathlib import Path

COMMANDS = ("list", "all", "write-docs")


def main(arguments: list[str] | None = None) -> int:
    """Lists studies, runs them, or writes the document.

    Args:
        arguments: Arguments of the command; `None` takes those of the process.

    Returns:
        The exit status: 0 if all went well.
    """
    options = _parser().parse_args(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        if options.names == ["list"]:
            return _list(options.scale)
        if options.names == ["write-docs"]:
            return _write_docs(options)
        return _run(options)
    except (ValueError, OSError) as error:
        print(f"reszoo.studies: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("reszoo.studies: stopped; run the same command again to go on.", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m reszoo.studies",
        description="Studies of gradients in residual networks. The same command resumes what was "
        "stopped.",
    )
    parser.add_argument(
        "names", nargs="+", metavar="NAME", help="list, all, write-docs, or names of studies"
    )
    parser.add_argument("--workdir", type=Path, help="directory of the results")
    parser.add_argument(
        "--scale",
        choices=("smoke", "small", "paper"),
        default="small",
        help="smoke: 2 minutes; small: up to 90 minutes on two cores, what docs/answers.md shows; "
        "paper: the published setting, for GPUs",
    )
    parser.add_argument(
        "--processes", type=int, help="cells at a time; default: one a core, for paper one"
    )
    parser.add_argument(
        "--docs", type=Path, default=Path("docs"), help="directory that write-docs writes to"
    )
    return parser


def _list(scale: str) -> int:
    from reszoo.studies.catalog import STUDIES

    for study in STUDIES.values():
        cells = study.cells(scale)
        cost = sum(cell.cost for cell in cells)
        about = f"question {study.question}, {len(cells)} cells, {_duration(cost)} on one core"
        print(f"{study.name:24} {study.title} ({about})")
    return 0


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def _write_docs(options: argparse.Namespace) -> int:
    from reszoo.studies.answers import write_docs

    for path in write_docs(options.docs, options.workdir, options.scale):
        print(f"Wrote {path}")
    return 0


def _run(options: argparse.Namespace) -> int:
    from reszoo.studies.driver import Driver, available_cores

    studies = _studies(options.names)
    if options.workdir is None:
        raise ValueError("--workdir must be given, the directory of the results.")
    if options.processes is not None and options.processes < 1:
        raise ValueError(f"--processes must be at least 1, but got {options.processes}.")
    processes = options.processes or (1 if options.scale == "paper" else available_cores())
    driver = Driver(options.workdir, options.scale, processes)
    failures = driver.run(studies)
    for failure in failures:
        print(f"Not measured: {failure.study}, {failure.cell}: {failure.reason}", file=sys.stderr)
    print(f"The tables and figures are in {driver.workdir / driver.scale}.")
    return 1 if failures else 0


def _studies(names: list[str]) -> list:
    from reszoo.studies.catalog import STUDIES

    if names == ["all"]:
        return list(STUDIES.values())
    for name in names:
        if name in COMMANDS:
            raise ValueError(f"{name!r} must stand alone, but got {' '.join(names)}.")
        if name not in STUDIES:
            near = difflib.get_close_matches(name, [*STUDIES, *COMMANDS]) or list(STUDIES)
            raise ValueError(f"There is no study {name!r}. Did you mean {', '.join(near)}?")
    return [STUDIES[name] for name in dict.fromkeys(names)]


if __name__ == "__main__":
    sys.exit(main())
