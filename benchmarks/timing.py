"""Measuring shared by the benchmarks: interleaved rounds, quartiles, ratios, tables, memory."""

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

# Columns of the measured seconds.
CLOCKS = ("CPU", "wall")


def seconds_of(run: Callable[[], object]) -> tuple[float, float]:
    """Returns the CPU and the wall seconds of one call."""
    cpu, wall = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - wall


def interleaved(
    runs: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 2
) -> dict[str, np.ndarray]:
    """Returns the seconds of each round, of shape `(rounds, 2)`, by name.

    Every round runs each function once, in a new random order, so that a machine that slows down
    affects all of them.
    """
    for run in runs.values():
        for _ in range(warmup):
            run()
    seconds = {name: [] for name in runs}
    shuffled = random.Random(0)
    for _ in range(rounds):
        for name in shuffled.sample(list(runs), len(runs)):
            seconds[name].append(seconds_of(runs[name]))
    return {name: np.array(rows) for name, rows in seconds.items()}


def quartiles(values: Sequence[float], digits: int) -> str:
    """Returns the median, with the quartiles in parentheses."""
    low, median, high = np.percentile(values, [25, 50, 75])
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def ratio(rows: np.ndarray, baseline: np.ndarray, column: int) -> float:
    """Returns the median over the rounds of the ratio to the baseline in the same round."""
    return float(np.median(rows[:, column] / baseline[:, column]))


def print_table(
    title: str,
    seconds: Mapping[str, np.ndarray],
    baselines: Mapping[str, str],
    notes: Mapping[str, str] | None = None,
    columns: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Prints a Markdown table: quartiles of the seconds of each name, and ratios to its baseline.

    Args:
        title: Head of the first column.
        seconds: Seconds of each round, of shape `(rounds, 2)`, by name.
        baselines: The name of each name's baseline.
        notes: A text for some names, in the last column.
        columns: Further columns by their heads: a text for each name.
    """
    heads = [title, *(head for clock in CLOCKS for head in (f"{clock} s", "ratio"))]
    columns = {**(columns or {}), **({"": notes} if notes else {})}
    rows = [[*heads, *columns]]
    for name, own in seconds.items():
        cells = [name]
        for column in range(len(CLOCKS)):
            to_baseline = ratio(own, seconds[baselines[name]], column)
            cells += [quartiles(own[:, column], 4), f"{to_baseline:.3f}"]
        rows.append([*cells, *(texts.get(name, "") for texts in columns.values())])
    print(markdown_table(rows), flush=True)


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    """Returns a table in Markdown that is also aligned as text.

    Args:
        rows: The head and the rows, all of one length.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows = [rows[0], ["-" * width for width in widths], *rows[1:]]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    )


def own_peak_memory() -> float:
    """Returns this process's peak memory in MiB (`ru_maxrss` would count the parent's as well)."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def peak_memory(script: str, arguments: Sequence[str], processes: int = 3) -> float:
    """Returns the median peak memory, in MiB, of processes whose last word is `own_peak_memory()`.

    With GNU's C library, freed tensors are returned to the system at once; by default the memory
    that it keeps differs by several per cent between processes.
    """
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(2**17)}
    command, peaks = [sys.executable, script, *arguments], []
    for _ in range(processes):
        finished = subprocess.run(
            command, check=True, capture_output=True, text=True, env=environment
        )
        peaks.append(float(finished.stdout.split()[-1]))
    return float(np.median(peaks))


def machine() -> str:
    """Returns the processor, its widest vectors, its load, the versions, and whether oneDNN is on.

    TensorFlow's oneDNN kernels are on by default on some processors and off on others, so that a
    speed holds for one of the two only; `TF_ENABLE_ONEDNN_OPTS=0` or `1` chooses.
    """
    import keras

    information = Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.+)", information)
    flags = re.search(r"flags\s*: (.+)", information)
    kinds = ("avx512_bf16", "avx512_vnni", "avx512f", "avx2")
    vectors = next((kind for kind in kinds if flags and kind in flags[1].split()), "no AVX2")
    backend, threads = keras.backend.backend(), os.environ.get("OMP_NUM_THREADS")
    return (
        f"{name[1] if name else 'unknown processor'} ({vectors}), {os.cpu_count()} cores, "
        f"{f'OMP_NUM_THREADS={threads}, ' if threads else ''}load "
        f"{os.getloadavg()[0]:.1f}, Keras {keras.__version__}, {backend} {version(backend)}"
        f"{onednn_state() if backend == 'tensorflow' else ''}"
    )


def onednn_state() -> str:
    """Returns whether TensorFlow uses its oneDNN kernels in this process."""
    # TensorFlow has no public function for it.
    from tensorflow.python.util import _pywrap_util_port

    chosen = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    by = "by default" if chosen is None else f"by TF_ENABLE_ONEDNN_OPTS={chosen}"
    return f", oneDNN {'on' if _pywrap_util_port.IsMklEnabled() else 'off'} {by}"
