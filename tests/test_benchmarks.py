"""The benchmarks run, and their document is made of what they print."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as benchmarks

ROOT = Path(__file__).parents[1]
PRINTS = (
    "import os; print('a processor'); print(); print('| a step |\\n| --- |\\n| 1.000 |');"
    " print('## part'); print(os.environ['CHOSEN'])"
)


def section(program, **options):
    command = f'CHOSEN=backend python -c "{program}"'
    return benchmarks.Section("A title", "What it measures.", command, smoke="", **options)


@pytest.fixture
def sections(monkeypatch):
    sections = {"first": section(PRINTS), "second": section("raise SystemExit(3)")}
    sections["on_gpu"] = section("print(7)", on_accelerator=True)
    monkeypatch.setattr(benchmarks, "SECTIONS", sections)
    return sections


def test_a_document_has_the_command_and_the_output_of_each_section(sections, tmp_path):
    document = tmp_path / "benchmarks.md"
    benchmarks.main(["--only", "first", f"--output={document}"])
    text = document.read_text()
    assert f"    {sections['first'].command}\n" in text
    assert "```text\na processor\n```\n\n| a step |\n| --- |\n| 1.000 |\n\n### part\n" in text
    assert "```text\nbackend\n```" in text
    assert text.count("Not run here.") == 2


def test_sections_that_are_not_run_keep_their_results(sections, tmp_path):
    document = tmp_path / "benchmarks.md"
    benchmarks.main(["--only", "first", f"--output={document}"])
    before = benchmarks.sections_of(document)
    benchmarks.main(["--gpu", f"--output={document}"])
    after = benchmarks.sections_of(document)
    assert list(after) == ["first", "on_gpu"]
    assert after["first"] == before["first"]
    assert "\n7\n" in after["on_gpu"]


def test_a_section_that_fails_is_named_and_loses_nothing(sections, tmp_path):
    document = tmp_path / "benchmarks.md"
    with pytest.raises(SystemExit, match=r"SystemExit\(3\)\"' failed"):
        benchmarks.main([f"--output={document}"])
    assert list(benchmarks.sections_of(document)) == ["first"]


def test_figures_of_a_smoke_run_are_kept_out_of_the_document(capsys):
    with pytest.raises(SystemExit):
        benchmarks.main(["--smoke"])
    assert "--smoke needs --output=FILE" in capsys.readouterr().err


def test_the_document_in_the_repository_has_the_sections_of_the_command():
    text = benchmarks.DOCUMENT.read_text()
    assert text == benchmarks.document(benchmarks.sections_of(benchmarks.DOCUMENT))


def test_every_command_names_a_script_that_is_there():
    for one in benchmarks.SECTIONS.values():
        script = re.search(r"python (\S+)", one.command)[1]
        assert (ROOT / script).exists()


def test_what_an_accelerator_would_run_runs_on_a_cpu(tmp_path):
    backends = ["jax", *(["torch"] if importlib.util.find_spec("torch") else [])]
    command = [sys.executable, "benchmarks/accelerator.py", "--small", "--minutes=60"]
    # Threads that wait for each other would take minutes beside other tests.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [*command, "--backends", *backends],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    assert finished.returncode == 0, finished.stderr
    for backend, output in zip(backends, finished.stdout.split("## ")[1:], strict=True):
        assert output.startswith(backend)
        assert "device: cpu, which is no accelerator" in output
        assert "statistics of 2 steps in float32 agree with those of the CPU" in output
        assert "0 are missing" in output
        assert "| every step recorded |" in output
        assert "peak memory: not reported by this device" in output
    if "torch" in backends:
        assert "torch.compile: left out" in finished.stdout or "torchvision: left out" in output
