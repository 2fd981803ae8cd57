"""FHIR R4: a folder of bundles, single resources and bulk exports as people and tables of events.

One row for each thing that can become a node: an Observation gives one for its own value and one for each
component, an ImagingStudy one for each modality and body site, any other resource one. Of a Patient the words
in `FIELDS` leave this file and nothing else: no name, address, telecom, identifier or picture.

Beside the columns of every format a table has `category` (of an Encounter its `class`), `encounter` and
`resource` (ids without their type). The status that a resource had when it was exported is no column: it says
what became of an order or a diagnosis later. It only refuses.

A table also has, if any row says it, `intent`, `verification` and `focus` (the type of what a statement is
about where that is not the patient). What is no fact about the patient is refused: a proposal, plan, option;
a provisional or differential diagnosis; a focus on somebody else, a fetus or a donor (not one on a body
structure or a device). But it is used where `where` names that column, as in
verification = ["confirmed", "provisional"].
"""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from pathlib import Path
from typing import Any, NoReturn

import polars as pl

from gnnpatient.errors import InputError
from gnnpatient.readers.dates import end_of_day, iso
from gnnpatient.readers.standard import BOUND, StandardTables, latest_ordinary

LIMIT = 2 << 30  # bytes of one JSON document; a line of a bulk export is one
LINE = 256 << 20
CHUNK = 1 << 16  # rows that wait as Python objects before they become a frame

LOINC = "http://loinc.org"
SNOMED = "http://snomed.info/sct"
RXNORM = "http://www.nlm.nih.gov/research/umls/rxnorm"
US_CORE = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-"
BIRTH_TIME = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """Where a resource keeps what a row needs. Of several fields the first that is given counts."""

    code: str = "code"
    prefer: str = SNOMED  # of several codings the first of this system, else the first
    who: str = "subject"
    time: tuple[str, ...]  # a Period gives its start
    until: tuple[str, ...] = ()  # a Period gives its end
    known: str = ""
    category: str = "category"


