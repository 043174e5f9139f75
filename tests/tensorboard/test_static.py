"""The built page comes from the sources beside it, and from nothing else."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOM = Path(__file__).parents[2] / "reszoo" / "tensorboard"
FRONTEND, STATIC = ROOM / "frontend", ROOM / "static"


def test_a_build_from_the_sources_gives_the_same_bytes(tmp_path):
    if shutil.which("npm") is None:
        assert os.environ.get("CI") != "true", "CI has to build the page, but there is no npm"
        pytest.skip("there is no npm on PATH: apt-get install nodejs npm")
    frontend = tmp_path / "frontend"
    shutil.copytree(FRONTEND, frontend, ignore=shutil.ignore_patterns("node_modules"))
    built = tmp_path / "static"
    built.mkdir()
    install = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    subprocess.run(install, cwd=frontend, check=True, capture_output=True)
    subprocess.run(["node", "build.mjs", built], cwd=frontend, check=True, capture_output=True)
    assert sorted(path.name for path in built.iterdir()) == ["LICENSES.txt", "index.js"]
    for path in built.iterdir():
        assert path.read_bytes() == (STATIC / path.name).read_bytes(), (
            f"{path.name} is not what its sources give; run npm ci && npm run build in {FRONTEND}"
        )


def test_every_bundled_library_has_its_licence():
    licences = (STATIC / "LICENSES.txt").read_text()
    for name in ("uplot", "d3-scale", "d3-scale-chromatic", "d3-format", "d3-interpolate"):
        assert re.search(rf"^{name} \S+ \((ISC|MIT)\)$", licences, re.MULTILINE)


def test_the_lock_file_names_versions_and_checksums_but_no_registry():
    lock = (FRONTEND / "package-lock.json").read_text()
    assert '"integrity": "sha512-' in lock
    assert "resolved" not in lock
    assert "registry" not in lock


def test_the_page_can_stand_inside_a_report():
    page = (STATIC / "index.js").read_text()
    assert page.isascii()
    assert "</script" not in page
    assert "<!--" not in page
