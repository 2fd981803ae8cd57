"""Patients of a folder, each once, and the people that they become."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from pathlib import Path

import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.readers.fhir.elements import (
    REFERENCE,
    Element,
    as_dict,
    as_dicts,
    as_text,
    label,
    last_step,
)
from gnnpatient.readers.fhir.frames import at_latest, column, utc_times
from gnnpatient.readers.fhir.notes import Notes

US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
BIRTH_TIME = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"
FIELDS = ("birth", "moment", "gender", "race", "ethnicity", "marital", "death", "deceased")


@dataclass(eq=False)
class Person:
    """What a Patient says of somebody.

    Attributes
    ----------
    values : tuple of str or None
        One a field of `FIELDS`.
    version : str or None
        meta.lastUpdated.
    servers : set of str
        Base addresses under which the Patient is known.
    """

    values: tuple[str | None, ...]  # one a field
    version: str | None
    servers: set[str]  # base addresses under which the Patient is known


@dataclass(eq=False)
class Patients:
    """The Patients that were read so far.

    Attributes
    ----------
    notes : Notes
        Get what is noticed.
    people : dict of str to Person
        By id.
    addresses : dict of str to str
        Patient/id by full URL, of all bundles.
    """

    notes: Notes
    people: dict[str, Person] = field(default_factory=dict)
    addresses: dict[str, str] = field(default_factory=dict)  # Patient/id by full URL, of all bundles

    def add(self, patient: Element, id: str, path: Path) -> None:
        """One Patient, or another copy of it.

        Parameters
        ----------
        patient : dict
            The resource.
        id : str
            Its id; "" = it has none, and is not read.
        path : Path
            Its file, for the message.

        Raises
        ------
        InputError
            If two copies contradict each other.
        """
        if not id:
            self.notes.count["Patient(s) without an id not read"] += 1
            return
        if patient.get("link"):
            self.notes.count["Patient(s) linked to another; each stays a person of its own"] += 1
        moments = as_dicts(as_dict(patient.get("_birthDate")).get("extension"))
        death = as_text(patient.get("deceasedDateTime"))
        values = {
            "birth": as_text(patient.get("birthDate")),
            "moment": next(
                (as_text(e.get("valueDateTime")) for e in moments if e.get("url") == BIRTH_TIME), None
            ),
            "gender": as_text(patient.get("gender")),
            "race": _us_core(patient, "race"),
            "ethnicity": _us_core(patient, "ethnicity"),
            "marital": label(patient.get("maritalStatus")),
            "death": death,
            "deceased": "yes" if death else _deceased(patient),
        }
        new = Person(
            tuple(values[name] for name in FIELDS),
            as_text(as_dict(patient.get("meta")).get("lastUpdated")),
            set(),
        )
        if (old := self.people.get(id)) is not None:
            new = self._merged(old, new, path)
        self.people[id] = new

    def _merged(self, old: Person, new: Person, path: Path) -> Person:
        """One person of two copies."""
        differ = [n for n, a, b in zip(FIELDS, old.values, new.values, strict=True) if a and b and a != b]
        for name in ("birth", "gender"):
            if name in differ:
                raise InputError(
                    f"{path}: a Patient appears twice in the folder under one id, with two values of {name}; "
                    "keep the right one"
                )
        self.notes.count["Patient(s) appear twice under one id; taken as one"] += 1
        was, now = _instant(old.version), _instant(new.version)
        if was is not None and now is not None and was != now:
            return new if now > was else old
        if differ:
            raise InputError(
                f"{path}: a Patient appears twice in the folder under one id, with two values of {differ[0]} "
                "and no meta.lastUpdated that tells which is newer; keep the right one"
            )
        values = tuple(a or b for a, b in zip(old.values, new.values, strict=True))
        return Person(values, old.version or new.version, old.servers)

    def note_servers(self) -> None:
        """Note under which servers each Patient is known."""
        for url, name in self.addresses.items():
            base = url.removesuffix(name)
            if base != url and (person := self.people.get(last_step(name))):
                person.servers.add(base.rstrip("/"))
        self.notes.count["Patient(s) of two servers under one id; taken as one"] = sum(
            len(person.servers) > 1 for person in self.people.values()
        )

    def resolve(self, raw: str) -> tuple[str | None, str | None]:
        """The patient behind a reference.

        Parameters
        ----------
        raw : str
            The reference.

        Returns
        -------
        id : str or None
            Of the patient.
        reason : str or None
            Why there is none.
        """
        match = REFERENCE.fullmatch(self.addresses.get(raw, raw))
        if match is None:
            return None, "patient not in the data"
        server, kind, id = match.groups()
        if kind != "Patient":
            return None, "subject is not a patient"
        person = self.people.get(id)
        if person is None or (server and person.servers and server not in person.servers):
            return None, "patient not in the data"
        return id, None

    def frame(self, last: pl.DataFrame) -> pl.DataFrame:
        """A row a person, by id.

        Parameters
        ----------
        last : polars.DataFrame
            `id`, `last`, `last_bare`: times at which people were seen; several rows a person.

        Returns
        -------
        polars.DataFrame
            As the people of `StandardTables`.
        """
        rows = zip(*(person.values for person in self.people.values()), strict=True)
        cells = dict(zip_longest(FIELDS, rows, fillvalue=()))
        people = pl.DataFrame(
            [column("id", list(self.people)), *(column(name, list(cells[name])) for name in FIELDS)]
        )
        people = people.with_columns(pl.coalesce("moment", "birth").alias("birth")).drop("moment")
        for name in ("birth", "death"):
            stamp, bare = utc_times(people[name], self.notes.count)
            if lost := people[name].count() - stamp.count():
                self.notes.count[f"Patient(s) with a {name} that is not a date"] += lost
            people = people.with_columns(stamp, bare.alias(f"{name}_bare"))
        died = people.select("id", last="death", last_bare="death_bare").drop_nulls("last")
        last = pl.concat([last, died], how="vertical_relaxed")  # whoever died was observed until then
        last = last.group_by("id").agg(at_latest("last"), at_latest("last_bare"))
        order = ["id", "birth", "birth_bare", "gender", "race", "ethnicity", "marital", "death", "death_bare"]
        return (
            people.join(last, on="id", how="left").select(*order, "deceased", "last", "last_bare").sort("id")
        )


def _us_core(patient: Element, name: str) -> str | None:
    """The text of a US core extension, or the name of its first category."""
    for extension in as_dicts(patient.get("extension")):
        if extension.get("url") == US_CORE + name:
            parts = as_dicts(extension.get("extension"))
            text = (as_text(p.get("valueString")) for p in parts if p.get("url") == "text")
            group = (as_text(as_dict(p.get("valueCoding")).get("display")) for p in parts)
            return next(filter(None, text), None) or next(filter(None, group), None)
    return None


def _deceased(patient: Element) -> str | None:
    """Whether a Patient without a date of death is dead: "yes", "no", or None where nothing says so.

    A flag may be written as text or number. A date that is there and cannot be had, as of the reason
    "unknown", is that of somebody who died; "not-applicable" is that of somebody who did not.
    """
    flag = patient.get("deceasedBoolean")
    flag_word = None if flag is None else str(flag).strip().lower()
    if patient.get("deceasedDateTime") or flag_word in ("true", "1", "1.0"):
        return "yes"
    reasons = as_dicts(as_dict(patient.get("_deceasedDateTime")).get("extension"))
    if reasons and not any(as_text(reason.get("valueCode")) == "not-applicable" for reason in reasons):
        return "yes"
    return "no" if flag_word in ("false", "0", "0.0") else None


def _instant(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return at if at.tzinfo else None
