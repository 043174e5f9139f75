"""All studies by name, in the order of the questions."""

from reszoo.studies import (
    addition,
    bus,
    constant_skip,
    derivatives,
    distance,
    gradient_by_depth,
    gradient_correlation,
    input_skip,
    lesioning,
    path_lengths,
    projections,
    reversible,
    shortcut_table,
    stop_gradient,
    variance_growth,
)
from reszoo.studies.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        stop_gradient.STUDY,
        addition.STUDY,
        bus.STUDY,
        shortcut_table.STUDY,
        gradient_by_depth.STUDY,
        variance_growth.STUDY,
        gradient_correlation.STUDY,
        path_lengths.STUDY,
        lesioning.STUDY,
        reversible.STUDY,
        derivatives.STUDY,
        distance.STUDY,
        input_skip.STUDY,
        constant_skip.STUDY,
        projections.STUDY,
    )
}
