"""The document says what the tables say."""

from pathlib import Path

import pytest

from reszoo.studies import answers
from reszoo.studies.catalog import STUDIES

DOCS = Path(__file__).parents[2] / "docs"


def test_the_document_is_made_of_its_tables():
    expected = answers.written_document(DOCS / answers.RESULTS)
    assert (DOCS / answers.DOCUMENT).read_text(encoding="utf-8") == expected, (
        "docs/answers.md is written by: python -m reszoo.studies write-docs"
    )


def test_the_paragraph_of_the_readme_is_made_of_the_tables():
    readme = (DOCS.parent / answers.README).read_text(encoding="utf-8")
    assert readme == answers.written_readme(readme, DOCS / answers.RESULTS), (
        "the paragraph of README.md is written by: python -m reszoo.studies write-docs"
    )


def test_each_study_stands_in_the_document():
    document = (DOCS / answers.DOCUMENT).read_text(encoding="utf-8")
    for name in STUDIES:
        assert f"({answers.RESULTS}/{name}.svg)" in document
        assert f"python -m reszoo.studies {name} --workdir=DIR" in document


def test_an_unknown_field_is_named(monkeypatch):
    monkeypatch.setattr(answers, "_texts", lambda: iter(["{{derivatives.mean}}"]))
    with pytest.raises(ValueError, match=r"no value \{\{derivatives.mean\}\} .* sum, average"):
        answers.written_document(DOCS / answers.RESULTS)
    monkeypatch.setattr(answers, "_texts", lambda: iter(["{{derivative.sum}}"]))
    with pytest.raises(ValueError, match=r"must be one of a study: .*derivatives"):
        answers.written_document(DOCS / answers.RESULTS)


def test_a_missing_table_is_named_with_the_command_that_makes_it(tmp_path):
    with pytest.raises(ValueError, match=r"There is no .*\.csv. Run first: python -m reszoo.stu"):
        answers.written_document(tmp_path)
    with pytest.raises(ValueError, match=r"Run first: .* --workdir=.*runs --scale=small"):
        answers.write_docs(tmp_path, tmp_path / "runs")
