"""Documents that are made from the code are up to date."""

import re
from pathlib import Path

import pytest

from reszoo.gradients.statistics import markdown_table

DOCS = Path(__file__).parents[1] / "docs"


def test_the_table_of_statistics_is_that_of_the_code():
    assert markdown_table() in (DOCS / "statistics.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", ["any_model.md"])
def test_the_python_of_a_document_runs(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / document).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert blocks
    names = {}
    for block in blocks:
        exec(block, names)
