"""Labels of diagnoses: a class of each patient and when it became known, or codes that may still come."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from gnnpatient.cohort.diagnosis import Diagnosis, Labels, diagnosis_of
from gnnpatient.cohort.outcomes import Task
from gnnpatient.errors import InputError
from gnnpatient.ingest.labels_survival import event_in_any_spell
from gnnpatient.ingest.labels_task import read_task_labels
from gnnpatient.ingest.moments import patient_time
from gnnpatient.ingest.outcome_words import DEATH, flag_unmatched_patterns, read_classes
from gnnpatient.ingest.record import Codes, EndedBy, FollowUp, LabelReader, refusal
from gnnpatient.ingest.rows import Rows
from gnnpatient.spec.outcomes import NOBODY, DiagnosisSpec, SurvivalSpec
from gnnpatient.times import DAY, FOREVER, NEVER, seconds

_MAX_SHARE_GOING_ON = 0.05  # of those with an event may have rows after it, of an event that ends all


def read_diagnosis(
    record: FollowUp, name: str, outcome: DiagnosisSpec, draft: None
) -> Diagnosis | Task | Labels:
    """The label of each patient, and when it became known.

    Parameters
    ----------
    record : FollowUp
        All that has been read of the patients, and when each is observed.
    name : str
        The outcome.
    outcome : DiagnosisSpec
        Its spec: codes, a column of classes, several labels, or an ACES task.
    draft : None
        A diagnosis has none.

    Returns
    -------
    Diagnosis, Task or Labels

    Raises
    ------
    InputError
        When a class or a time cannot be read, or observation has no end up to the horizon.
    """
    if outcome.task is not None:
        return read_task_labels(record, outcome)
    if each := outcome.each_label:
        parts = [_read_one(record, f"{name}: {label}", one) for label, one in each.items()]
        return Labels(tuple(parts), tuple(each))
    return _read_one(record, name, outcome)


def _read_one(record: FollowUp, name: str, outcome: DiagnosisSpec) -> Diagnosis:
    """The diagnosis of one label."""
    end = record.observed_until  # before the first gap; in a later period nobody is at risk
    end = np.full(len(record.patients), FOREVER) if end is None else end
    if outcome.node is not None:
        return _from_codes(record, name, outcome, record.rows[outcome.node], end)
    return _from_column(record, name, outcome, end)


def _may_come_within_a_day(outcome: DiagnosisSpec) -> bool:
    """Whether the day on which the label became known matters; a longer gap has closed all of it."""
    return seconds(outcome.gap) < DAY and outcome.when == "future"


def _from_codes(
    record: FollowUp, name: str, outcome: DiagnosisSpec, rows: Rows, end: np.ndarray
) -> Diagnosis:
    """By the rows of a node type that have one of some codes: 1 = ever seen."""
    these = rows.fitting(outcome.codes)
    if record.exit is None and outcome.horizon is not None:
        raise InputError(f"outcome {name!r}: its horizon needs an end of observation; set exit in [patient]")
    if not these.any():
        codes = (*rows.codes[1:], *rows.narrow_codes)
        where = f"of {outcome.node}"
        flag_unmatched_patterns(record.source, f"outcome {name!r}", outcome.codes, codes, where)
    lasting, known = _lasting(rows, these), np.full(len(record.patients), FOREVER)
    np.minimum.at(known, rows.patient[lasting], rows.known[lasting])
    label, retracted = (known < FOREVER).astype(np.int16), None
    if _may_come_within_a_day(outcome) and rows.begun is not None:
        begun, first = known.copy(), np.where(rows.known == rows.happened, rows.begun, rows.known)
        np.minimum.at(begun, rows.patient[lasting], first[lasting])
        until = record.at_risk_until(label, known, begun)
        doubtful = np.flatnonzero(until < known)  # of that day, on which it can have been known already
        if len(doubtful):
            retracted = np.stack([doubtful, until[doubtful], known[doubtful]], 1)
    return diagnosis_of(outcome, label, known, end, retracted=retracted)


def _from_column(record: FollowUp, name: str, outcome: DiagnosisSpec, end: np.ndarray) -> Diagnosis:
    """By a column of classes, and where there is one a column of when each became known."""
    count = len(record.patients)
    assert outcome.table is not None and outcome.column is not None
    columns = [column for column in (outcome.column, outcome.known) if column]
    view, owner = record.view(outcome.table, columns, use=True)
    label = read_classes(view, name, outcome, owner, count)
    known = np.full(count, FOREVER)
    if outcome.known is not None:
        known = patient_time(view, outcome.known, owner, record.patients, beyond=True)
        lost = (known == NEVER) & (label >= 0)
        what = f"a label, but no time in {outcome.known!r} at which it became known"
        refusal(name, view, owner)(lost, what)
        known = np.where(known == NEVER, FOREVER, known)
        label, known = _without_filler(record, name, outcome, label, known)
        if _may_come_within_a_day(outcome):
            begun = patient_time(view, outcome.known, owner, record.patients, end=False, beyond=True)
            begun = np.where(known == FOREVER, FOREVER, begun)
            until = record.at_risk_until((label >= 0).astype(np.int8), known, begun)
            end = np.where(until < known, np.minimum(end, until), end)
    return diagnosis_of(outcome, label, known, end)


def _without_filler(
    record: FollowUp, name: str, outcome: DiagnosisSpec, label: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and when they were known; a filler such as 2099-12-31 is no such time.

    Of the first class, as in "no", it means that nothing was ever known; another label is left out with it.
    """
    late = record.dates.is_open(known) & (label >= 0)
    if not late.any():
        return label, known
    record.source.flag(
        f"outcome {name!r}: {outcome.known!r} lies decades after all other dates in {int(late.sum())} "
        f"patient(s), so it is no time; of {outcome.class_names[0]!r} taken as never, of others left out",
        decides=True,
    )
    return np.where(late & (label > 0), -1, label), np.where(late, FOREVER, known)


