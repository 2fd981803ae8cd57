"""The kinds of outcome, what each can do, and what reads them from a cohort's folder or rows.

Every kind has the same attributes, so that no caller has to test for a class:

=====================  ================================================================================
`kind`                 "survival", "recurrent", "states", "diagnosis" (also of a task), "ordered",
                       "labels", "progression" or "worsening"
`has_model`            a model is fitted for it
`has_curve`            a model gives the incidence of its causes over time; else a probability per class
`has_course`           patients may be lost before it is known; `course` gives event and time
`has_own_moments`      it has prediction times of its own, `patient` and `at`; else any time is possible
`has_patient_groups`   it has one entry a patient: `groups_at` and `group_names`
`strata`               what a split spreads evenly, (patient,); None: nothing
`names`, `name_noun`   its causes or classes, and the word for one and for several of them
`horizon`              of a diagnosis the seconds within which it must come; else None
`ends`                 second before which a patient's landmarks lie, (patient,)
=====================  ================================================================================

The methods `at_risk` (landmarks to be scored), `open` (landmarks to be forecast) and `truth` (what was
observed after them) take landmarks as two int64 arrays: position of the patient, second after the origin.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gnnpatient.cohort.arrays import StoredArrays, StoredColumns
from gnnpatient.cohort.diagnosis import Diagnosis, Labels, Task
from gnnpatient.cohort.packed import Events
from gnnpatient.cohort.progression import Progression
from gnnpatient.cohort.recurrent import Recurrent
from gnnpatient.cohort.states import States
from gnnpatient.cohort.survival import Spells, Survival
from gnnpatient.cohort.worsening import Worsening
from gnnpatient.spec.outcomes import OutcomeSpec, ProgressionSpec, SurvivalSpec
from gnnpatient.spec.patterns import fitting

__all__ = [
    "Diagnosis",
    "Labels",
    "Outcome",
    "Progression",
    "Recurrent",
    "Spells",
    "States",
    "Survival",
    "Task",
    "Worsening",
    "all_outcomes",
    "ended_by_observation",
    "progression",
    "stored_labels",
]

Outcome = Survival | Recurrent | States | Diagnosis | Task | Labels | Progression | Worsening


def _survival(spec: SurvivalSpec, columns: StoredColumns, patients: int) -> Survival:
    kind = Recurrent if spec.recurrent else States if spec.states else Survival
    return kind.from_columns(spec, columns, patients)


# What reads an outcome from its own columns, by its kind. A progression has none, it is read from the rows.
_FROM_COLUMNS: dict[str, Callable[[Any, StoredColumns, int], Outcome]] = {
    Survival.kind: _survival,
    Diagnosis.kind: Diagnosis.from_columns,
}


def stored_labels(
    specs: Mapping[str, OutcomeSpec], arrays: StoredArrays, patients: int
) -> dict[str, Outcome]:
    """Read the outcomes that have columns of their own in a cohort's folder.

    Parameters
    ----------
    specs : Mapping
        Name -> outcome in the spec of the cohort.
    arrays : StoredArrays
        The folder.
    patients : int
        Number of patients of the cohort.

    Returns
    -------
    dict
        Name -> outcome, memory-mapped; without progression, which is read from the rows.
    """
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
    until: Mapping[str, np.ndarray] | None = None,
) -> dict[str, Outcome]:
    """Complete the outcomes with those that are read from the rows, in the order of the spec.

    Parameters
    ----------
    specs : Mapping
        Name -> outcome in the spec of the cohort.
    labels : Mapping
        Name -> outcome, of those with columns of their own.
    events : Mapping
        Node type -> rows.
    codes : Mapping
        Node type -> names of its codes.
    until : Mapping, optional
        Name of a progression without `gone` -> second at which observation ends, (patient,) int64.

    Returns
    -------
    dict
        Name -> outcome.
    """
    ends = until or {}
    return {
        name: progression(spec, events, codes, labels, ends.get(name))
        if isinstance(spec, ProgressionSpec)
        else labels[name]
        for name, spec in specs.items()
    }


def ended_by_observation(specs: Mapping[str, OutcomeSpec]) -> list[str]:
    """Find the outcomes that nothing ends but the end of observation: values without `gone`.

    Parameters
    ----------
    specs : Mapping
        Name -> outcome in the spec of the cohort.

    Returns
    -------
    list of str
    """
    return [
        name
        for name, spec in specs.items()
        if isinstance(spec, ProgressionSpec) and spec.gone is None and spec.worse is None
    ]


def progression(
    spec: ProgressionSpec,
    events: Mapping[str, Events],
    codes: Mapping[str, tuple[str, ...]],
    outcomes: Mapping[str, Outcome],
    until: np.ndarray | None = None,
) -> Progression | Worsening:
    """Make a progression outcome of the rows of its node type.

    Parameters
    ----------
    spec : ProgressionSpec
        The outcome in the spec of the cohort.
    events : Mapping
        Node type -> rows.
    codes : Mapping
        Node type -> names of its codes.
    outcomes : Mapping
        Name -> outcome; `spec.gone` names one of them.
    until : ndarray, optional
        Second at which the observation of each patient ends, (patient,) int64.

    Returns
    -------
    Progression or Worsening
    """
    followed = fitting(codes[spec.node], spec.codes)
    gone = outcomes[spec.gone] if spec.gone is not None else None
    assert gone is None or gone.has_curve
    kind = Progression if spec.worse is None else Worsening
    return kind(spec, np.array(followed), events[spec.node], gone, until)