_DRUG: dict[str, Any] = {"code": "medicationCodeableConcept", "prefer": RXNORM}
KINDS = {
    "Encounter": _Kind(code="type", time=("period",), until=("period",), category="class"),
    "Condition": _Kind(
        time=("onsetDateTime", "onsetPeriod", "recordedDate"),
        until=("abatementDateTime", "abatementPeriod"),
        known="recordedDate",
    ),
    "Observation": _Kind(
        prefer=LOINC,
        time=("effectiveDateTime", "effectivePeriod", "effectiveInstant", "issued"),
        until=("effectivePeriod",),
        known="issued",
    ),
    "DiagnosticReport": _Kind(
        prefer=LOINC,
        time=("effectiveDateTime", "effectivePeriod", "issued"),
        until=("effectivePeriod",),
        known="issued",
    ),
    "MedicationRequest": _Kind(**_DRUG, time=("authoredOn",)),
    "MedicationStatement": _Kind(
        **_DRUG,
        time=("effectiveDateTime", "effectivePeriod", "dateAsserted"),
        until=("effectivePeriod",),
        known="dateAsserted",
    ),
    "MedicationAdministration": _Kind(
        **_DRUG, time=("effectiveDateTime", "effectivePeriod"), until=("effectivePeriod",)
    ),
    "Procedure": _Kind(time=("performedDateTime", "performedPeriod"), until=("performedPeriod",)),
    "Immunization": _Kind(
        code="vaccineCode", who="patient", time=("occurrenceDateTime", "recorded"), known="recorded"
    ),
    "AllergyIntolerance": _Kind(
        who="patient", time=("onsetDateTime", "onsetPeriod", "recordedDate"), known="recordedDate"
    ),
    "ImagingStudy": _Kind(code="modality", time=("started",)),
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

FIELDS = ("birth", "moment", "gender", "race", "ethnicity", "marital", "death", "deceased")
COLUMNS = {  # of a row as it is read; the times still as text
    "who": pl.UInt32,
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
_REFERENCE = re.compile(r"(?:(.*)/)?([A-Z][A-Za-z]+)/([^/?#|]+)(?:/_history/[^/]*)?")
_NOWHERE = "?"  # a reference that leads to no resource, or to two

Thing = dict[str, Any]
Value = tuple[int | None, float | None, str | None, str | None]  # answer, value, unit, text
_NOTHING: Value = (None, None, None, None)


def read(folder: Path) -> StandardTables:
    """All *.json (a Bundle or one resource), *.ndjson and *.jsonl (a resource a line) or .gz of these.

    Times are UTC. A year or a month stands for its last day, so that nothing is known too early. A Condition
    of an inpatient encounter (by its reference, else by its day) is known at the end of that stay, unless
    recordedDate says when it was recorded. A value
    that is a code goes into the row's code, other text into `text`; both leave the value missing. With a
    comparator there are both value and text, as in <5.
    Two copies of a Patient: refused where birth or gender differ. Else the newest by meta.lastUpdated counts;
    without it they must agree in what both say. Of two versions of any other resource the newest counts
    likewise; where nothing tells which is newer, all their rows are refused.
    Every table is there, if need be without rows; `Patient` has the deaths, as code DEATH, without a time
    where only `deceasedBoolean` says so; `Resource` only lines that no other table can own.

    Refused: nothing to read, a file that is cut, damaged, no JSON, no FHIR, nested too deep or over 2 GB.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    files = sorted(
        path
        for path in folder.rglob("*")
        if _form(path) and path.is_file() and not any(p[0] == "." for p in path.relative_to(folder).parts)
    )
    if not files:
        raise InputError(f"{folder}: no FHIR in it; it takes *.json or *.ndjson files, also as .gz")
    heap = _Heap()
    for path in files:
        with _sound(path):
            if _form(path) == ".json":
                heap.take(_document(path), path)
            else:
                heap.lines(path, path.relative_to(folder).as_posix())
    return heap.door()


# Files


def _form(path: Path) -> str | None:
    """`.json`, `.ndjson` or neither, by the name."""
    name = path.name.lower().removesuffix(".gz")
    if name.endswith((".ndjson", ".jsonl")):
        return ".ndjson"
    return ".json" if name.endswith(".json") else None


@contextmanager
def _sound(path: Path) -> Iterator[None]:
    """What a damaged file raises, as a refusal that names it."""
    try:
        yield
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({str(error).splitlines()[0]}); copy it again") from None
    except RecursionError:
        raise InputError(f"{path}: nested too deep for FHIR") from None
    except _NotJson as error:
        raise InputError(f"{path}: {error}") from None


def _open(path: Path) -> io.BufferedIOBase:
    return gzip.open(path) if path.name.lower().endswith(".gz") else path.open("rb")


class _NotJson(ValueError):
    """Why a text cannot be read."""


def _constant(word: str) -> NoReturn:
    raise _NotJson(f"not JSON: {word} is no number")


_decode = json.JSONDecoder(parse_constant=_constant).decode


def _parsed(data: bytes) -> Any:
    """The JSON of one document; `_NotJson` says where it ends to be that."""
    try:
        return _decode(str(data, "utf-8-sig"))
    except UnicodeDecodeError as error:
        raise _NotJson(f"not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except json.JSONDecodeError as error:
        hint = "name it .ndjson if each line is a resource" if error.msg == "Extra data" else "is it cut?"
        place = f"line {error.lineno}, column {error.colno}"
        raise _NotJson(f"not JSON at {place} ({error.msg}); {hint}") from None
    except RecursionError:
        raise _NotJson("nested too deep for FHIR; is it a Bundle or a resource?") from None
    except _NotJson:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise _NotJson(f"not JSON: {str(error).partition(';')[0]}") from None


def _document(path: Path) -> Thing:
    """The one resource of a file."""
    chunks, size = [], path.stat().st_size
    with _open(path) as handle:
        while size <= LIMIT and (chunk := handle.read(1 << 20)):
            chunks.append(chunk)
            size = max(size, len(chunks) << 20)  # what a .gz unfolds to
    if size > LIMIT:
        raise InputError(f"{path}: over {LIMIT >> 30} GB; split the Bundle, or export it as .ndjson")
    found = _parsed(b"".join(chunks))
    if not isinstance(found, dict) or not isinstance(found.get("resourceType"), str):
        raise InputError(f"{path}: not a FHIR resource, there is no resourceType; move it elsewhere")
    return found


# Pieces of a resource; anything may be of the wrong shape and is then not there


def _dict(given: object) -> Thing:
    return given if isinstance(given, dict) else {}


def _dicts(given: object) -> list[Thing]:
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def _word(given: object) -> str | None:
    return given.strip() or None if isinstance(given, str) else None


def _first(given: object) -> object:
    """An element that may stand once or in a list."""
    return given[0] if isinstance(given, list) and given else given


def _moment(resource: Thing, fields: Iterable[str], end: str) -> str | None:
    """The first time that is given; of a Period its `end`."""
    for name in fields:
        given = resource.get(name)
        if given is not None and (word := _word(given.get(end) if isinstance(given, dict) else given)):
            return word
    return None


def _number(given: object) -> float | None:
    """A finite number, or None."""
    if isinstance(given, int | float) and not isinstance(given, bool) and abs(given) < 1e300:
        return float(given)
    return None


def _token(concept: object) -> str | None:
    """The code of a Coding or of the first of a CodeableConcept, or a code as it stands."""
    if isinstance(concept, str):
        return _word(concept)
    concept = _dict(concept)
    return _word(concept.get("code")) or next(
        (word for coding in _dicts(concept.get("coding")) if (word := _word(coding.get("code")))), None
    )


def _small(concept: object) -> str | None:
    """The same of a code of FHIR's own, which is in small letters however it is written."""
    word = _token(concept)
    return None if word is None else word.lower()


def _label(concept: object) -> str | None:
    """What a CodeableConcept is called, for people to read."""
    concept = _dict(concept)
    displays = (_word(coding.get("display")) for coding in _dicts(concept.get("coding")))
    return next(filter(None, displays), None) or _word(concept.get("text")) or _token(concept)


def _us_core(patient: Thing, name: str) -> str | None:
    """The text of a US core extension, or the name of its first category."""
    for extension in _dicts(patient.get("extension")):
        if extension.get("url") == US_CORE + name:
            parts = _dicts(extension.get("extension"))
            text = (_word(p.get("valueString")) for p in parts if p.get("url") == "text")
            group = (_word(_dict(p.get("valueCoding")).get("display")) for p in parts)
            return next(filter(None, text), None) or next(filter(None, group), None)
    return None


# Codes


@dataclass(eq=False)
class _Concepts:
    """Numbers for codes, and one name for each: its most common display in the whole folder."""

    number: dict[tuple[Any, ...], int] = field(default_factory=dict)
    displays: dict[int, Counter[str]] = field(default_factory=dict)
    medicines: dict[str, int | None] = field(default_factory=dict)  # concept by id of a Medication

    def _of(self, *key: Any) -> int:
        return self.number.setdefault(key, len(self.number))

    def coded(self, system: object, code: str, display: object) -> int:
        number = self._of("code", system if isinstance(system, str) else "", code)
        if isinstance(display, str):
            self.displays.setdefault(number, Counter())[display] += 1
        return number

    def of(self, concept: object, prefer: str) -> int | None:
        """A CodeableConcept: its preferred coding that has a code, else its text, else None."""
        concept = _dict(concept)
        best, best_code = None, ""
        for coding in _dicts(concept.get("coding")):
            system = coding.get("system")
            if (best is None or system == prefer) and (code := _word(coding.get("code"))):
                best, best_code = coding, code
                if system == prefer:
                    break
        if best is not None:
            return self.coded(best.get("system"), best_code, best.get("display"))
        text = _word(concept.get("text"))
        return None if text is None else self._of("text", text)

    def medicine(self, id: str) -> int:
        """The code of a Medication that may be read later."""
        return self._of("medicine", id)

    def answer(self, concept: int | None, answer: int | None) -> int | None:
        """A code whose value is a code."""
        return concept if concept is None or answer is None else self._of("answer", concept, answer)

    def names(self) -> tuple[list[str | None], list[str]]:
        """By number, without the type in front; and flags."""
        names: list[str | None] = []
        short: list[str | None] = []
        shared: Counter[str] = Counter()
        for number, (kind, *key) in enumerate(self.number):
            name: str | None = None
            shown = None
            if kind == "code":
                displays: Counter[str] = Counter()
                for display, n in self.displays.get(number, {}).items():
                    displays[_clean(display)] += n
                del displays[""]
                shown = min(displays, key=lambda d: (-displays[d], d), default=None)
                code = _clean(key[1])
                name = code if shown in (None, code) else f"{code} {shown}"
                shown = shown or code
                shared[name] += 1
            elif kind == "text":
                name = shown = _clean(key[0]) or None
            elif kind == "answer" and (asked := names[key[0]]) is not None:
                name = f"{asked}//{short[key[1]] or '?'}"
            names.append(name)
            short.append(shown)
        for (kind, *key), number in self.number.items():
            found = self.medicines.get(key[0]) if kind == "medicine" else None
            if found is not None:
                names[number] = names[found]
        several = sum(n > 1 for n in shared.values())
        return names, [f"{several} code(s) of two systems have one name"] * (several > 0)


def _clean(text: str) -> str:
    """On one line, without characters that a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


# Resources to rows


@dataclass(eq=False)
class _Person:
    said: tuple[str | None, ...]  # one a field
    version: str | None
    servers: set[str]  # base addresses under which the Patient is known


@dataclass(eq=False)
class _Heap:
    """What was read so far; a parsed file is gone before the next one is opened."""

    concepts: _Concepts = field(default_factory=_Concepts)
    people: dict[str, _Person] = field(default_factory=dict)
    subjects: dict[str, int] = field(default_factory=dict)  # a number for each reference to a patient
    urns: dict[str, str] = field(default_factory=dict)  # Patients of all bundles by full URL
    rows: dict[str, list[tuple[Any, ...]]] = field(default_factory=dict)
    parts: dict[str, list[pl.DataFrame]] = field(default_factory=dict)
    resources: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    count: Counter[str] = field(default_factory=Counter)
    flags: list[str] = field(default_factory=list)
    decides: list[str] = field(default_factory=list)
    visits: pl.DataFrame = field(default_factory=pl.DataFrame)  # encounters, once they are a table

    # One file

    def lines(self, path: Path, name: str) -> None:
        """A bulk export. A line that is no resource is a refused row; the others stand."""
        kinds: set[str] = set()
        bad: dict[str, list[int]] = {}
        lost: list[tuple[str, str]] = []
        with _open(path) as handle:
            number = 0
            while line := handle.readline(LINE + 1):
                number += 1
                if len(line) > LINE:
                    raise InputError(
                        f"{path}: line {number} is over {LINE >> 20} MB; split the file by lines"
                    )
                if not line.strip():
                    continue
                try:
                    found, why = _parsed(line), "not a resource"
                except _NotJson:
                    found, why = None, "not JSON"
                if isinstance(found, dict) and isinstance(found.get("resourceType"), str):
                    self.take(found, path)
                    kinds.add(found["resourceType"])
                else:
                    told = re.search(rb'"resourceType"\s*:\s*"([A-Za-z]+)"', line)
                    lost.append((told[1].decode() if told else "", why))
                    bad.setdefault(why, []).append(number)
        events = kinds & KINDS.keys()
        whose = events.pop() if len(events) == 1 else "Resource"
        for told_kind, why in lost:
            kind = told_kind if told_kind in KINDS else "Resource" if told_kind else whose
            self._add(kind, (*[None] * (len(COLUMNS) - 1), why))
        for why, numbers in bad.items():
            listed = ", ".join(map(str, numbers[:5])) + ", ..." * (len(numbers) > 5)
            self.flags.append(f"{_clean(name)}: {len(numbers)} line(s) {why}: {listed}")

    def take(self, resource: Thing, path: Path, near: Mapping[str, str] | None = None, id: str = "") -> None:
        """One resource, or all of a Bundle.

        near: the resources of its Bundle by full URL. id: for a resource that has none of its own.
        """
        kind = resource.get("resourceType")
        near, id = near or {}, _word(resource.get("id")) or id
        if kind in KINDS:
            self._event(kind, resource, near, id)
        elif kind == "Bundle":
            self._bundle(resource, path)
        elif kind == "Patient":
            self._patient(resource, id, path)
        elif kind == "Medication":
            code = self.concepts.of(resource.get("code"), RXNORM)
            if id and self.concepts.medicines.setdefault(id, code) != code:
                self.concepts.medicines[id] = None
        else:
            known = isinstance(kind, str) and re.fullmatch(r"[A-Za-z]{1,64}", kind)
            self.unread[str(kind) if known else "unknown"] += 1

    def _bundle(self, bundle: Thing, path: Path) -> None:
        entries = [(e, _dict(e.get("resource"))) for e in _dicts(bundle.get("entry"))]
        near: dict[str, str] = {}
        for entry, resource in entries:
            if not resource:
                self.count["deletion(s) in bundles not applied"] += (
                    _dict(entry.get("request")).get("method") == "DELETE"
                )
            elif url := _word(entry.get("fullUrl")):
                name = f"{resource.get('resourceType')}/{_word(resource.get('id')) or _tail(url)}"
                _point(near, url, name)
                if resource.get("resourceType") == "Patient":
                    _point(self.urns, url, name)
        for entry, resource in entries:
            if resource:
                self.take(resource, path, near, _tail(_word(entry.get("fullUrl")) or ""))

    # People

    def _patient(self, patient: Thing, id: str, path: Path) -> None:
        if not id:
            self.count["Patient(s) without an id not read"] += 1
            return
        if patient.get("link"):
            self.count["Patient(s) linked to another; each stays a person of its own"] += 1
        moments = _dicts(_dict(patient.get("_birthDate")).get("extension"))
        death = _word(patient.get("deceasedDateTime"))
        said = {
            "birth": _word(patient.get("birthDate")),
            "moment": next(
                (_word(e.get("valueDateTime")) for e in moments if e.get("url") == BIRTH_TIME), None
            ),
            "gender": _word(patient.get("gender")),
            "race": _us_core(patient, "race"),
            "ethnicity": _us_core(patient, "ethnicity"),
            "marital": _label(patient.get("maritalStatus")),
            "death": death,
            "deceased": "yes" if death else _deceased(patient),
        }
        new = _Person(
            tuple(said[name] for name in FIELDS), _word(_dict(patient.get("meta")).get("lastUpdated")), set()
        )
        if (old := self.people.get(id)) is not None:
            new = self._one(old, new, path)
        self.people[id] = new

    def _one(self, old: _Person, new: _Person, path: Path) -> _Person:
        """One person of two copies."""
        differ = [n for n, a, b in zip(FIELDS, old.said, new.said, strict=True) if a and b and a != b]
        for name in ("birth", "gender"):
            if name in differ:
                raise InputError(
                    f"{path}: a Patient stands twice in the folder under one id, with two values of {name}; "
                    "keep the right one"
                )
        self.count["Patient(s) stand twice under one id; taken as one"] += 1
        was, now = _instant(old.version), _instant(new.version)
        if was is not None and now is not None and was != now:
            return new if now > was else old
        if differ:
            raise InputError(
                f"{path}: a Patient stands twice in the folder under one id, with two values of {differ[0]} "
                "and no meta.lastUpdated that tells which is newer; keep the right one"
            )
        said = tuple(a or b for a, b in zip(old.said, new.said, strict=True))
        return _Person(said, old.version or new.version, old.servers)

    # Events

    def _event(self, kind: str, resource: Thing, near: Mapping[str, str], id: str) -> None:
        how = KINDS[kind]
        self.resources += 1
        said = {
            "intent": _small(resource.get("intent")),
            "verification": _small(resource.get("verificationStatus")),
            "focus": self._focus(resource, how.who, near),
        }
        refused = NEVER_HAPPENED.get(_small(resource.get("status")) or "")
        refused = refused or NEVER_HAPPENED.get(said["verification"] or "")
        if resource.get("doNotPerform") is True:
            refused = refused or "not to be done"
        if any(resource.get(name) is True for name in DENIED):
            refused = refused or "not done"
        choice = None
        if refused is None:
            choice = next((name for name, why in NO_FACT.items() if said[name] in why), None)
            refused = None if choice is None else NO_FACT[choice][said[choice] or ""]
        encounter = _reference(resource.get("encounter") or resource.get("context"), near)
        head = (
            self._subject(resource, how.who, near),
            self.resources,
            _word(_dict(resource.get("meta")).get("lastUpdated")),
            _moment(resource, how.time, "start"),
            _word(resource.get(how.known)),
            _moment(resource, how.until, "end"),
        )
        tail = (
            _token(_first(resource.get(how.category))),
            id if kind == "Encounter" else _tail(encounter) if encounter else None,
            id or None,
            *said.values(),
            choice,
            refused,
        )
        for concept, (answer, value, unit, text) in self._nodes(kind, how, resource, near):
            self._add(kind, (*head, self.concepts.answer(concept, answer), value, unit, text, *tail))

    def _add(self, kind: str, row: tuple[Any, ...]) -> None:
        rows = self.rows.setdefault(kind, [])
        rows.append(row)
        if len(rows) >= CHUNK:
            self._flush(kind)

    def _subject(self, resource: Thing, who: str, near: Mapping[str, str]) -> int | None:
        raw = _reference(resource.get(who), near)
        if raw is None:
            return None
        if raw.startswith("#"):  # a Patient that stands inside an event has no identity outside it
            inside = [
                c.get("resourceType") for c in _dicts(resource.get("contained")) if c.get("id") == raw[1:]
            ]
            raw = _NOWHERE if inside in ([], ["Patient"]) else "Group/contained"
        return self.subjects.setdefault(raw, len(self.subjects))

    def _focus(self, resource: Thing, who: str, near: Mapping[str, str]) -> str | None:
        """The type of what a statement is about, where that is not the patient in whose record it stands."""
        given = resource.get("focus")
        for one in _dicts(given if isinstance(given, list) else [given]):
            raw = _reference(one, near) or ""
            if raw.startswith("#"):
                inside = (c for c in _dicts(resource.get("contained")) if c.get("id") == raw[1:])
                return _word(next(inside, {}).get("resourceType")) or "other"
            match, own = (_REFERENCE.fullmatch(r or "") for r in (raw, _reference(resource.get(who), near)))
            if match is None:
                return _word(one.get("type")) or "other"
            if own is None or match.group(2, 3) != own.group(2, 3):
                return match[2]
        return None

    def _nodes(
        self, kind: str, how: _Kind, resource: Thing, near: Mapping[str, str]
    ) -> Iterator[tuple[int | None, Value]]:
        """Concept and value of each row that a resource makes."""
        if kind == "ImagingStudy":
            yield from self._series(resource)
            return
        if kind.startswith("Medication"):
            dose = _dict(_dict(resource.get("dosage")).get("dose")) if kind.endswith("stration") else {}
            yield self._medicine(resource, near), self._quantity(dose)
            return
        concept = self.concepts.of(_first(resource.get(how.code)), how.prefer)
        if kind == "Encounter" and concept is None:
            given = _dict(_first(resource.get("class")))
            if code := _word(given.get("code")):
                concept = self.concepts.coded(given.get("system"), code, given.get("display"))
        if kind == "DiagnosticReport":
            yield concept, (None, None, None, _word(resource.get("conclusion")))
        elif kind == "Observation":
            components = _dicts(resource.get("component"))
            value = self._value(resource)
            if not components or value != _NOTHING:
                yield concept, value
            for part in components:
                yield self.concepts.of(part.get("code"), how.prefer), self._value(part)
        else:
            yield concept, _NOTHING

    def _medicine(self, resource: Thing, near: Mapping[str, str]) -> int | None:
        concept = self.concepts.of(resource.get("medicationCodeableConcept"), RXNORM)
        if concept is not None:
            return concept
        given = resource.get("medicationReference")
        raw = _reference(given, near)
        if raw is None:
            return self.concepts.of({"text": _dict(given).get("display")}, RXNORM)
        if raw.startswith("#"):
            inside = (c for c in _dicts(resource.get("contained")) if c.get("id") == raw[1:])
            return self.concepts.of(next(inside, {}).get("code"), RXNORM)
        match = _REFERENCE.fullmatch(raw)
        return self.concepts.medicine(match[3]) if match and match[2] == "Medication" else None

    def _series(self, study: Thing) -> Iterator[tuple[int | None, Value]]:
        """A row for each modality and body site; the value counts images, else series."""
        groups: dict[tuple[str, str], list[Thing]] = {}
        for series in _dicts(study.get("series")):
            site = _dict(series.get("bodySite"))
            place = _word(site.get("display")) or _word(site.get("code")) or ""
            groups.setdefault((_token(series.get("modality")) or "", place), []).append(series)
        if not groups:
            given = study.get("modality")
            groups = {(_token(m) or "", ""): [] for m in (given if isinstance(given, list) else [given])}
        for (modality, place), members in groups.items():
            images = [_number(series.get("numberOfInstances")) for series in members]
            counted = [n for n in images if n is not None]
            value = float(sum(counted)) if counted and len(counted) == len(images) else None
            series_ = float(len(members)) if members else None
            if len(groups) == 1:  # then the study's own figures are this group's
                value = _number(study.get("numberOfInstances")) or value
                series_ = _number(study.get("numberOfSeries")) or series_
            concept = self.concepts.coded(f"imaging {place}", modality, place) if modality else None
            if value is not None:
                yield concept, (None, value, "images", None)
            else:
                yield concept, (None, series_, None if series_ is None else "series", None)

    def _value(self, holder: Thing) -> Value:
        """The value of an Observation or of a component."""
        if holder.get("dataAbsentReason"):
            return _NOTHING
        if isinstance(given := holder.get("valueQuantity"), dict):
            return self._quantity(given)
        if isinstance(given := holder.get("valueCodeableConcept"), dict):
            return self.concepts.of(given, SNOMED), None, None, None
        for name, given in holder.items():
            if name.startswith("value") and given is not None:
                if isinstance(given, bool):
                    return None, float(given), None, None
                if name == "valueInteger" and (value := _number(given)) is not None:
                    return None, value, None, None
                return self._text(given)
        return _NOTHING

    def _quantity(self, quantity: Thing) -> Value:
        given = quantity.get("value")
        if given is None:
            return _NOTHING
        value = _number(given)
        if value is None:
            return self._text(given)
        said = None
        if comparator := _word(quantity.get("comparator")):
            self.count["value(s) with a comparator (<, >)"] += 1
            said = f"{comparator}{value!r}"
        unit = _word(quantity.get("code")) or _word(quantity.get("unit"))
        if unit and re.search(r"\s", re.sub(r"\{.*?\}", "", unit)):
            self.count["value(s) have a unit in words, not in UCUM"] += 1
        return None, value, unit, said

    def _text(self, given: object) -> Value:
        text = given if isinstance(given, str) else json.dumps(given, sort_keys=True, ensure_ascii=False)
        if not text.strip():
            return _NOTHING
        bound = re.fullmatch(BOUND, text) is not None
        self.count["value(s) with a comparator (<, >)" if bound else "Observation value(s) are text"] += 1
        return None, None, None, text

    # Rows to tables

    def _flush(self, kind: str) -> None:
        """The waiting rows of a table as a frame with times."""
        rows = self.rows.pop(kind, [])
        cells = dict(zip_longest(COLUMNS, zip(*rows, strict=True), fillvalue=()))
        frame = pl.DataFrame([_column(name, list(cells[name]), dtype) for name, dtype in COLUMNS.items()])
        lost = frame["copy"].is_null()  # all False, but for lines that are refused anyway
        for name in ("time", "known", "until"):
            stamp, bare = self._times(frame[name])
            lost |= frame[name].is_not_null() & stamp.is_null()
            frame = frame.with_columns(stamp, bare.alias(f"{name}_bare"))
        frame = frame.with_columns(pl.when(lost).then(pl.lit("not a time")).alias("no time"))
        frame = frame.with_columns(recorded=pl.col("known").is_not_null())
        how = KINDS.get(kind)
        if how and how.known == "issued":  # what was measured over a period is not known before its end
            frame = _take_until(frame, (_end("until") > _end("known")) | pl.col("known").is_null())
        elif how and how.known:
            keep = (_end("known") > _end("time")).fill_null(False)
            frame = frame.with_columns(
                pl.when(keep).then(pl.col(n)).alias(n) for n in ("known", "known_bare")
            )
        self.parts.setdefault(kind, []).append(frame)

    def _times(self, cells: pl.Series) -> tuple[pl.Series, pl.Series]:
        """FHIR dateTimes as UTC, and whether they are dates without a clock; null = missing or not a time."""
        blank = cells.str.contains(" ", literal=True).fill_null(False)  # FHIR has a T there
        local, ahead, bare = iso(cells.set(blank, None))
        moved = (local - (ahead * 60_000_000).cast(pl.Duration("us"))).fill_null(local)
        stamp = moved.set(bare, None)
        date = cells.set(~cells.str.contains(r"^\d{4}(-\d\d){0,2}$").fill_null(False), None)
        part = (date.str.len_chars() < 10).fill_null(False)
        if part.any():  # a year ends with its December
            first = (date.str.replace(r"^\d{4}$", "${0}-12") + "-01").str.to_date("%Y-%m-%d", strict=False)
            date = date.zip_with(~part, first.dt.month_end().dt.to_string("%Y-%m-%d"))
            self.count["date(s) without day or month stand for their last day"] += int(
                (part & date.is_not_null()).sum()
            )
        day = date.str.to_datetime("%Y-%m-%d", strict=False, time_unit="us").fill_null(local.set(~bare, None))
        self.count["time(s) without a zone read as UTC"] += int((ahead.is_null() & stamp.is_not_null()).sum())
        stamp = stamp.fill_null(day)
        return stamp, day.is_not_null().set(stamp.is_null(), None)

    def door(self) -> StandardTables:
        names, flags = self.concepts.names()
        for url, name in self.urns.items():
            base = url.removesuffix(name)
            if base != url and (person := self.people.get(_tail(name))):
                person.servers.add(base.rstrip("/"))
        self.count["Patient(s) of two servers under one id; taken as one"] = sum(
            len(person.servers) > 1 for person in self.people.values()
        )
        found = [self._resolve(raw) for raw in self.subjects]
        who = _column("id", [id for id, _ in found])
        stray = _column("stray", [why for _, why in found])
        frames = {}
        for kind in [*KINDS, *((self.rows.keys() | self.parts.keys()) - KINDS.keys())]:
            if self.rows.get(kind) or kind not in self.parts:
                self._flush(kind)
            frames[kind] = self._table(kind, pl.concat(self.parts.pop(kind)), names, who, stray)
        frames = self._closed(frames)
        tables = {kind: frame.lazy() for kind, frame in frames.items()}
        last = [
            _latest(frame, name)
            for kind, frame in frames.items()
            for name in ("time", "known", "until")[: 2 + (kind == "Encounter")]
        ]
        people = self._people(pl.concat(last))
        died = people.lazy().filter(pl.col("death").is_not_null() | (pl.col("deceased") == "yes"))
        tables["Patient"] = died.select(
            "id", pl.col("death").alias("time"), pl.col("death_bare").alias("time_bare"), code=pl.lit("DEATH")
        )
        flags += [f"{n} resource(s) of type {kind} not read" for kind, n in sorted(self.unread.items())]
        flags += [f"{n} {what}" for what, n in sorted(self.count.items()) if n]
        return StandardTables(people, tables, (*self.flags, *flags), utc=True, decides=tuple(self.decides))

    def _closed(self, frames: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
        """Ends decades after all that happened, as in 2099-12-31, are not known, nor what was known then."""
        limit = latest_ordinary([f.lazy().filter(pl.col("refused").is_null()) for f in frames.values()])
        for kind, frame in frames.items() if limit is not None else ():
            late = {name: (pl.col(name) > limit).fill_null(False) for name in ("until", "known")}
            odd = frame.select(late["until"].sum().alias("until"), late["known"].sum().alias("known")).row(0)
            if not any(odd):
                continue
            what = [f"{kind}: {odd[0]} end(s)"] * (odd[0] > 0) + [f"{kind}: {odd[1]} known time(s)"] * (
                odd[1] > 0
            )
            told = [f"{one} lie decades after all other dates; taken as not known" for one in what]
            self.flags, self.decides = [*self.flags, *told], [*self.decides, *told]
            frames[kind] = frame.with_columns(
                pl.when(late["known"]).then(pl.lit(NEVER_KNOWN)).otherwise("refused").alias("refused"),
                pl.when(~late["until"]).then("until").alias("until"),
                pl.when(~late["until"]).then("until_bare").alias("until_bare"),
            )
        return frames

    def _resolve(self, raw: str) -> tuple[str | None, str | None]:
        """Id of the patient behind a reference, or why there is none."""
        match = _REFERENCE.fullmatch(self.urns.get(raw, raw))
        if match is None:
            return None, "patient not in the data"
        server, kind, id = match.groups()
        if kind != "Patient":
            return None, "subject is not a patient"
        person = self.people.get(id)
        if person is None or (server and person.servers and server not in person.servers):
            return None, "patient not in the data"
        return id, None

    def _table(
        self, kind: str, frame: pl.DataFrame, names: list[str | None], who: pl.Series, stray: pl.Series
    ) -> pl.DataFrame:
        """One row a node, with its person, its code and why it cannot be used."""
        front = f"{kind.upper()}//"
        coded = pl.Series([None if n is None else front + n for n in names], dtype=pl.String)
        frame = frame.with_columns(
            who.gather(frame["who"]).alias("id"),
            coded.gather(frame["concept"]).alias("code"),
            stray.gather(frame["who"]).alias("stray"),
        ).with_columns(
            pl.coalesce(
                pl.when(pl.col("choice").is_null()).then("refused"),
                "stray",
                pl.when(pl.col("id").is_null()).then(pl.lit("no patient")),
                pl.when(pl.col("code").is_null()).then(pl.lit("no code")),
                "no time",
                "refused",
            ).alias("refused")
        )
        frame = self._once(frame)
        if kind == "Encounter":
            visits = frame.filter(pl.col("refused").is_null() & pl.col("encounter").is_not_null())
            self.visits = visits.unique(["id", "encounter"], maintain_order=True).select(
                "id",
                "encounter",
                pl.col("time").alias("start"),
                pl.col("until").alias("end"),
                pl.col("until_bare").alias("end_bare"),
                pl.col("category").str.to_uppercase().is_in(STAYS).fill_null(False).alias("stay"),
            )
        elif kind == "Condition":
            frame = self._discharged(frame)
        chosen = pl.col("refused").is_in({why for reasons in NO_FACT.values() for why in reasons.values()})
        frame = frame.with_columns(pl.when(chosen).then("choice").alias("choice"))  # nothing else is wrong
        times = [name + bare for name in ("time", "known", "until") for bare in ("", "_bare")]
        said = [name for name in (*NO_FACT, "choice") if frame[name].null_count() < len(frame)]
        given = ("code", "value", "unit", "text", "category", "encounter", "resource", "refused", *said)
        frame = frame.select("id", *times, *given)
        return frame.rename({"category": "class"}) if kind == "Encounter" else frame

    def _discharged(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Diagnoses of an inpatient stay of which nothing says when they were recorded, known at its end.

        A diagnosis without an encounter, or with one that is not there, belongs to the stay that its day lies
        in, of several to the one that ends last.
        """
        free = ~pl.col("recorded") & pl.col("refused").is_null() & pl.col("time").is_not_null()
        rows = frame.with_row_index("nth").filter(free).select("nth", "id", "encounter", "time")
        named = rows.join(self.visits, on=["id", "encounter"])
        lone = rows.join(self.visits, on=["id", "encounter"], how="anti")
        dated = lone.join(self.visits.drop("encounter").drop_nulls("end"), on="id").filter(
            pl.col("time").dt.date().is_between(pl.col("start").dt.date(), pl.col("end").dt.date())
        )
        kept = ["nth", "end", "end_bare", "stay"]
        ends = pl.concat([named.select(kept), dated.select(kept)]).filter("stay")
        ends = ends.group_by("nth").agg(pl.col("end", "end_bare").get(_end("end").arg_max()))
        frame = frame.with_row_index("nth").join(ends, on="nth", how="left", maintain_order="left")
        later = (_end("end") > _end("time")).fill_null(False)
        alone = len(lone) - dated.filter("stay")["nth"].n_unique()
        self.count["Condition(s) without recordedDate, of no encounter and in no stay: known at onset"] += (
            alone
        )
        moved = int(frame.select(later).to_series().sum())
        self.count["Condition(s) without recordedDate, in an inpatient stay: known at its end"] += moved
        endless = pl.col("nth").is_in(ends.filter(pl.col("end").is_null())["nth"].implode())
        return frame.with_columns(
            pl.when(later).then("end").otherwise("known").alias("known"),
            pl.when(later).then("end_bare").otherwise("known_bare").alias("known_bare"),
            pl.when(endless)
            .then(pl.lit("inpatient stay without an end"))
            .otherwise("refused")
            .alias("refused"),
        ).drop("nth", "end", "end_bare")

    def _once(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Each resource once: why the rows of its other copies are not used."""
        again = (
            frame.lazy()
            .filter(pl.col("resource").is_not_null())
            .group_by("resource")
            .agg(pl.col("copy").n_unique().alias("n"))
            .filter(pl.col("n") > 1)
            .collect()
        )
        if not len(again):
            return frame
        rows = frame.join(again, on="resource", how="semi")
        content = rows.drop("copy", "version", "who", "stray")
        copies = (
            rows.select("resource", "copy", "version", content.hash_rows().alias("content") // 65536)
            .group_by("resource", "copy")
            .agg(pl.col("version").first(), pl.col("content").sum())
            .sort("copy")
        )
        stamp, _ = self._times(copies["version"])
        newest = pl.col("at") == pl.col("at").max()
        same = pl.col("content").n_unique() == 1
        dated = pl.col("at").is_not_null().all() & (pl.col("content").filter(newest).n_unique() == 1)
        copies = copies.with_columns(stamp.alias("at")).with_columns(
            pl.when(same)
            .then(pl.col("content").first())
            .when(dated)
            .then(pl.col("content").filter(newest).first())
            .over("resource")
            .alias("right")
        )
        right = pl.col("content") == pl.col("right")
        copies = copies.with_columns(
            pl.when(pl.col("right").is_null())
            .then(pl.lit("versions of a resource disagree"))
            .when(~right)
            .then(pl.lit("older version of a resource"))
            .when(pl.col("copy") != pl.col("copy").filter(right).min().over("resource"))
            .then(pl.lit("repeat of a resource"))
            .alias("repeat")
        )
        for why, n in copies["repeat"].drop_nulls().value_counts().iter_rows():
            self.count[f"resource(s) refused: {why}"] += n
        return frame.join(
            copies.select("copy", "repeat"), on="copy", how="left", maintain_order="left"
        ).with_columns(pl.coalesce("repeat", "refused").alias("refused"))

    def _people(self, last: pl.DataFrame) -> pl.DataFrame:
        """A row a person, by id."""
        said = zip(*(person.said for person in self.people.values()), strict=True)
        cells = dict(zip_longest(FIELDS, said, fillvalue=()))
        people = pl.DataFrame(
            [_column("id", list(self.people)), *(_column(name, list(cells[name])) for name in FIELDS)]
        )
        people = people.with_columns(pl.coalesce("moment", "birth").alias("birth")).drop("moment")
        for name in ("birth", "death"):
            stamp, bare = self._times(people[name])
            if lost := people[name].count() - stamp.count():
                self.count[f"Patient(s) with a {name} that is not a date"] += lost
            people = people.with_columns(stamp, bare.alias(f"{name}_bare"))
        died = people.select("id", last="death", last_bare="death_bare").drop_nulls("last")
        last = pl.concat([last, died], how="vertical_relaxed")  # whoever died was observed until then
        last = last.group_by("id").agg(_of_latest("last"), _of_latest("last_bare"))
        order = ["id", "birth", "birth_bare", "gender", "race", "ethnicity", "marital", "death", "death_bare"]
        return (
            people.join(last, on="id", how="left").select(*order, "deceased", "last", "last_bare").sort("id")
        )


def _deceased(patient: Thing) -> str | None:
    """Whether a Patient without a date of death is dead: "yes", "no", or None where nothing says so.

    A flag may be written as text or number. A date that is there and cannot be had, as of the reason
    "unknown", is that of somebody who died; "not-applicable" is that of somebody who did not.
    """
    flag = patient.get("deceasedBoolean")
    said = None if flag is None else str(flag).strip().lower()
    if patient.get("deceasedDateTime") or said in ("true", "1", "1.0"):
        return "yes"
    reasons = _dicts(_dict(patient.get("_deceasedDateTime")).get("extension"))
    if reasons and not any(_word(reason.get("valueCode")) == "not-applicable" for reason in reasons):
        return "yes"
    return "no" if said in ("false", "0", "0.0") else None


def _reference(given: object, near: Mapping[str, str]) -> str | None:
    """A Reference as Type/id where the Bundle knows it, else as it stands; None = there is none."""
    raw = _word(_dict(given).get("reference"))
    return None if raw is None else near.get(raw, raw)


def _tail(url: str) -> str:
    """The id at the end of an address: `1` of `https://server/Patient/1`, the uuid of `urn:uuid:...`."""
    return re.split(r"[/:]", url.partition("/_history/")[0])[-1]


def _point(table: dict[str, str], url: str, name: str) -> None:
    """An address leads to one resource; to two means to none."""
    if table.setdefault(url, name) != name:
        table[url] = _NOWHERE


def _instant(text: str | None) -> datetime | None:
    try:
        at = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return at if at.tzinfo else None


def _column(name: str, cells: list[Any], dtype: Any = pl.String) -> pl.Series:
    """A column; half a surrogate pair, which JSON may hold and text may not, becomes a question mark."""
    try:
        return pl.Series(name, cells, dtype=dtype)
    except UnicodeEncodeError:
        whole = [c if c is None else c.encode("utf-8", "replace").decode() for c in cells]
        return pl.Series(name, whole, dtype=dtype)


def _end(name: str) -> pl.Expr:
    """The last second of a bare date, any other time as it is."""
    return end_of_day(pl.col(name), pl.col(f"{name}_bare"))


def _take_until(frame: pl.DataFrame, where: pl.Expr) -> pl.DataFrame:
    """`until` as `known` at some rows, and no interval at all."""
    return frame.with_columns(
        pl.when(where).then(pl.col("until")).otherwise(pl.col("known")).alias("known"),
        pl.when(where).then(pl.col("until_bare")).otherwise(pl.col("known_bare")).alias("known_bare"),
    ).with_columns(
        pl.lit(None, dtype=pl.Datetime("us")).alias("until"),
        pl.lit(None, dtype=pl.Boolean).alias("until_bare"),
    )


def _latest(frame: pl.DataFrame, name: str) -> pl.DataFrame:
    """The latest of one kind of time of each person, in rows that can be used."""
    rows = frame.filter(pl.col("refused").is_null() & pl.col(name).is_not_null())
    rows = rows.select("id", pl.col(name).alias("last"), pl.col(f"{name}_bare").alias("last_bare"))
    return rows.group_by("id").agg(_of_latest("last"), _of_latest("last_bare"))


def _of_latest(name: str) -> pl.Expr:
    return pl.col(name).get(_end("last").arg_max())