def _lasting(rows: Rows, these: np.ndarray) -> np.ndarray:
    """Those of some rows, (row,) bool, that no amendment replaces, or only one of the same kind: (row,) bool.

    A diagnosis that is amended in some detail is known from its first form on; one that is taken back was
    never there, though it was taken for true for a while.
    """
    lasting = these & rows.not_amended
    if rows.replaced is None:
        return lasting
    frame = pl.DataFrame({"patient": rows.patient, "known": rows.known, "gone": rows.replaced})
    frame = frame.with_row_index("row").filter(
        pl.Series(these & ~rows.not_amended) & (pl.col("known") < pl.col("gone"))
    )
    new = np.flatnonzero(lasting)
    while len(new) and len(frame):  # a step back in the chains of amendments each time
        heads = pl.DataFrame({"patient": rows.patient[new], "gone": rows.known[new]})
        found = frame.join(heads, on=["patient", "gone"], how="semi")["row"]
        new = found.to_numpy()
        lasting[new] = True
        frame = frame.filter(~pl.col("row").is_in(found.implode()))
    return lasting


def end_diagnosis(
    record: FollowUp,
    name: str,
    spec: DiagnosisSpec,
    label: Diagnosis | Task | Labels,
    survival: EndedBy,
    lost: np.ndarray,
) -> Diagnosis | Task | Labels:
    """A diagnosis that may still come, with who died or went for good, and who was lost.

    Who died without the diagnosis was followed to the end, which is no censoring. Where the
    spec names no outcome for it, an event of any survival outcome ends the diagnosis, if rows hardly ever go
    on after events of its cause, or if it lies at the patient's own end.

    Parameters
    ----------
    record : FollowUp
        All that has been read of the patients.
    name : str
        The outcome.
    spec : DiagnosisSpec
        Its spec.
    label : Diagnosis, Task or Labels
        Its labels; those without a horizon stay as they are.
    survival : mapping of str to (SurvivalSpec, Survival)
        The survival outcomes.
    lost : numpy.ndarray
        (patient,) int64 seconds at which each patient was lost to follow-up, FOREVER = not known.

    Returns
    -------
    Diagnosis, Task or Labels
    """
    if isinstance(label, Task) or label.horizon is None:
        return label
    if isinstance(label, Labels):
        specs = spec.each_label
        ended = [
            _end_one(record, f"{name}: {one}", specs[one], part, survival, lost)
            for one, part in label.each.items()
        ]
        return replace(label, parts=tuple(ended))
    return _end_one(record, name, spec, label, survival, lost)


