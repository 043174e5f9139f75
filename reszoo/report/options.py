"""Options of the command `python -m reszoo.report`, checked before anything is read."""

import argparse
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

FORMATS = ("pdf", "svg", "png")
STYLES = ("column", "paper", "screen")
_CHOICES = {"--format": FORMATS, "--style": STYLES}
_WITHOUT_VALUE = re.compile("argument (--[a-z]+): expected one argument")
_UNKNOWN = re.compile("unrecognized arguments: (.*)")


def parse_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Returns the options of the command; ends it with one sentence if one of them is wrong.

    Args:
        arguments: Arguments of the command; `None` takes those of the process.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if "" in options.workdir:
        parser.error("a directory must have a name, but got ''. Write . for the present one.")
    for flag, choices in _CHOICES.items():
        value = getattr(options, flag.removeprefix("--"))
        if value is not None and value not in choices:
            parser.error(f"{flag} must be {_one_of(choices)}, but got {value!r}.")
    if options.step is not None:
        if not (options.step.isascii() and options.step.isdigit()):
            parser.error(f"--step must be a whole number of at least 0, but got {options.step!r}.")
        options.step = int(options.step)
    if options.format is None and (options.step is not None or options.style is not None):
        parser.error(
            "--step and --style are of the figure that --format asks for: add --format=pdf."
        )
    return options


class _Once(argparse.Action):
    """Option that may be given once."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        before = getattr(namespace, self.dest)
        if before is not None:
            parser.error(f"{option_string} must be given once, but got {before!r} and {values!r}.")
        setattr(namespace, self.dest, values)


class _Parser(argparse.ArgumentParser):
    """Parser whose errors are sentences."""

    def error(self, message: str) -> NoReturn:
        print(f"reszoo.report: {_in_a_sentence(message)}", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m reszoo.report",
        description="Writes a report of finished runs: a figure in each directory, and in the "
        "first a page with all runs and a table of their statistics.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "workdir", nargs="+", help="directory of a training, or of a recorder's log"
    )
    parser.add_argument(
        "--format", action=_Once, metavar=_braced(FORMATS), help="also write a figure of one "
        "step of all runs, gradient_flow_tracks, in this format",
    )  # fmt: skip
    parser.add_argument(
        "--step", action=_Once, help="recorded step of that figure; the last if absent"
    )
    parser.add_argument(
        "--style", action=_Once, metavar=_braced(STYLES), help="width of that figure: 3.3, 7 or "
        "12 inches; paper if absent",
    )  # fmt: skip
    return parser


def _in_a_sentence(message: str) -> str:
    """Returns an error of argparse in the form that all other errors have."""
    if without := _WITHOUT_VALUE.fullmatch(message):
        choices = _CHOICES.get(without[1])
        return f"{without[1]} must have a value: {_one_of(choices) if choices else 'a number'}."
    if unknown := _UNKNOWN.fullmatch(message):
        return f"there is no option {unknown[1].split()[0].split('=')[0]}. See --help."
    if message.endswith("required: workdir"):
        return "give the directory of at least one run."
    return message


def _one_of(choices: Sequence[str]) -> str:
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


def _braced(choices: Sequence[str]) -> str:
    return "{" + ",".join(choices) + "}"
