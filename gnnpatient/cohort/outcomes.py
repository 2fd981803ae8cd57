"""What is predicted, and what came of each patient: the kinds of outcome, and what reads each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gnnpatient.cohort.arrays import StoredArrays, StoredColumns
from gnnpatient.cohort.diagnosis import Diagnosis, Task
from gnnpatient.cohort.packed import Events
from gnnpatient.cohort.progression import Progression
from gnnpatient.cohort.survival import Spells, Survival
from gnnpatient.spec.graph import OutcomeSpec, ProgressionSpec
from gnnpatient.spec.patterns import fitting

__all__ = [
    "Diagnosis",
    "Outcome",
    "Progression",
    "Spells",
    "Survival",
    "Task",
    "all_outcomes",
    "progression",
    "stored_labels",
]

# Every kind of outcome below answers the same questions, so that nobody has to ask for its class:
#   has_model           a model is fitted for it
#   has_curve           a model gives the incidence of its causes over time; else a probability of each class
#   has_course          patients may be lost before it is known: `course` gives event and time
#   has_own_moments     it has landmarks of its own: `patient` and `at`; else it is asked at any time
#   has_patient_groups  it has one entry a patient: `groups_at` and `group_names`
#   strata              what a split spreads evenly over its parts, (patient,); None: nothing
#   names, name_noun    its causes or classes, and the word for one and for several of them
#   horizon             seconds within which it must come, of a diagnosis; else None
# Of landmarks (patient, at), two int64 arrays: `at_risk` (to be scored), `open` (to be asked), `truth`.
Outcome = Survival | Diagnosis | Task | Progression

# What reads an outcome from its own columns, by its kind; a progression has none, it is read from the rows.
_FROM_COLUMNS: dict[str, Callable[[Any, StoredColumns, int], Outcome]] = {
    Survival.kind: Survival.from_columns,
    Diagnosis.kind: Diagnosis.from_columns,
}


def stored_labels(
    specs: Mapping[str, OutcomeSpec], arrays: StoredArrays, patients: int
) -> dict[str, Outcome]:
    """The outcomes that a cohort's folder holds; those without columns of their own are left out."""
    return {
        name: _FROM_COLUMNS[spec.kind](spec, arrays.columns(f"outcome.{name}"), patients)
        for name, spec in specs.items()
        if spec.kind in _FROM_COLUMNS
    }


def all_outcomes(
    specs: Mapping[str, OutcomeSpec],
    labels: Mapping[str, Outcome],
    events: Mapping[str, Events],
    codes: Mapping[str, tuple[str, ...]],
) -> dict[str, Outcome]:
    """All outcomes in the order of the spec; progression is read from the rows of its kind."""
    return {
        name: progression(spec, events, codes, labels) if spec.kind == "progression" else labels[name]
        for name, spec in specs.items()
    }


def progression(
    spec: ProgressionSpec,
    events: Mapping[str, Events],
    codes: Mapping[str, tuple[str, ...]],
    outcomes: Mapping[str, Outcome],
) -> Progression:
    """A progression outcome on the rows that are packed."""
    of = fitting(codes[spec.node], spec.codes)
    gone = outcomes[spec.gone] if spec.gone is not None else None
    assert gone is None or gone.has_curve
    return Progression(spec, np.array(of), events[spec.node], gone)
