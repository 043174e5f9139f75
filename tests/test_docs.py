"""Tables, Python and commands of the documents are up to date."""

import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import reszoo
from reszoo.gradients.measures import HISTOGRAM_EXPONENTS
from reszoo.gradients.statistics import markdown_table
from reszoo.report import page
from reszoo.tensorboard import plugin
from reszoo.training import read_config
from tests.children import blocks_on

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = sorted(DOCS.glob("*.md"))

# A block that cannot run in a test says why, in a comment before it; or on which backend it runs.
BLOCK = re.compile(r"(?:<!-- not run: (.+) -->\n)?```python\n(.*?)```", flags=re.DOTALL)


def python_blocks(document):
    text = document.read_text()
    elsewhere = blocks_on("jax", text) + blocks_on("torch", text)
    return [code for reason, code in BLOCK.findall(text) if not reason and code not in elsewhere]


WITH_PYTHON = [path for path in DOCUMENTS if python_blocks(path)]


def test_the_table_of_statistics_is_that_of_the_code():
    assert markdown_table() in (DOCS / "statistics.md").read_text(encoding="utf-8")


def test_the_documents_have_the_numbers_of_steps_that_are_kept():
    statistics, page_of_runs = (
        " ".join((DOCS / name).read_text(encoding="utf-8").split())
        for name in ("statistics.md", "gradient_flow.md")
    )
    low, high = HISTOGRAM_EXPONENTS[0], HISTOGRAM_EXPONENTS[-1]
    assert f"powers of two from `2^{low}` to `2^{high}`" in statistics
    assert f"TensorBoard keeps {plugin.DEFAULT_TABLE_SAMPLES} steps with them" in statistics
    assert f"and the last, at most {page.MOST_HISTOGRAMS}." in statistics
    assert f"keeps {plugin.DEFAULT_SAMPLES:,} recorded steps of a run" in page_of_runs
    assert f"at most {plugin.DEFAULT_STEPS_AN_ANSWER:,} of these" in page_of_runs
    assert f"at most {page.MOST_STEPS:,} steps of each run" in page_of_runs
    assert f"`max_steps` (3 to {plugin.MOST_STEPS_AN_ANSWER:,})" in page_of_runs


@pytest.fixture
def _two_runs(tmp_path, monkeypatch):
    """The runs that docs/gradient_flow.md speaks of, as small as can be."""
    monkeypatch.chdir(tmp_path)
    for run in ("with-skip", "stop-gradient"):
        block = reszoo.ResidualBlock([keras.layers.Dense(4)], name="block1")
        model = keras.Sequential([keras.Input((4,)), block])
        model.compile("sgd", "mse")
        recorder = reszoo.GradientRecorder(f"runs/{run}", every_steps=1)
        model.fit(np.ones((8, 4)), np.zeros((8, 4)), verbose=0, callbacks=[recorder])


@pytest.mark.usefixtures("_two_runs")
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's
@pytest.mark.parametrize("document", WITH_PYTHON, ids=lambda path: path.name)
def test_the_python_of_a_document_runs(document):
    names = {}
    for block in python_blocks(document):
        exec(block, names)


def test_only_what_needs_the_network_is_not_run():
    reasons = [reason for path in DOCUMENTS for reason, _ in BLOCK.findall(path.read_text())]
    assert [reason for reason in reasons if reason] == ["it needs the network"]


def test_the_architecture_names_files_that_there_are():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w/]+\.(?:py|js)|[\w/]+/)`", text))
    assert len(named) > 30
    rooms = (".", "reszoo", "reszoo/training", "reszoo/gradients", "reszoo/tensorboard")
    places = [ROOT / room for room in (*rooms, "reszoo/tensorboard/frontend/src")]
    missing = [name for name in named if not any((place / name).exists() for place in places)]
    assert not missing


def commands(program):
    """Returns the arguments that documents and the README give a program, line by line."""
    texts = [path.read_text(encoding="utf-8") for path in [*DOCUMENTS, ROOT / "README.md"]]
    # Those in running text are not whole: FILE stands for a file.
    blocks = [
        block for text in texts for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    ]
    return [
        found
        for block in blocks
        for found in re.findall(rf"python {program} (.*?)(?:'?$| &&)", block, flags=re.MULTILINE)
    ]


def test_the_training_commands_name_flags_and_fields_that_there_are():
    assert len(commands("train.py")) >= 9
    code = (
        "import json, runpy, sys\n"
        "train = runpy.run_path('reszoo/train.py')\n"
        "fields = train['parse_flags'](['train.py', *sys.argv[1:]])[1:]\n"
        "print(json.dumps([train['flags'].FLAGS.config, fields]))"
    )
    for arguments in set(commands("train.py")):
        done = subprocess.run(
            [sys.executable, "-c", code, *shlex.split(arguments)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (arguments, done.stderr)
        config, fields = json.loads(done.stdout)
        read_config(str(ROOT / config), [field.split("=", 1) for field in fields])


@pytest.mark.parametrize("package", ["layers", "models", "gradients", "data", "training", "report"])
def test_the_reference_has_all_that_a_package_offers(package):
    text = (DOCS / "api" / f"{package}.md").read_text(encoding="utf-8")
    described = set(
        re.findall(rf"^::: reszoo\.{package}\.(?:\w+\.)?(\w+)$", text, flags=re.MULTILINE)
    )
    source = Path(importlib.import_module(f"reszoo.{package}").__file__).read_text()
    offered = set(re.findall(r"^ *from .* import (\w+) as \1$", source, flags=re.MULTILINE))
    # Each model by its name has the arguments of `ResNet`.
    offered -= {name for name in offered if re.search(r"(ResNet|RevNet|Plain|ResNeXt)\d", name)}
    assert described == offered
