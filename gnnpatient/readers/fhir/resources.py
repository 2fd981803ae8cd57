"""The resources that become tables, where each keeps what a row needs, and which never happened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"


@dataclass(frozen=True, kw_only=True)
class ResourceType:
    """Where a resource keeps what a row needs. Of several fields the first that is given counts.

    Attributes
    ----------
    code : str
        Field of a CodeableConcept.
    prefer : str
        Of several codings the first of this system, else the first.
    subject : str
        Field of the reference to the patient.
    time, until : tuple of str
        Fields of the times; a Period gives its start, and its end.
    known : str
        Field of the time at which it was recorded; "" = none.
    category : str
        Field of what groups such resources.
    """

    code: str = "code"
    prefer: str = SNOMED  # of several codings the first of this system, else the first
    subject: str = "subject"
    time: tuple[str, ...]  # a Period gives its start
    until: tuple[str, ...] = ()  # a Period gives its end
    known: str = ""
    category: str = "category"


_DRUG: dict[str, Any] = {"code": "medicationCodeableConcept", "prefer": RXNORM}
RESOURCE_TYPES = {
    "Encounter": ResourceType(code="type", time=("period",), until=("period",), category="class"),
    "Condition": ResourceType(
        time=("onsetDateTime", "onsetPeriod", "recordedDate"),
        until=("abatementDateTime", "abatementPeriod"),
        known="recordedDate",
    ),
    "Observation": ResourceType(
        prefer=LOINC,
        time=("effectiveDateTime", "effectivePeriod", "effectiveInstant", "issued"),
        until=("effectivePeriod",),
        known="issued",
    ),
    "DiagnosticReport": ResourceType(
        prefer=LOINC,
        time=("effectiveDateTime", "effectivePeriod", "issued"),
        until=("effectivePeriod",),
        known="issued",
    ),
    "MedicationRequest": ResourceType(**_DRUG, time=("authoredOn",)),
    "MedicationStatement": ResourceType(
        **_DRUG,
        time=("effectiveDateTime", "effectivePeriod", "dateAsserted"),
        until=("effectivePeriod",),
        known="dateAsserted",
    ),
    "MedicationAdministration": ResourceType(
        **_DRUG, time=("effectiveDateTime", "effectivePeriod"), until=("effectivePeriod",)
    ),
    "Procedure": ResourceType(time=("performedDateTime", "performedPeriod"), until=("performedPeriod",)),
    "Immunization": ResourceType(
        code="vaccineCode", subject="patient", time=("occurrenceDateTime", "recorded"), known="recorded"
    ),
    "AllergyIntolerance": ResourceType(
        subject="patient", time=("onsetDateTime", "onsetPeriod", "recordedDate"), known="recordedDate"
    ),
    "ImagingStudy": ResourceType(code="modality", time=("started",)),
}
"""The types that become tables. `Patient` makes people, `Medication` is looked up, others are counted."""

NEVER_HAPPENED = {
    "entered-in-error": "entered in error",
    "not-done": "not done",
    "not-taken": "not taken",
    "cancelled": "cancelled",
    "refuted": "refuted",
    "planned": "planned",
    "preparation": "in preparation",
    "intended": "intended",
    "draft": "draft",
    "proposed": "proposed",
    "registered": "registered, not yet there",
}

NEVER_KNOWN = "known decades after all other dates"
STAYS = ("IMP", "ACUTE", "NONAC", "INPATIENT")  # classes of encounters whose diagnoses are given at their end

NO_FACT = {  # by column, what makes a statement none about the patient, or none of a fact
    "intent": {
        "proposal": "a proposal, not an order",
        "plan": "a plan, not an order",
        "option": "an option, not an order",
    },
    "verification": {
        "provisional": "a provisional diagnosis",
        "differential": "a differential diagnosis",
    },
    "focus": dict.fromkeys(
        ("Patient", "RelatedPerson", "Person", "Group", "Practitioner", "other"),
        "about somebody else (focus)",
    ),
}
DENIED = ("notDone", "notGiven", "notPerformed", "wasNotGiven", "wasNotTaken")  # of earlier versions of FHIR

COLUMNS = {  # of a row as it is read; the times still as text
    "subject": pl.UInt32,
    "copy": pl.UInt32,
    "version": pl.String,
    "time": pl.String,
    "known": pl.String,
    "until": pl.String,
    "concept": pl.UInt32,
    "value": pl.Float64,
    "unit": pl.String,
    "text": pl.String,
    "category": pl.String,
    "encounter": pl.String,
    "resource": pl.String,
    "intent": pl.String,
    "verification": pl.String,
    "focus": pl.String,
    "choice": pl.String,  # the column that chooses a row which is refused otherwise
    "refused": pl.String,
}
