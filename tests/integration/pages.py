"""TensorBoard and a browser, as a person would start them."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def browser_path() -> str:
    """Returns the path of a browser that Playwright can drive; raises a LookupError without one."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        raise LookupError("Playwright is not installed: pip install 'reszoo[test]'") from None
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        raise LookupError("there is no Chromium on PATH: apt-get install chromium")
    return path


def require_browser() -> str:
    """Returns the path of a browser; skips the test without one, and fails it on CI."""
    try:
        return browser_path()
    except LookupError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"CI has to run the browser tests, but {error}")
        pytest.skip(str(error))


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


class Page:
    """The page in a tab, with everything that went wrong on it."""

    def __init__(self, tab):
        self.tab = tab
        self.errors = []
        tab.on("console", self._hear)
        tab.on("pageerror", lambda error: self.errors.append(str(error)))
        tab.on("requestfailed", lambda request: self.errors.append(f"failed: {request.url}"))
        tab.on("dialog", lambda dialog: self.errors.append(f"dialog: {dialog.message}"))
        tab.on("response", self._see)
        self.frame = tab

    def _hear(self, message):
        # The browser asks for an icon of the bare page; TensorBoard's own page names one.
        if message.location.get("url", "").endswith("/favicon.ico"):
            return
        if message.type == "error" or "Content Security" in message.text:
            self.errors.append(message.text)

    def _see(self, response):
        if response.status >= 400:
            self.errors.append(f"{response.status}: {response.url}")

    def open(self, address, in_tensorboard=False, **state):
        """Opens the page with some state in the address.

        By itself it is there sooner; in TensorBoard it is a frame, and the address the one above.
        """
        self.frame = self.tab.frame_locator("iframe") if in_tensorboard else self.tab
        route = "" if in_tensorboard else "data/plugin_entry.html?name=gradient_flow"
        self.tab.goto("about:blank")
        self.tab.goto(f"{address}{route}#" + "&".join(["gradient_flow", *_parameters(state)]))
        return self.wait()

    def wait(self):
        self.frame.locator(".gf[data-step]").wait_for()
        return self

    def find(self, selector):
        return self.frame.locator(selector)

    def step(self):
        return int(self.find(".gf").get_attribute("data-step"))

    def wait_for_step(self, step):
        self.find(f'.gf[data-step="{step}"]').wait_for()

    def open_file(self, path, **state):
        """Opens a report, which is no frame of TensorBoard's."""
        self.requests = []
        self.tab.on("request", lambda request: self.requests.append(request.url))
        self.frame = self.tab
        self.tab.goto("about:blank")  # or another address of the same file would not be loaded
        self.tab.goto(path.as_uri() + (f"#{'&'.join(_parameters(state))}" if state else ""))
        return self.wait()

    def shapes(self):
        """The outlines of all ribbons as drawn."""
        return self.find(".gf-ribbon[d]").evaluate_all("all => all.map(e => e.getAttribute('d'))")

    def colors(self):
        return self.find(".gf-block .gf-ribbon").evaluate_all("all => all.map(e => e.style.fill)")

    def cells(self, order=0):
        """The pixels of a heatmap."""
        return self.find(".gf-cells").nth(order).evaluate("canvas => canvas.toDataURL()")

    def picture(self, name):
        folder = os.environ.get("RESZOO_SCREENSHOTS")
        if folder:
            Path(folder).mkdir(parents=True, exist_ok=True)
        self.tab.screenshot(path=Path(folder) / name if folder else None)


def _parameters(state):
    texts = {
        name: json.dumps(value) if isinstance(value, list) else str(value)
        for name, value in state.items()
    }
    return [f"p.gradient_flow.{name}={urllib.parse.quote(text)}" for name, text in texts.items()]
