"""What came of each patient, read from the tables: times and causes, or labels and when they were known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import cast

import numpy as np
import polars as pl

from gnnpatient.cohort.diagnosis import Diagnosis, Labels
from gnnpatient.cohort.outcomes import Outcome
from gnnpatient.cohort.survival import Survival
from gnnpatient.ingest.labels_diagnosis import DIAGNOSIS
from gnnpatient.ingest.labels_progression import PROGRESSION
from gnnpatient.ingest.labels_survival import SURVIVAL, flag_ends_that_are_events, lost_to_follow_up
from gnnpatient.ingest.record import Draft, FollowUp, LabelReader, Record
from gnnpatient.ingest.rows import Rows
from gnnpatient.spec.outcomes import DiagnosisSpec, OutcomeSpec, ProgressionSpec, SurvivalSpec

_READERS: dict[type, LabelReader] = {  # a new kind of outcome is a line here and a file of its own
    SurvivalSpec: SURVIVAL,
    DiagnosisSpec: DIAGNOSIS,
    ProgressionSpec: PROGRESSION,
}


def label_reader(spec: OutcomeSpec) -> LabelReader:
    """How the labels of an outcome are read.

    Parameters
    ----------
    spec : SurvivalSpec, DiagnosisSpec or ProgressionSpec
        The outcome.

    Returns
    -------
    LabelReader
    """
    return _READERS[type(spec)]


def draft_labels(record: Record) -> dict[str, Draft]:
    """The events of survival outcomes as the tables say them, before it is known when observation ends.

    Parameters
    ----------
    record : Record
        All that has been read of the patients.

    Returns
    -------
    dict of str to Draft
        By outcome, of those whose kind has a draft.

    Raises
    ------
    InputError
        When a state, a flag or a time cannot be read, or is missing.
    """
    outcomes = record.source.spec.outcomes
    drafts = {name: label_reader(spec).draft(record, name, spec) for name, spec in outcomes.items()}
    return {name: draft for name, draft in drafts.items() if draft is not None}


def read_labels(record: FollowUp, drafts: Mapping[str, Draft]) -> dict[str, Outcome]:
    """The labels of all outcomes but those that are made from the packed rows.

    Parameters
    ----------
    record : FollowUp
        All that has been read of the patients, and when each is observed.
    drafts : mapping of str to Draft
        As of `draft_labels`.

    Returns
    -------
    dict of str to Outcome

    Raises
    ------
    InputError
        When a label cannot be read, or observation has no end.
    """
    labels: dict[str, Outcome] = {}
    for name, spec in record.source.spec.outcomes.items():
        label = label_reader(spec).read(record, name, spec, drafts.get(name))
        if label is not None:
            labels[name] = label
    labels = _not_at_risk_while_amended(record, labels)
    labels = _ended_by_events(record, labels, drafts)
    survival = {name: cast(Survival, labels[name]) for name in drafts}
    flag_ends_that_are_events(record, drafts, survival)
    return labels


def _ended_by_events(
    record: FollowUp, labels: Mapping[str, Outcome], drafts: Mapping[str, Draft]
) -> dict[str, Outcome]:
    """The labels, ended by events of survival outcomes where their kind says so."""
    survival = {name: cast(Survival, labels[name]) for name in drafts}
    lost = lost_to_follow_up(record, drafts, survival)
    pairs = {name: (drafts[name].spec, label) for name, label in survival.items()}
    specs = record.source.spec.outcomes
    return {
        name: label_reader(specs[name]).end(record, name, specs[name], label, pairs, lost)
        for name, label in labels.items()
    }


# Labels that were taken back later


def _not_at_risk_while_amended(record: FollowUp, labels: Mapping[str, Outcome]) -> dict[str, Outcome]:
    """The labels that come from codes, with the spells in which one was valid that was taken back later.

    Nobody is at risk in such a spell, as the label was known then: eligibility by the later amendment would
    be eligibility by the future.
    """
    out = dict(labels)
    for name, label in labels.items():
        spec = record.source.spec.outcomes[name]
        if isinstance(label, Labels):
            specs = cast(DiagnosisSpec, spec).each_label
            parts = [
                _retracted(record, f"{name}: {one}", specs[one], part) for one, part in label.each.items()
            ]
            out[name] = replace(label, parts=tuple(cast(Diagnosis, part) for part in parts))
        else:
            out[name] = _retracted(record, name, spec, label)
    return out


def _retracted(record: FollowUp, name: str, spec: OutcomeSpec, label: Outcome) -> Outcome:
    """One label with its spells, see `_not_at_risk_while_amended`."""
    retracted = [
        _amended_spells(record.rows[kind], record.rows[kind].fitting(patterns))
        for kind, patterns in label_reader(spec).codes(spec)
    ]
    spells = np.concatenate([np.zeros((0, 3), np.int64), *retracted])
    if not spells.size:
        return label
    timed = cast(Survival | Diagnosis, label)
    more = [spells] if timed.retracted is None else [timed.retracted, spells]
    record.source.flag(
        f"outcome {name!r}: {len(np.unique(spells[:, 0]))} patient(s) have a row of it that was "
        "amended or taken back later; not at risk while it was valid"
    )
    return replace(timed, retracted=_merged(np.concatenate(more)))


def _amended_spells(rows: Rows, these: np.ndarray) -> np.ndarray:
    """Patient, known and replaced of those of some rows that an amendment replaces: (row, 3) int64."""
    if rows.replaced is None:
        return np.zeros((0, 3), np.int64)
    these = these & ~rows.not_amended & (rows.known < rows.replaced)
    return np.stack([rows.patient[these], rows.known[these], rows.replaced[these]], 1).astype(np.int64)


def _merged(spells: np.ndarray) -> np.ndarray:
    """Spells (spell, 3) of patient, from, until, sorted; those of a patient that overlap are one."""
    frame = pl.DataFrame(spells, schema=["patient", "since", "until"]).sort("patient", "since")
    before = pl.col("until").cum_max().shift(1).over("patient")
    frame = frame.with_columns((pl.col("since") > before).fill_null(True).cum_sum().alias("spell"))
    each = frame.group_by("patient", "spell").agg(pl.col("since").min(), pl.col("until").max())
    return each.sort("patient", "since").select("patient", "since", "until").to_numpy()
