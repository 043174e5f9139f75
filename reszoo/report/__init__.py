"""Reports of finished runs: `python -m reszoo.report WORKDIR [WORKDIR ...]`.

- `page`: the Gradient Flow page as one HTML file, or in a notebook
- `figure`: the figure of a run, for a paper
- `write`: all files of a report
- `options`: options of the command
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reszoo.report.page import show as show
    from reszoo.report.write import write_report as write_report

# Imported when first used, so that the command tells a wrong option at once.
_ROOMS = {"show": "page", "write_report": "write"}


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return getattr(importlib.import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
