"""All studies by name, in the order of the questions."""

from reszoo.studies import (
    addition,
    constant_skip,
    derivatives,
    projections,
    shortcut_table,
    stop_gradient,
)
from reszoo.studies.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        stop_gradient.STUDY,
        addition.STUDY,
        shortcut_table.STUDY,
        derivatives.STUDY,
        constant_skip.STUDY,
        projections.STUDY,
    )
}
