"""Errors in the flags of a command line."""

import difflib
import re

from absl import flags

from reszoo.training.config import FIELDS

_REFUSED = re.compile(r"flag --(\w+)=(.*?): (.*)", flags=re.DOTALL)
_WITHOUT_VALUE = re.compile("Missing value for flag --?(.*)")


def in_a_sentence(error: Exception) -> str:
    """Returns absl's error about a flag in the form that all other errors have.

    Args:
        error: An error that absl raised.

    Example:

    >>> in_a_sentence(flags.UnrecognizedFlagError("epochs"))
    'there is no option --epochs. Did you mean --config.epochs?'
    """
    if isinstance(error, flags.UnrecognizedFlagError):
        return f"there is no option --{error.flagname}.{_instead_of(error.flagname)}"
    if refused := _REFUSED.fullmatch(str(error)):
        name, value, reason = refused.groups()
        return f"--{name} must be {_allowed(name) or reason}, but got {value!r}."
    if missing := _WITHOUT_VALUE.fullmatch(str(error)):
        allowed = _allowed(missing[1])
        return f"--{missing[1]} must have a value{f': {allowed}' if allowed else ''}."
    return str(error).removeprefix("ERROR:: ")


def _instead_of(name: str) -> str:
    if name in FIELDS:
        return f" Did you mean --config.{name}?"
    near = difflib.get_close_matches(name, [*flags.FLAGS, *FIELDS])
    options = [f"--config.{each}" if each in FIELDS else f"--{each}" for each in near]
    return f" Did you mean {' or '.join(options)}?" if near else " See --help."


def _allowed(name: str) -> str:
    parser = flags.FLAGS[name].parser if name in flags.FLAGS else None
    if isinstance(parser, flags.EnumParser):
        return ", ".join(parser.enum_values[:-1]) + f" or {parser.enum_values[-1]}"
    if isinstance(parser, flags.BooleanParser):
        return "true or false"
    return "a whole number" if isinstance(parser, flags.IntegerParser) else ""
