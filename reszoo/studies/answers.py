"""The document `docs/answers.md`: texts filled with the numbers of the studies' tables.

`texts/question_N.md` has the text of each question, with fields such as `{{derivatives.average}}`:
the name of a study, then one of its values, or `table`, `figure` or `command`. No number that was
measured stands in a text itself.
"""

import importlib.resources
import re
import shutil
from collections.abc import Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path

import pandas as pd

from reszoo.files import write_whole
from reszoo.studies.catalog import STUDIES
from reszoo.studies.results import as_markdown
from reszoo.studies.study import Study

DOCUMENT = "answers.md"
# Directory of the tables and figures, beside the document.
RESULTS = "answers"

# The paragraph of the README stands between these lines.
README = "README.md"
_BEGIN = "<!-- This paragraph is written by python -m reszoo.studies write-docs. -->\n"
_END = "<!-- End of the paragraph. -->\n"

_FIELD = re.compile(r"\{\{(\w+)\.(\w+)\}\}")


def write_docs(docs: Path, workdir: Path | None = None, scale: str = "small") -> list[Path]:
    """Writes the document, from the tables beside it or from those of a work directory.

    Args:
        docs: Directory of the documents.
        workdir: Work directory of finished studies, whose tables and figures are copied first;
            `None`: the tables that are there.
        scale: Scale of the studies in the work directory.

    Returns:
        The files that were written.

    Raises:
        ValueError: If a study has no table, or a text names an unknown field.
    """
    results = docs / RESULTS
    written = []
    if workdir is not None:
        results.mkdir(parents=True, exist_ok=True)
        for study in STUDIES.values():
            written += _copied(workdir / scale, results, study)
    document, readme = docs / DOCUMENT, docs.absolute().parent / README
    write_whole(document, written_document(results))
    if readme.exists() and _BEGIN in readme.read_text(encoding="utf-8"):
        write_whole(readme, written_readme(readme.read_text(encoding="utf-8"), results))
        written.append(readme)
    return [document, *written]


def written_document(results: Path) -> str:
    """Returns the text of the document.

    Args:
        results: Directory of the tables.

    Raises:
        ValueError: If a study has no table, or a text names an unknown field.
    """
    answers = _answers(results)
    return "\n".join(filled(text, answers) for text in _texts())


def written_readme(readme: str, results: Path) -> str:
    """Returns the README with its paragraph on what the studies found.

    Args:
        readme: The README.
        results: Directory of the tables.

    Raises:
        ValueError: If a study has no table, or the text names an unknown field.
    """
    before, rest = readme.split(_BEGIN)
    paragraph = importlib.resources.files("reszoo.studies") / "texts" / "readme" / README
    text = filled(paragraph.read_text(encoding="utf-8"), _answers(results))
    return f"{before}{_BEGIN}\n{text}\n{_END}{rest.split(_END)[1]}"


def _answers(results: Path) -> dict[str, Mapping[str, str]]:
    return {name: _answer(study, results) for name, study in STUDIES.items()}


def _copied(directory: Path, results: Path, study: Study) -> list[Path]:
    files = [f"{study.name}{suffix}" for suffix in (".csv", ".svg")]
    for file in files:
        if not (directory / file).exists():
            raise ValueError(
                f"There is no {directory / file}. Run first: python -m reszoo.studies {study.name} "
                f"--workdir={directory.parent} --scale={directory.name}"
            )
        shutil.copyfile(directory / file, results / file)
    return [results / file for file in files]


def _table(study: Study, results: Path) -> pd.DataFrame:
    path = results / f"{study.name}.csv"
    if not path.exists():
        raise ValueError(
            f"There is no {path}. Run first: python -m reszoo.studies all --workdir=DIR, then "
            "python -m reszoo.studies write-docs --workdir=DIR."
        )
    return pd.read_csv(path)


def _answer(study: Study, results: Path) -> Mapping[str, str]:
    answer = study.answer(_table(study, results))
    parts = {
        "table": as_markdown(answer.table),
        "figure": f"![{_sentence(study.title)}]({RESULTS}/{study.name}.svg)",
        "command": f"```bash\npython -m reszoo.studies {study.name} --workdir=DIR\n```",
    }
    return {**answer.values, **parts}


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _texts() -> Iterator[str]:
    def place(file: Traversable) -> int:
        number = re.search(r"\d+", file.name)
        return int(number[0]) if number else 0  # the introduction is first

    folder = importlib.resources.files("reszoo.studies") / "texts"
    for file in sorted(folder.iterdir(), key=place):
        if file.name.endswith(".md"):
            yield file.read_text(encoding="utf-8")


def filled(text: str, values: Mapping[str, Mapping[str, str]]) -> str:
    """Returns a text with each `{{group.name}}` replaced by its value.

    Args:
        text: The text.
        values: The values by group, such as a study, and name.

    Raises:
        ValueError: If there is no such value.

    Example:

    >>> filled("In {{tower.unit}}: {{tower.height}}.", {"tower": {"unit": "m", "height": "3"}})
    'In m: 3.'
    """

    def value(field: re.Match[str]) -> str:
        group, name = field.groups()
        known = values.get(group, {})
        if name not in known:
            raise ValueError(
                f"There is no value {field[0]} for the document. It must be one of "
                f"{', '.join(known) or 'a study: ' + ', '.join(values)}."
            )
        return known[name]

    return _FIELD.sub(value, text)
