"""All benchmarks, one after the other, into `docs/benchmarks.md`.

    python -m benchmarks
    python -m benchmarks --only recording_jax recording_torch
    python -m benchmarks --gpu
    python -m benchmarks --smoke --output=/tmp/benchmarks.md

Each section of the document has its command, the processor, its load, the versions, and what the
command printed. A section that is not run keeps what an earlier call has written. `--gpu` runs the
part for an accelerator alone; without it that part is left out. `--smoke` runs everything tiny, to
see that it runs.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "benchmarks.md"
NOT_RUN = "Not run here."
INTRODUCTION = """# Benchmarks

`python -m benchmarks` runs all benchmarks on your machine and writes this page; no number on it is
typed by hand. Each section has its own command. Within a command all variants are interleaved:
every round runs one step of each in a new random order, and a ratio is the median over the rounds,
each to the baseline of the same round. In parentheses are quartiles. On a machine that does other
work, which the load shows, CPU seconds are more reliable than wall seconds. A speed on TensorFlow
holds for oneDNN on or off, which the processor decides unless `TF_ENABLE_ONEDNN_OPTS` does.
"""


@dataclass(frozen=True)
class Section:
    """Section of the document.

    Attributes:
        title: Its heading.
        about: A sentence about what is measured.
        command: The shell command, beginning with assignments of environment variables, if any.
        smoke: Options that are added to see it run.
        on_accelerator: Whether it needs an accelerator.
    """

    title: str
    about: str
    command: str
    smoke: str = "--smoke"
    on_accelerator: bool = False


# Without oneDNN, as train.py starts TensorFlow: it keeps the memory of freed tensors.
_KERNELS = {
    True: "TF_ENABLE_ONEDNN_OPTS=1",
    False: "TF_ENABLE_ONEDNN_OPTS=0 TF_CPU_ALLOCATOR_USE_BFC=1",
}
_BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def _recording(backend: str, network: str, options: str) -> Section:
    """Returns the section of the cost of recording on a backend."""
    return Section(
        f"Recording on {_BACKENDS[backend]}, {network}",
        "A recorded step, and one that is not due, to a plain step of `fit`. The plain step of a "
        "second copy of the model shows the noise.",
        f"KERAS_BACKEND={backend} python benchmarks/recording.py {options}",
    )


def _inference(network: str, rounds: int) -> Section:
    """Returns the section of a network as users predict with it."""
    return Section(
        f"Inference with {'ResNet-18' if network == 'resnet18' else 'ResNet-50'}",
        "`model.predict`, an exported SavedModel and an ONNX file, images of 224 pixels, beside "
        "other libraries.",
        f"python benchmarks/inference.py --model={network} --rounds={rounds}",
    )


def _model(network: str, pixels: int, rounds: int, onednn: bool = True) -> Section:
    """Returns the section of a network beside its peers."""
    name = {"resnet18": "ResNet-18", "resnet50": "ResNet-50"}[network]
    command = f"python benchmarks/models.py --model={network} --image_size={pixels}"
    return Section(
        f"{name} at {pixels} pixels{'' if onednn else ', oneDNN off'}",
        "Forward pass and training step of a batch of 8 images, beside other libraries.",
        f"{_KERNELS[onednn]} {command} --rounds={rounds}",
    )


def _operations(which: str, onednn: bool) -> Section:
    """Returns the section of a training step by its operations."""
    return Section(
        f"Operations of a training step: {which}",
        "Where the time of a training step of ResNet-18 goes, on one thread.",
        f"{_KERNELS[onednn]} python benchmarks/operations.py --model=resnet18 --image_size=128",
    )


def _kernels(which: str, chosen: str, options: str) -> Section:
    """Returns the section of what a choice of kernels gives."""
    return Section(
        f"Convolutions and normalization: {which}",
        "A training step with the convolutions and the batch normalization that the layers choose, "
        "beside the backend's plain ones.",
        f"{chosen} python benchmarks/kernels.py {options}",
    )


SECTIONS = {
    **{
        f"recording_{backend}{suffix}": _recording(backend, network, options)
        for backend in _BACKENDS
        for suffix, network, options in (
            ("", "width 64", "--rounds=11"),
            ("_width_16", "width 16", "--width=16 --rounds=15"),
            ("_memory", "memory", "--rounds=1 --memory --variants plain 'every step'"),
        )
    },
    "recording_xla": _recording("tensorflow", "width 64, XLA", "--jit --rounds=11"),
    "recording_xla_memory": _recording(
        "tensorflow",
        "memory, XLA",
        "--jit --rounds=1 --memory --variants plain 'every step'",
    ),
    "recording_others": Section(
        "Other ways to see gradients",
        "A second tape, histograms of every weight's gradient, and hooks on PyTorch's modules.",
        "python benchmarks/recording.py --rounds=7 --variants plain 'every step' 'second tape' "
        "histograms torch 'torch hooks'",
    ),
    "models_resnet18": Section(
        "ResNet-18 and its peers",
        "Forward pass, training step and peak memory, beside other libraries.",
        "python benchmarks/models.py --model=resnet18 --memory",
    ),
    "models_resnet50": Section(
        "ResNet-50 and its peers",
        "Forward pass, training step and peak memory, beside other libraries.",
        "python benchmarks/models.py --model=resnet50 --memory",
    ),
    "models_memory": Section(
        "Memory of a training step",
        "Peak memory of a process that trains one model, with `remat=True` and without, beside "
        "other libraries.",
        "python benchmarks/models.py --model=resnet50 --image_size=128 --rounds=3 --remat --memory",
    ),
    **{
        f"models_{network}_{pixels}{'' if onednn else '_off'}": _model(
            network, pixels, rounds, onednn
        )
        for network, pixels, rounds in (
            ("resnet18", 64, 11),
            ("resnet18", 128, 9),
            ("resnet18", 224, 7),
            ("resnet50", 64, 7),
            ("resnet50", 128, 5),
            ("resnet50", 224, 3),
        )
        for onednn in (True, False)
        if not (onednn and pixels == 64)  # measured above, with the memory
    },
    "kernels": _kernels("oneDNN", _KERNELS[True], "--rounds=7"),
    "kernels_off": _kernels("TensorFlow's own", _KERNELS[False], "--rounds=5"),
    "kernels_xla": _kernels("XLA", "KERAS_BACKEND=tensorflow", "--jit --cases 64 16 8 --rounds=3"),
    "kernels_jax": _kernels("JAX", "KERAS_BACKEND=jax", "--cases 64 16 8 --rounds=3"),
    "operations": _operations("oneDNN", True),
    "operations_off": _operations("TensorFlow's own", False),
    "inference_resnet18": _inference("resnet18", 9),
    "inference_resnet50": _inference("resnet50", 5),
    "data": Section(
        "Input pipeline",
        "Images per second of the pipeline and of the training step; above 1 the step never waits.",
        "python benchmarks/data.py --config=configs/digits_resnet18.py",
        smoke="--rounds=1 --steps=1",
    ),
    "scaling": Section(
        "Several processes",
        "A cost model of training on several devices, and measured processes of one core each.",
        "python benchmarks/scaling.py",
        smoke="--width=4 --batch=2 --steps=2",
    ),
    "start": Section(
        "From the command to the first step",
        "Time until train.py has made its first step, beside what the imports, the model and a "
        "first step of fit take by themselves; and until TensorBoard answers.",
        "python benchmarks/start.py",
        smoke="--rounds=1",
    ),
    "page": Section(
        "TensorBoard page",
        "Times of the Gradient Flow page in a browser.",
        "python benchmarks/gradient_flow_page.py",
        smoke="--blocks=4 --steps=20 --rounds=1",
    ),
    **{
        f"accelerator_{backend}": Section(
            f"Accelerator, {title}",
            f"Exactness, cost and memory of recording{peers}.",
            f"python benchmarks/accelerator.py --backends {backend}",
            smoke="--small",
            on_accelerator=True,
        )
        for backend, title, peers in (
            ("torch", "PyTorch", ", beside torchvision"),
            ("jax", "JAX", ""),
        )
    },
}


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmarks and writes the document."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--only", nargs="*", choices=SECTIONS, help="these alone")
    parser.add_argument("--gpu", action="store_true", help="what needs an accelerator, alone")
    parser.add_argument("--smoke", action="store_true", help="tiny, to see everything run")
    parser.add_argument("--output", type=Path, default=DOCUMENT, help="the document")
    options = parser.parse_args(arguments)
    if options.smoke and options.output == DOCUMENT:
        parser.error("--smoke needs --output=FILE, since its numbers belong in no document")
    sections = sections_of(options.output)
    for name in options.only or chosen(options):
        sections[name] = run(SECTIONS[name], options.smoke)
        # After each, so that nothing is lost if a later one fails.
        options.output.write_text(document(sections))


def chosen(options: argparse.Namespace) -> list[str]:
    """Returns the names of the sections that this machine is to run."""
    everything = options.smoke
    return [n for n, s in SECTIONS.items() if everything or s.on_accelerator == options.gpu]


def run(section: Section, smoke: bool) -> str:
    """Runs the command of a section, and returns the section's results in Markdown."""
    command = f"{section.command} {section.smoke}" if smoke else section.command
    words = shlex.split(command)
    assigned = dict(word.split("=", 1) for word in words[: words.index("python")])
    print(command, flush=True)
    begin = time.perf_counter()
    finished = subprocess.run(
        [sys.executable, *words[words.index("python") + 1 :]],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), **os.environ, **assigned},
    )
    print(finished.stdout, flush=True)
    if finished.returncode:
        sys.exit(f"{command!r} failed; its error is above. The sections before it are written.")
    minutes = (time.perf_counter() - begin) / 60
    return f"    {command}\n\n{markdown(finished.stdout)}\n\nIt took {minutes:.1f} minutes."


