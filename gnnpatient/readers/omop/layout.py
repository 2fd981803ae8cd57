"""Which columns of the CDM's clinical tables hold what, and which concepts mean something here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Which columns of one CDM table hold what.

    Attributes
    ----------
    prefix : str
        What its codes begin with.
    start, end : str
        X of the columns X_date and X_datetime; "" = no end.
    concept : tuple of str
        Columns of concepts, of which the first that is not 0 counts.
    source : str
        Column that stands for a concept that is missing or 0.
    value : str
        Column of numbers; "" = none.
    unit : tuple of str
        Columns of the unit's concept and of its source value.
    text : tuple of str
        Columns of text, of which the first that is not empty counts.
    """

    prefix: str
    start: str  # of the names <start>_date and <start>_datetime
    end: str = ""
    concept: tuple[str, ...] = ()  # the first that is not 0 counts
    source: str = ""  # what stands for a concept that is missing or 0
    value: str = ""
    unit: tuple[str, str] = ("", "")  # concept, source value
    text: tuple[str, ...] = ()  # the first that is not empty counts


VALUE = "value_as_number"
_UNIT = ("unit_concept_id", "unit_source_value")
LAYOUTS = {
    "visit_occurrence": Layout(
        "VISIT", "visit_start", "visit_end", ("visit_concept_id",), "visit_source_value"
    ),
    "condition_occurrence": Layout(
        "CONDITION", "condition_start", "condition_end", ("condition_concept_id",), "condition_source_value"
    ),
    "drug_exposure": Layout(
        "DRUG",
        "drug_exposure_start",
        "drug_exposure_end",
        ("drug_concept_id",),
        "drug_source_value",
        value="quantity",
        unit=("", "dose_unit_source_value"),
    ),
    "measurement": Layout(
        "MEASUREMENT",
        "measurement",
        concept=("measurement_concept_id",),
        source="measurement_source_value",
        value=VALUE,
        unit=_UNIT,
        text=("value_as_string", "value_source_value"),
    ),
    "observation": Layout(
        "OBSERVATION",
        "observation",
        concept=("observation_concept_id",),
        source="observation_source_value",
        value=VALUE,
        unit=_UNIT,
        text=("value_as_string", "value_source_value"),
    ),
    "procedure_occurrence": Layout(
        "PROCEDURE", "procedure", concept=("procedure_concept_id",), source="procedure_source_value"
    ),
    "device_exposure": Layout(
        "DEVICE",
        "device_exposure_start",
        "device_exposure_end",
        ("device_concept_id",),
        "device_source_value",
    ),
    "note": Layout(
        "NOTE",
        "note",
        concept=("note_class_concept_id", "note_type_concept_id"),
        source="note_title",
        text=("note_text",),
    ),
    "death": Layout("DEATH", "death"),
}

STAYS = (9201, 262, 8717, 32037, 8971, 8920, 581379, 581382, 581383, 581384)
"""Visits whose diagnosis codes are given at their end: inpatient (with or without an emergency room before),
hospital, intensive care, psychiatric and rehabilitation stays, and inpatient units of their own."""

ANCESTOR = ("ancestor_concept_id", "descendant_concept_id", "min_levels_of_separation")
NAMED = frozenset(  # columns of concepts whose names are used
    [f"{what}_concept_id" for what in ("gender", "race", "ethnicity", "cause", "value_as")]
    + [name for layout in LAYOUTS.values() for name in (*layout.concept, layout.unit[0]) if name]
)
BOUNDS = {4171756: "<", 4171754: "<=", 4172704: ">", 4171755: ">="}  # operators
CODED = "value_as_concept_id"
