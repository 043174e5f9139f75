"""Timing shared by the benchmarks: interleaved rounds, their quartiles and ratios, peak memory."""

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
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
) -> None:
    """Prints a line for each name: quartiles of its seconds, and their ratio to its baseline."""
    heads = "".join(f"{f'{clock} s':>27}{'ratio':>8}" for clock in CLOCKS)
    print(f"{title:14}{heads}")
    for name, rows in seconds.items():
        cells = "".join(
            f"{quartiles(rows[:, column], 4):>27}"
            f"{ratio(rows, seconds[baselines[name]], column):8.3f}"
            for column in range(len(CLOCKS))
        )
        print(f"{name:14}{cells}  {(notes or {}).get(name, '')}".rstrip(), flush=True)


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
    """Returns the processor, its widest vectors, whether oneDNN is on, and the versions.

    TensorFlow's oneDNN kernels are on by default on some processors and off on others, so that a
    speed holds for one of the two only; `TF_ENABLE_ONEDNN_OPTS=0` or `1` chooses.
    """
    import keras
    import tensorflow as tf

    information = Path("/proc/cpuinfo").read_text()
    name = re.search(r"model name\s*: (.+)", information)
    flags = re.search(r"flags\s*: (.+)", information)
    kinds = ("avx512_bf16", "avx512_vnni", "avx512f", "avx2")
    vectors = next((kind for kind in kinds if flags and kind in flags[1].split()), "no AVX2")
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "TensorFlow's default")
    return (
        f"{name[1] if name else 'unknown processor'} ({vectors}), {os.cpu_count()} cores, load "
        f"{os.getloadavg()[0]:.1f}, oneDNN: {onednn}, TensorFlow {tf.__version__}, Keras "
        f"{keras.__version__}"
    )
