"""Question 5: why x is passed along, rather than computed back from the output.

Varies how reversible blocks (Gomez et al. 2017) keep activations for the backward pass: stored,
each block's computed again from its stored input (`keras.remat`), or its input inverted from its
output, `x = y - f(y)`. Measures the memory of a training step against the number of blocks, its
time, and the error of the inverted input against the number of blocks, in several precisions and
with larger weights.
"""

import math
import os
import random
import re
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reszoo.layers import BasicBranch, ReversibleBlock, ReversibleChain
from reszoo.studies.drawing import KINDS, MARKERS, panels
from reszoo.studies.rows import rows_where
from reszoo.studies.step_memory import WAYS, network, step_memory, training_step
from reszoo.studies.study import Answer, Cell, Parameters, Row, Study

DTYPES = ("float64", "float32", "mixed_bfloat16")
# Factor of the scale of each branch's last normalization.
FACTORS = (1.0, 4.0, 16.0)
# Size of each scale: numbers of blocks, channels, pixels, examples; rounds of timing; seeds.
SIZES = {
    "smoke": ((1, 2), 4, 8, 16, 2, 1),
    "small": ((4, 8, 16, 32), 16, 16, 128, 10, 3),
    "paper": ((4, 8, 16, 32, 64), 64, 32, 128, 20, 5),
}


def cells(scale: str) -> list[Cell]:
    """Returns a cell for each measurement of memory, of time and of the inverted input."""
    numbers, channels, pixels, examples, rounds, seeds = SIZES[scale]
    sizes = {"channels": channels, "pixels": pixels, "examples": examples}
    memory = [
        Cell({"measured": "memory", "way": way, "blocks": blocks} | sizes, 10.0 + blocks)
        for way in WAYS
        for blocks in numbers
    ]
    blocks = numbers[len(numbers) // 2]
    timing = Cell({"measured": "time", "blocks": blocks, "rounds": rounds} | sizes, 60.0, True)
    drift = [
        Cell(
            {"measured": "drift", "dtype": dtype, "factor": factor, "seed": seed}
            | sizes
            | {"examples": min(examples, 32), "blocks": numbers[-1]},
            cost=5.0,
        )
        for dtype in DTYPES
        for factor in FACTORS
        for seed in range(seeds)
    ]
    return [*memory, timing, *drift]


def measure(parameters: Parameters, folder: Path) -> list[Row]:
    """Returns a row of memory, a row of time for each way, or a row of error for each block."""
    return MEASURES[parameters["measured"]](parameters)


def measure_memory(parameters: Parameters) -> list[Row]:
    """Returns the memory of a step in MiB."""
    sizes = [parameters[name] for name in ("blocks", "channels", "pixels", "examples")]
    return [{"memory": step_memory(parameters["way"], *sizes)}]


def measure_time(parameters: Parameters) -> list[Row]:
    """Returns the seconds of a step in each way, each round in a new order."""
    pixels, channels = parameters["pixels"], parameters["channels"]
    shape = (pixels, pixels, channels)
    x = tf.random.normal((parameters["examples"], *shape))
    networks = {way: network(way, parameters["blocks"], channels) for way in WAYS}
    steps = {way: training_step(layer, shape) for way, layer in networks.items()}
    weights = networks["stored"].trainable_variables
    known = {"parameters": sum(math.prod(w.shape) for w in weights), "machine": machine()}
    for step in steps.values():
        step(x).numpy()
    order, rows = random.Random(0), []
    for number in range(parameters["rounds"]):
        for way in order.sample(WAYS, len(WAYS)):
            start = time.perf_counter()
            steps[way](x).numpy()
            seconds = time.perf_counter() - start
            rows.append({"way": way, "round": number, "seconds": seconds} | known)
    return rows


def machine() -> str:
    """Returns the processor's name and whether TensorFlow's oneDNN kernels are on."""
    try:
        name = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
    except OSError:
        name = None
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "TensorFlow's default")
    return f"{name[1] if name else 'unknown processor'}, oneDNN: {onednn}"


def measure_drift(parameters: Parameters) -> list[Row]:
    """Returns the relative error of each block's inverted input, from the last to the first."""
    keras.utils.set_random_seed(parameters["seed"])
    chain = _chain(parameters)
    shape = (parameters["examples"], parameters["pixels"], parameters["pixels"])
    x = np.random.default_rng(parameters["seed"]).normal(size=(*shape, parameters["channels"]))
    inputs = [keras.ops.convert_to_tensor(x, chain.compute_dtype)]
    for block in chain.layers:
        inputs.append(block(inputs[-1], training=True))
    y, rows = inputs.pop(), []
    for number, (block, x) in enumerate(zip(chain.layers[::-1], inputs[::-1], strict=True), 1):
        y = block.inverse(y, training=True)
        rows.append({"inverted": number, "error": relative_error(y, x)})
    return rows


def relative_error(x: Any, exact: Any) -> float:
    """Returns the norm of the difference of two tensors, relative to that of the second.

    Args:
        x: The tensor with the error.
        exact: The tensor that it should be.
    """
    x, exact = (keras.ops.convert_to_numpy(keras.ops.cast(v, "float64")) for v in (x, exact))
    return float(np.linalg.norm(x - exact) / np.linalg.norm(exact))