def markdown(output: str) -> str:
    """Returns the output of a benchmark in Markdown: tables as they are, other lines as text."""
    parts = []
    for line in output.strip().splitlines():
        is_table, is_heading = line.startswith("|"), line.startswith("## ")
        kind = "table" if is_table else "heading" if is_heading else "text"
        if line.strip() and parts and parts[-1][0] == kind != "heading":
            parts[-1][1].append(line)
        elif line.strip():
            parts.append((kind, [f"#{line}" if is_heading else line]))
    fences = {"text": "```text\n{}\n```"}
    return "\n\n".join(fences.get(kind, "{}").format("\n".join(lines)) for kind, lines in parts)


def document(sections: dict[str, str]) -> str:
    """Returns the whole document.

    Args:
        sections: The results of sections, by name; the others were not run.
    """
    parts = [INTRODUCTION]
    for name, section in SECTIONS.items():
        results = sections.get(name, f"    {section.command}\n\n{NOT_RUN}")
        head = f"## {section.title}\n\n{section.about}\n\n"
        parts.append(f"{head}<!-- {name} -->\n\n{results}\n\n<!-- -->\n")
    return "\n".join(parts)


def sections_of(path: Path) -> dict[str, str]:
    """Returns the results in a document that was written before, by the names of sections."""
    text = path.read_text() if path.exists() else ""
    written = re.findall(r"<!-- (\w+) -->\n\n(.*?)\n\n<!-- -->", text, re.DOTALL)
    return {name: results for name, results in written if NOT_RUN not in results}


if __name__ == "__main__":
    main()
