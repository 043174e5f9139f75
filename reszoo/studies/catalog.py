"""All studies by name, in the order of the questions."""

from reszoo.studies import derivatives
from reszoo.studies.study import Study

STUDIES: dict[str, Study] = {study.name: study for study in (derivatives.STUDY,)}
