"""TensorBoard and a browser, as a person would start them."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def require_browser() -> str:
    """Returns the path of a browser; skips the test without one, and fails it on CI."""
    missing = None
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        missing = "Playwright is not installed: pip install 'reszoo[test]'"
    if path is None:
        missing = "there is no Chromium on PATH: apt-get install chromium"
    if missing and os.environ.get("CI") == "true":
        pytest.fail(f"CI has to run the browser tests, but {missing}")
    if missing:
        pytest.skip(missing)
    return path


@contextlib.contextmanager
def browser(path):
    """A headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # Chromium refuses its sandbox to root, which is who CI is.
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@contextlib.contextmanager
def tensorboard(log_dir, scratch, load_fast="auto"):
    """TensorBoard on loopback over a log; gives its address.

    The plugin is found by the entry point that setup.py declares, as if it were installed.
    """
    command = [sys.executable, "setup.py", "-q", "egg_info", "--egg-base", str(scratch)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(scratch)]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(log_dir)]
    command += ["--host", "127.0.0.1", "--port", "0", "--load_fast", load_fast]
    command += ["--reload_interval", "1"]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            found = re.search(r"http://127\.0\.0\.1:\d+/", line)
            if found:
                break
        else:
            pytest.fail("TensorBoard did not start:\n" + "".join(said))
        yield found[0]
    finally:
        process.terminate()
        process.communicate(timeout=30)
