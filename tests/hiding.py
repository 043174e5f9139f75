"""Packages that a process cannot find, as where they are not installed."""

import os
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

ROOT = Path(__file__).parents[1]


def hide(*packages):
    class Finder(PathFinder):
        @classmethod
        def find_spec(cls, fullname, path=None, target=None):
            if fullname.split(".")[0] in packages:
                return None
            return PathFinder.find_spec(fullname, path, target)

    sys.meta_path = [Finder if each is PathFinder else each for each in sys.meta_path]


def run_without(packages, code, *arguments, **environment):
    """Runs Python code in a process of its own, which cannot find some packages."""
    code = f"from tests.hiding import hide\nhide(*{packages})\n{code}"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
