"""Resources that happened, as rows: one for each thing that can become a node."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any

import polars as pl

from gnnpatient.readers.fhir.concepts import Concepts
from gnnpatient.readers.fhir.elements import (
    NOWHERE,
    REFERENCE,
    Element,
    as_dict,
    as_dicts,
    as_list,
    as_number,
    as_text,
    code_of,
    first_of,
    last_step,
    lower_code,
    moment_text,
    reference,
)
from gnnpatient.readers.fhir.frames import column, day_end, until_as_known, utc_times
from gnnpatient.readers.fhir.notes import Notes
from gnnpatient.readers.fhir.resources import (
    COLUMNS,
    DENIED,
    NEVER_HAPPENED,
    NO_FACT,
    RESOURCE_TYPES,
    RXNORM,
    SNOMED,
    ResourceType,
)
from gnnpatient.readers.standard import BOUND

CHUNK = 1 << 16  # rows that wait as Python objects before they become a frame

Value = tuple[int | None, float | None, str | None, str | None]  # answer, value, unit, text
NO_VALUE: Value = (None, None, None, None)


@dataclass(eq=False)
class Events:
    """The rows that were read so far, by type of resource.

    Attributes
    ----------
    concepts : Concepts
        Numbers of their codes.
    notes : Notes
        Get what is noticed.
    subjects : dict of str to int
        A number for each reference to a patient.
    resources : int
        How many were read.
    rows : dict of str to list of tuple
        Rows that wait to become a frame, by type.
    parts : dict of str to list of polars.DataFrame
        Frames of rows, by type.
    """

    concepts: Concepts
    notes: Notes
    subjects: dict[str, int] = field(default_factory=dict)  # a number for each reference to a patient
    resources: int = 0
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)  # waiting to become a frame
    parts: dict[str, list[pl.DataFrame]] = field(default_factory=dict)

    def add(self, kind: str, resource: Element, bundle_urls: Mapping[str, str], id: str) -> None:
        """The rows of one resource.

        Parameters
        ----------
        kind : str
            Type of the resource.
        resource : dict
            One resource, as JSON gives it.
        bundle_urls : mapping of str to str
            The resources of its Bundle: Type/id by full URL.
        id : str
            Its id; "" = it has none.
        """
        layout = RESOURCE_TYPES[kind]
        self.resources += 1
        statement = {
            "intent": lower_code(resource.get("intent")),
            "verification": lower_code(resource.get("verificationStatus")),
            "focus": self._focus(resource, layout.subject, bundle_urls),
        }
        choice, refused = _refusal(resource, statement)
        encounter = reference(resource.get("encounter") or resource.get("context"), bundle_urls)
        head = (
            self._subject(resource, layout.subject, bundle_urls),
            self.resources,
            as_text(as_dict(resource.get("meta")).get("lastUpdated")),
            moment_text(resource, layout.time, "start"),
            as_text(resource.get(layout.known)),
            moment_text(resource, layout.until, "end"),
        )
        tail = (
            code_of(first_of(resource.get(layout.category))),
            id if kind == "Encounter" else last_step(encounter) if encounter else None,
            id or None,
            *statement.values(),
            choice,
            refused,
        )
        for concept, (answer, value, unit, text) in self._nodes(kind, layout, resource, bundle_urls):
            self._add(kind, (*head, self.concepts.answer(concept, answer), value, unit, text, *tail))

    def refuse(self, kind: str, reason: str) -> None:
        """A row of a line that is no resource.

        Parameters
        ----------
        kind : str
            Type of the resource.
        reason : str
            Why.
        """
        self._add(kind, (*[None] * (len(COLUMNS) - 1), reason))

    def types(self) -> list[str]:
        """The types that have a table: all that can have one, and what else has rows.

        Returns
        -------
        list of str
            Encounter comes first.
        """
        others = (self.rows.keys() | self.parts.keys()) - RESOURCE_TYPES.keys()
        return [*RESOURCE_TYPES, *sorted(others)]

    def frame(self, kind: str) -> pl.DataFrame:
        """All rows of a type, which are forgotten here.

        Parameters
        ----------
        kind : str
            Type of the resource.

        Returns
        -------
        polars.DataFrame
            The columns of `COLUMNS`, with times as Datetime and `_bare` beside each.
        """
        if self.rows.get(kind) or kind not in self.parts:
            self._flush(kind)
        return pl.concat(self.parts.pop(kind))

    def _add(self, kind: str, row: tuple[Any, ...]) -> None:
        rows = self.rows.setdefault(kind, [])
        rows.append(row)
        if len(rows) >= CHUNK:
            self._flush(kind)

    def _subject(self, resource: Element, subject: str, bundle_urls: Mapping[str, str]) -> int | None:
        raw = reference(resource.get(subject), bundle_urls)
        if raw is None:
            return None
        if raw.startswith("#"):  # a Patient that stands inside an event has no identity outside it
            inside = [
                c.get("resourceType") for c in as_dicts(resource.get("contained")) if c.get("id") == raw[1:]
            ]
            raw = NOWHERE if inside in ([], ["Patient"]) else "Group/contained"
        return self.subjects.setdefault(raw, len(self.subjects))

    def _focus(self, resource: Element, subject: str, bundle_urls: Mapping[str, str]) -> str | None:
        """The type of what a statement is about, where that is not the patient in whose record it stands."""
        for one in as_dicts(as_list(resource.get("focus"))):
            raw = reference(one, bundle_urls) or ""
            if raw.startswith("#"):
                inside = (c for c in as_dicts(resource.get("contained")) if c.get("id") == raw[1:])
                return as_text(next(inside, {}).get("resourceType")) or "other"
            match = REFERENCE.fullmatch(raw)
            patient = REFERENCE.fullmatch(reference(resource.get(subject), bundle_urls) or "")
            if match is None:
                return as_text(one.get("type")) or "other"
            if patient is None or match.group(2, 3) != patient.group(2, 3):
                return match[2]
        return None

    def _nodes(
        self, kind: str, layout: ResourceType, resource: Element, bundle_urls: Mapping[str, str]
    ) -> Iterator[tuple[int | None, Value]]:
        """Concept and value of each row that a resource makes."""
        if kind == "ImagingStudy":
            yield from self._series(resource)
            return
        if kind.startswith("Medication"):
            dose = as_dict(as_dict(resource.get("dosage")).get("dose")) if kind.endswith("stration") else {}
            yield self._medicine(resource, bundle_urls), self._quantity(dose)
            return
        concept = self.concepts.of(first_of(resource.get(layout.code)), layout.prefer)
        if kind == "Encounter" and concept is None:
            coding = as_dict(first_of(resource.get("class")))
            if code := as_text(coding.get("code")):
                concept = self.concepts.coded(coding.get("system"), code, coding.get("display"))
        if kind == "DiagnosticReport":
            yield concept, (None, None, None, as_text(resource.get("conclusion")))
        elif kind == "Observation":
            components = as_dicts(resource.get("component"))
            value = self._value(resource)
            if not components or value != NO_VALUE:
                yield concept, value
            for part in components:
                yield self.concepts.of(part.get("code"), layout.prefer), self._value(part)
        else:
            yield concept, NO_VALUE

    def _medicine(self, resource: Element, bundle_urls: Mapping[str, str]) -> int | None:
        concept = self.concepts.of(resource.get("medicationCodeableConcept"), RXNORM)
        if concept is not None:
            return concept
        medicine = resource.get("medicationReference")
        raw = reference(medicine, bundle_urls)
        if raw is None:
            return self.concepts.of({"text": as_dict(medicine).get("display")}, RXNORM)
        if raw.startswith("#"):
            inside = (c for c in as_dicts(resource.get("contained")) if c.get("id") == raw[1:])
            return self.concepts.of(next(inside, {}).get("code"), RXNORM)
        match = REFERENCE.fullmatch(raw)
        return self.concepts.medicine(match[3]) if match and match[2] == "Medication" else None

    def _series(self, study: Element) -> Iterator[tuple[int | None, Value]]:
        """A row for each modality and body site; the value counts images, else series."""
        groups: dict[tuple[str, str], list[Element]] = {}
        for series in as_dicts(study.get("series")):
            site = as_dict(series.get("bodySite"))
            place = as_text(site.get("display")) or as_text(site.get("code")) or ""
            groups.setdefault((code_of(series.get("modality")) or "", place), []).append(series)
        if not groups:
            groups = {(code_of(m) or "", ""): [] for m in as_list(study.get("modality"))}
        for (modality, place), members in groups.items():
            images = [as_number(series.get("numberOfInstances")) for series in members]
            counted = [n for n in images if n is not None]
            value = float(sum(counted)) if counted and len(counted) == len(images) else None
            series_ = float(len(members)) if members else None
            if len(groups) == 1:  # then the study's own figures are this group's
                value = as_number(study.get("numberOfInstances")) or value
                series_ = as_number(study.get("numberOfSeries")) or series_
            concept = self.concepts.coded(f"imaging {place}", modality, place) if modality else None
            if value is not None:
                yield concept, (None, value, "images", None)
            else:
                yield concept, (None, series_, None if series_ is None else "series", None)

    def _value(self, holder: Element) -> Value:
        """The value of an Observation or of a component."""
        if holder.get("dataAbsentReason"):
            return NO_VALUE
        if isinstance(element := holder.get("valueQuantity"), dict):
            return self._quantity(element)
        if isinstance(element := holder.get("valueCodeableConcept"), dict):
            return self.concepts.of(element, SNOMED), None, None, None
        for name, element in holder.items():
            if name.startswith("value") and element is not None:
                if isinstance(element, bool):
                    return None, float(element), None, None
                if name == "valueInteger" and (value := as_number(element)) is not None:
                    return None, value, None, None
                return self._text(element)
        return NO_VALUE

    def _quantity(self, quantity: Element) -> Value:
        number = quantity.get("value")
        if number is None:
            return NO_VALUE
        value = as_number(number)
        if value is None:
            return self._text(number)
        bound = None
        if comparator := as_text(quantity.get("comparator")):
            self.notes.count["value(s) with a comparator (<, >)"] += 1
            bound = f"{comparator}{value!r}"
        unit = as_text(quantity.get("code")) or as_text(quantity.get("unit"))
        if unit and re.search(r"\s", re.sub(r"\{.*?\}", "", unit)):
            self.notes.count["value(s) have a unit in words, not in UCUM"] += 1
        return None, value, unit, bound

    def _text(self, element: object) -> Value:
        text = element
        if not isinstance(text, str):
            text = json.dumps(element, sort_keys=True, ensure_ascii=False)
        if not text.strip():
            return NO_VALUE
        bound = re.fullmatch(BOUND, text) is not None
        self.notes.count[
            "value(s) with a comparator (<, >)" if bound else "Observation value(s) are text"
        ] += 1
        return None, None, None, text

    def _flush(self, kind: str) -> None:
        """The waiting rows of a table as a frame with times."""
        rows = self.rows.pop(kind, [])
        cells = dict(zip_longest(COLUMNS, zip(*rows, strict=True), fillvalue=()))
        frame = pl.DataFrame([column(name, list(cells[name]), dtype) for name, dtype in COLUMNS.items()])
        lost = frame["copy"].is_null()  # all False, but for lines that are refused anyway
        for name in ("time", "known", "until"):
            stamp, bare = utc_times(frame[name], self.notes.count)
            lost |= frame[name].is_not_null() & stamp.is_null()
            frame = frame.with_columns(stamp, bare.alias(f"{name}_bare"))
        frame = frame.with_columns(pl.when(lost).then(pl.lit("not a time")).alias("no time"))
        frame = frame.with_columns(recorded=pl.col("known").is_not_null())
        layout = RESOURCE_TYPES.get(kind)
        if layout and layout.known == "issued":  # what was measured over a period is not known before its end
            frame = until_as_known(frame, (day_end("until") > day_end("known")) | pl.col("known").is_null())
        elif layout and layout.known:
            keep = (day_end("known") > day_end("time")).fill_null(False)
            frame = frame.with_columns(
                pl.when(keep).then(pl.col(n)).alias(n) for n in ("known", "known_bare")
            )
        self.parts.setdefault(kind, []).append(frame)


def _refusal(resource: Element, statement: Mapping[str, str | None]) -> tuple[str | None, str | None]:
    """The column that may choose a resource in spite of its refusal, and that refusal; None: none."""
    refused = NEVER_HAPPENED.get(lower_code(resource.get("status")) or "")
    refused = refused or NEVER_HAPPENED.get(statement["verification"] or "")
    if resource.get("doNotPerform") is True:
        refused = refused or "not to be done"
    if any(resource.get(name) is True for name in DENIED):
        refused = refused or "not done"
    if refused is not None:
        return None, refused
    choice = next((name for name, why in NO_FACT.items() if statement[name] in why), None)
    return choice, None if choice is None else NO_FACT[choice][statement[choice] or ""]
