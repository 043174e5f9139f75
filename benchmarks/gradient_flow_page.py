"""Latency of the Gradient Flow page: to its first picture, and from the slider to the drawing.

    python benchmarks/gradient_flow_page.py --blocks=100 --steps=10000 --rounds=9

The script writes a log with these numbers of blocks and recorded steps (the values are generated),
starts TensorBoard with it and opens the page in headless Chromium. The time to the first picture
starts when the page's frame opens; by then the server has read the log but has answered no request,
except for "again". The time from the slider ends when the browser has painted. The output has
medians and quartiles in milliseconds, and the share of the JavaScript alone.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from timing import quartiles

from reszoo.gradients.log import LogWriter
from reszoo.gradients.statistics import DEFAULT_SETS, statistics_of
from tests.integration.pages import browser, require_browser, tensorboard

MOVE = """async (slider) => {
  const times = [];
  for (let i = 0; i < 40; i += 1) {
    slider.value = Math.floor((i * 0.618 % 1) * slider.max);
    const start = performance.now();
    slider.dispatchEvent(new Event("input", {bubbles: true}));
    const scripted = performance.now() - start;
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
    times.push([performance.now() - start, scripted]);
  }
  return times;
}"""


def write_log(log_dir, blocks, steps):
    """Writes a log of numbers that change slowly, as those of a training do."""
    random = np.random.default_rng(0)
    statistics = statistics_of(DEFAULT_SETS)
    described = [
        {"name": f"stage{4 * i // blocks + 1}_block{i + 1}", "shortcut": "identity", "strides": 1}
        for i in range(blocks)
    ]
    writer = LogWriter(log_dir, described, [statistic.name for statistic in statistics], 0)
    logarithms = random.normal(size=(blocks, len(statistics)))
    bounded = [statistic.unit.startswith("none, ") for statistic in statistics]
    for step in range(steps):
        logarithms += 0.02 * random.normal(size=logarithms.shape)
        values = np.exp(logarithms)
        values[:, bounded] = 1 / (1 + values[:, bounded])
        writer.write(step, values, {})
    writer.close()


def first_picture(chromium, address):
    """Opens the page again; returns milliseconds to the first picture, and the page."""
    page = chromium.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(120_000)
    page.goto(f"{address}#gradient_flow")
    root = page.frame_locator("iframe").locator(".gf[data-step]")
    root.wait_for()
    return float(root.get_attribute("data-drawn-ms")), page


def wait_until_read(chromium, address, steps):
    """Waits until TensorBoard has read the whole log; asks only its list of runs."""
    page = chromium.new_page()
    for _ in range(600):
        runs = page.request.get(f"{address}data/plugin/gradient_flow/runs").json()["runs"]
        if runs and runs[0]["last_step"] == steps - 1:
            return page.close()
        time.sleep(0.2)
    raise SystemExit("TensorBoard did not read the log within two minutes.")


def main():
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=100)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--load_fast", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as log_dir, tempfile.TemporaryDirectory() as entry:
        write_log(f"{log_dir}/run", options.blocks, options.steps)
        with (
            tensorboard(log_dir, entry, options.load_fast) as address,
            browser(require_browser()) as chromium,
        ):
            wait_until_read(chromium, address, options.steps)
            first, page = first_picture(chromium, address)
            moves = []
            again = []
            for _ in range(options.rounds):
                page.close()
                milliseconds, page = first_picture(chromium, address)
                again.append(milliseconds)
                slider = page.frame_locator("iframe").locator("input[aria-label=Step]")
                moves += slider.evaluate(MOVE)
    print(f"{options.blocks} blocks, {options.steps} recorded steps; milliseconds")
    print(f"{'first picture, first time':34} {first:8.1f}")
    for name, milliseconds in (
        ("first picture, again", again),
        ("slider to drawing", [painted for painted, _ in moves]),
        ("slider to drawing, the script", [scripted for _, scripted in moves]),
    ):
        print(f"{name:34} {quartiles(milliseconds, 1)}")


if __name__ == "__main__":
    main()