def _chain(parameters: Parameters) -> ReversibleChain:
    dtype, half = parameters["dtype"], parameters["channels"] // 2
    blocks = [
        ReversibleBlock(BasicBranch(half, dtype=dtype), BasicBranch(half, dtype=dtype), dtype=dtype)
        for _ in range(parameters["blocks"])
    ]
    chain = ReversibleChain(blocks, dtype=dtype)
    chain.build((None, None, None, 2 * half))
    for step in chain.steps:
        norm = step.branch.branch.layers[-1]
        norm.gamma.assign(parameters["factor"] * norm.gamma)
    return chain


MEASURES = {"memory": measure_memory, "time": measure_time, "drift": measure_drift}


def draw(table: pd.DataFrame) -> Figure:
    """Draws memory by blocks, time by way, and the error by the number of inverted blocks."""
    figure, [memory, seconds, drift] = panels(3)
    _draw_memory(memory, rows_where(table, measured="memory"))
    _draw_time(seconds, rows_where(table, measured="time"))
    _draw_drift(drift, rows_where(table, measured="drift"))
    return figure


def _draw_memory(axis: Axes, table: pd.DataFrame) -> None:
    for way, colour, marker in zip(WAYS, KINDS, MARKERS, strict=False):
        rows = rows_where(table, way=way).sort_values("blocks")
        axis.plot(rows.blocks, rows.memory, color=colour, marker=marker, label=way)
    axis.set_xlabel("blocks")
    axis.set_ylabel("memory of a step in MiB")
    axis.set_title("Inverted blocks keep one activation")
    axis.legend()


def _draw_time(axis: Axes, table: pd.DataFrame) -> None:
    axis.boxplot([rows_where(table, way=way).seconds for way in WAYS], tick_labels=WAYS)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("seconds of a step")
    axis.set_title("Each branch is computed twice")


def _draw_drift(axis: Axes, table: pd.DataFrame) -> None:
    styles = dict(zip(FACTORS, ("-", "--", ":"), strict=True))
    for dtype, colour in zip(DTYPES, KINDS, strict=False):
        for factor, style in styles.items():
            rows = rows_where(table, dtype=dtype, factor=factor)
            error = rows.groupby("inverted").error.median()
            axis.plot(error.index, error, color=colour, linestyle=style)
        axis.annotate(
            f"{dtype.removeprefix('mixed_')}, branches times 1, 4 (dashed), 16 (dotted)",
            (error.index[0], error.iloc[0]),
            xytext=(0, -12),
            textcoords="offset points",
            color=colour,
            fontsize=7,
        )
    axis.set_yscale("log")
    axis.margins(y=0.1)
    axis.set_xlabel("inverted blocks")
    axis.set_ylabel("relative error of the input")
    axis.set_title("What is computed back drifts")


def answer(table: pd.DataFrame) -> Answer:
    """Says what memory and time each way takes, and how large the error is."""
    memory, seconds = (rows_where(table, measured=what) for what in ("memory", "time"))
    growth = {way: _growth(rows_where(memory, way=way)) for way in WAYS}
    ratio = {way: _ratio(seconds, way) for way in WAYS}
    deepest = rows_where(memory, blocks=memory.blocks.max())
    rows = [
        {
            "activations": way,
            f"MiB with {deepest.blocks.max():.0f} blocks": f"{of_way.memory.iloc[0]:.0f}",
            "MiB more for each block": f"{growth[way]:.2f}",
            "time of a step beside stored": f"{ratio[way]:.2f}",
        }
        for way in WAYS
        for of_way in [rows_where(deepest, way=way)]
    ]
    values = {f"growth_{way}": f"{growth[way]:.2f} MiB" for way in WAYS}
    values |= {f"time_{way}": f"{ratio[way]:.2f}" for way in WAYS}
    values |= {
        "blocks": f"{deepest.blocks.max():.0f}",
        "timed_blocks": f"{seconds.blocks.max():.0f}",
        "machine": seconds.machine.iloc[0],
        "parameters": f"{seconds.parameters.max() / seconds.blocks.max():,.0f}",
    }
    return Answer(values | _drift_in_words(rows_where(table, measured="drift")), pd.DataFrame(rows))


def _growth(table: pd.DataFrame) -> float:
    return float(np.polyfit(table.blocks.astype(float), table.memory.astype(float), 1)[0])


def _ratio(table: pd.DataFrame, way: str) -> float:
    """Returns the median over the rounds of the time, relative to `"stored"` in the same round."""
    times = table.pivot(index="round", columns="way", values="seconds")
    return float(np.median(times[way].to_numpy() / times["stored"].to_numpy()))


def _drift_in_words(table: pd.DataFrame) -> dict[str, str]:
    deepest = rows_where(table, inverted=table.inverted.max())
    errors = deepest.groupby(["dtype", "factor"]).error.median()
    return {
        f"drift_{dtype}_{factor:g}": f"{float(f'{errors[dtype, factor]:.1g}'):g}"
        for dtype in DTYPES
        for factor in FACTORS
    } | {"inverted": f"{table.inverted.max():.0f}", "seeds": str(table.seed.nunique())}


STUDY = Study(
    name="reversible",
    question=5,
    title="x passed along, or computed back from the output",
    cells=cells,
    measure=measure,
    draw=draw,
    answer=answer,
)
