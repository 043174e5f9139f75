"""All studies by name, in the order of the questions."""

from reszoo.studies import addition, constant_skip, derivatives, projections
from reszoo.studies.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        addition.STUDY,
        derivatives.STUDY,
        constant_skip.STUDY,
        projections.STUDY,
    )
}