def _end_one(
    record: FollowUp,
    name: str,
    spec: DiagnosisSpec,
    label: Diagnosis,
    survival: EndedBy,
    lost: np.ndarray,
) -> Diagnosis:
    """The diagnosis of one label, see `end_diagnosis`."""
    source, chosen = record.source, spec.gone in survival
    if chosen or spec.gone == NOBODY:
        survival = {other: pair for other, pair in survival.items() if other == spec.gone}
    if not survival and spec.gone is None:
        source.flag(
            f"outcome {name!r}: no survival outcome says who died, so that every end of observation is taken "
            'for censoring (gone = "OUTCOME")'
        )
    last = record.last_row(NEVER)
    gone = np.full(len(last), FOREVER)
    for other, (other_spec, truth) in survival.items():
        stop = np.zeros(len(last), bool)
        event, time = event_in_any_spell(truth)
        for k, cause in enumerate(truth.causes, 1):
            if _is_itself(record, spec, other_spec, cause):
                continue
            events = (event == k) & (time != NEVER)
            rows_after = int((events & (last > time + DAY)).sum())
            ends_all = chosen or rows_after <= _MAX_SHARE_GOING_ON * events.sum()
            if not ends_all:
                source.flag(
                    f"outcome {name!r}: {cause!r} does not end it, as rows go on after {rows_after} of "
                    f'{int(events.sum())} (gone = "{other}" would say that it does)',
                    decides=True,
                )
            stop |= events & (ends_all | (time >= label.end))
        gone = np.where(stop, np.minimum(gone, time), gone)
    end = np.minimum(label.end, lost)
    if late := int(((label.known < FOREVER) & (label.known > end)).sum()):
        source.flag(f"outcome {name!r}: {late} diagnosed after the end of observation; not counted")
    return replace(label, gone=gone, end=end)


def _is_itself(record: FollowUp, spec: DiagnosisSpec, other: SurvivalSpec, cause: str) -> bool:
    """Whether a cause of a survival outcome is read from codes of the diagnosis: it does not end it."""
    if spec.node is None:
        return False
    rows = record.rows[spec.node]
    these = rows.fitting(spec.codes)
    parts = [part for name, part in other.parts if name == cause]
    return any(part.node == spec.node and bool((these & rows.fitting(part.codes)).any()) for part in parts)


def _codes(spec: DiagnosisSpec) -> Codes:
    return [] if spec.node is None else [(spec.node, spec.label_codes)]


def _revealing(spec: DiagnosisSpec, kind: str) -> tuple[str, ...]:
    return (*spec.hide, *(spec.label_codes if spec.node == kind else ()))


def _deaths(name: str, spec: DiagnosisSpec, label: Diagnosis) -> tuple[np.ndarray, np.ndarray] | None:
    if spec.task is not None or spec.labels or not DEATH.search(name) or "yes" not in label.classes:
        return None
    return label.label == label.classes.index("yes"), label.known


DIAGNOSIS = LabelReader(
    read=read_diagnosis,
    end=end_diagnosis,
    codes=_codes,
    hide=lambda spec: spec.hide,
    revealing=_revealing,
    deaths=_deaths,
)
"""How the labels of a diagnosis are read."""
