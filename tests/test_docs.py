"""Documents that are made from the code are up to date."""

from pathlib import Path

from reszoo.gradients.statistics import markdown_table

DOCS = Path(__file__).parents[1] / "docs"


def test_the_table_of_statistics_is_that_of_the_code():
    assert markdown_table() in (DOCS / "statistics.md").read_text(encoding="utf-8")
