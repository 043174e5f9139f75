"""Configuration files, and the fields that the command line sets."""

import difflib
import importlib.util
import inspect
import sys
import textwrap
import traceback
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from reszoo.ranges import Several, shown
from reszoo.training.config import FIELDS, check_name, checked, checked_without_keras


def read_config(source: str, assignments: Iterable[tuple[str, str]] = ()) -> ConfigDict:
    """Returns the configuration that a file describes, complete and checked.

    Args:
        source: A Python file with a function `get_config()` that returns a `ConfigDict`, or the
            name of a recipe, such as `"digits_resnet18"`; after a colon, the argument of that
            function.
        assignments: Names of fields, with their new values as texts. Several values of one field
            make a tuple where the field takes one.

    Raises:
        ValueError: If the file or a field is faulty; the text names the file and the line.

    Example:

    >>> read_config("cifar10_resnet:56", [("epochs", "3")]).epochs
    3
    """
    return _read_config(source, assignments, checked)


def read_config_without_keras(
    source: str, assignments: Iterable[tuple[str, str]] = ()
) -> ConfigDict:
    """Returns a configuration as `read_config` does, but for the checks that need Keras.

    Args:
        source: The file or recipe, as for `read_config`.
        assignments: Names of fields, with their new values as texts.

    Raises:
        ValueError: If the file or a field is faulty; the text names the file and the line.
    """
    return _read_config(source, assignments, checked_without_keras)


def _read_config(
    source: str,
    assignments: Iterable[tuple[str, str]],
    check: Callable[[ConfigDict], ConfigDict],
) -> ConfigDict:
    path, argument = _split(source)
    config = _returned(path, source, argument)
    fields = {}
    for name, text in assignments:
        fields[name] = _assigned(name, text, fields.get(name, ()))
    try:
        return check(_changed(config, fields))
    except ValueError as error:
        given = [f"--config.{name}" for name in fields if str(error).startswith(f"{name} must")]
        where = given[0] if given else path
        raise ValueError(f"{where}: {error}") from error


def _split(source: str) -> tuple[Path, str | None]:
    try:
        if Path(source).is_file():
            return Path(source), None
    except (OSError, ValueError) as error:  # the name is not possible in the file system
        raise ValueError(
            f"There can be no configuration file {shown(source)} ({error})."
        ) from error
    path, colon, argument = source.partition(":")
    return recipes().get(path, Path(path)), argument if colon else None


def recipes() -> dict[str, Path]:
    """Returns the files of the configurations that come with the package, by name.

    Example:

    >>> recipes()["digits_resnet18"].name
    'digits_resnet18.py'
    """
    installed = importlib.util.find_spec("reszoo.configs")
    places = installed.submodule_search_locations if installed else None
    directory = Path(next(iter(places))) if places else Path(__file__).parents[2] / "configs"
    return {file.stem: file for file in sorted(directory.glob("*.py"))}


def _returned(path: Path, source: str, argument: str | None) -> ConfigDict:
    """Returns the configuration that `get_config` of a file returns."""
    function = _function(path)
    arguments = [] if argument is None else [argument]
    if not _takes(function, arguments):
        raise ValueError(_misfit(path, source, argument))
    config = _attempt(path, lambda: function(*arguments))
    if not isinstance(config, ConfigDict):
        raise ValueError(
            f"{path}: get_config() must return an ml_collections.ConfigDict, but returned "
            f"{shown(config)}. {_mend_returned(config)}"
        )
    return config


def _takes(function: Callable, arguments: Sequence[str]) -> bool:
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:  # some built-in functions have no signature
        return True
    return True


def _mend_returned(config: Any) -> str:
    if config is None:
        return "Is there a `return config` at its end?"
    return "Return ConfigDict(...) of a dictionary with the fields."


def _misfit(path: Path, source: str, argument: str | None) -> str:
    if argument is None:
        return (
            f"{path}: get_config() must be given an argument; it follows a colon: "
            f"--config={source}:ARGUMENT."
        )
    return (
        f"{path}: get_config() takes no argument of the command line, but got {argument!r}. Give "
        f"--config={path}."
    )


def _function(path: Path) -> Callable:
    """Runs a file, and returns its `get_config`."""
    source = _content(path)
    module = types.ModuleType("reszoo_configuration")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look up their module there
    code = _attempt(path, lambda: compile(source, str(path), "exec", dont_inherit=True))
    _attempt(path, lambda: exec(code, module.__dict__))
    function = getattr(module, "get_config", None)
    if not callable(function):
        raise ValueError(
            f"{path} must have a function get_config() that returns an ml_collections.ConfigDict, "
            "as configs/digits_resnet18.py has."
        )
    return function


def _content(path: Path) -> bytes:
    if path.is_dir():
        raise ValueError(f"{path} must be a Python file, but is a directory.{_files_in(path)}")
    if not path.exists():
        raise ValueError(f"There is no configuration file {path}.{_near(path)}")
    if path.suffix != ".py" or not path.is_file():
        raise ValueError(
            f"A configuration must be a Python file, whose name ends in .py, but got {path}."
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror}).") from error


def _files_in(directory: Path) -> str:
    files = [str(directory / name) for name in _names_in(directory)]
    return f" Give one of {', '.join(files)}." if files else ""


def _near(path: Path) -> str:
    names = _names_in(path.parent) if path.parent.is_dir() else []
    near = [path.parent / name for name in difflib.get_close_matches(path.name, names)]
    if str(path) == path.stem:
        near += difflib.get_close_matches(path.stem, recipes())
    return f" Did you mean {' or '.join(map(str, near))}?" if near else ""


def _names_in(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.glob("*.py") if file.is_file())


def _attempt(path: Path, call: Callable[[], Any]) -> Any:
    """Calls a part of a configuration file; errors name the file and the line."""
    try:
        return call()
    except (Exception, SystemExit) as error:
        raise ValueError(f"{path}{_line(path, error)}: {_reason(path, error)}") from error


def _line(path: Path, error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno}" if error.lineno else ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""


def _reason(path: Path, error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return "it ends the program; a configuration must return instead."
    text = _first_line(error)
    if isinstance(error, SyntaxError):
        elsewhere = error.filename not in (str(path), None)
        place = f" in {error.filename}, line {error.lineno}" if elsewhere else ""
        return f"not valid Python{place} ({error.msg}). Mend that."
    if isinstance(error, ModuleNotFoundError):
        return f"{text}. Install it, or leave out what needs it."
    return f"{type(error).__name__}{f': {text}' if text else ''}"


def _first_line(error: BaseException) -> str:
    try:
        lines = str(error).strip().splitlines()
    except Exception:  # the __str__ of a foreign class may raise anything
        return ""
    return textwrap.shorten(lines[0], 300, placeholder=" ...") if lines else ""


def _assigned(name: str, text: str, before: tuple) -> Any:
    check_name(name, text)
    values = FIELDS[name].values
    value = values.parse(text)
    return (*before, *value) if isinstance(values, Several) else value


def _changed(config: ConfigDict, fields: Mapping[str, Any]) -> ConfigDict:
    """Returns a configuration with other values, which may have other types."""
    changed = config.to_dict() if fields else None
    if changed is None:
        return config
    for name, value in fields.items():
        *sections, field = name.split(".")
        inner = changed
        for section in sections:
            inner = inner.setdefault(section, {}) if isinstance(inner, dict) else None
        if isinstance(inner, dict):  # otherwise the check reports it
            inner[field] = value
    return ConfigDict(changed)
