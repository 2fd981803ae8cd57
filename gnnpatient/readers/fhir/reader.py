"""A folder of FHIR, resource by resource: a parsed file is gone before the next one is opened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from gnnpatient.readers.fhir.concepts import Concepts
from gnnpatient.readers.fhir.documents import (
    NotJson,
    json_suffix,
    numbered_lines,
    parse_json,
    read_document,
    refuse_damage,
)
from gnnpatient.readers.fhir.elements import NOWHERE, Element, as_dict, as_dicts, as_text, last_step, one_line
from gnnpatient.readers.fhir.events import Events
from gnnpatient.readers.fhir.notes import Notes
from gnnpatient.readers.fhir.patients import Patients
from gnnpatient.readers.fhir.resources import RESOURCE_TYPES, RXNORM


class Resources:
    """What was read so far: patients, events, the codes of both, and what was not read."""

    def __init__(self) -> None:
        self.notes = Notes()
        self.concepts = Concepts()
        self.patients = Patients(self.notes)
        self.events = Events(self.concepts, self.notes)
        self.unread: Counter[str] = Counter()  # by type

    def read_file(self, path: Path, name: str) -> None:
        """One file, by its name a document or a bulk export.

        Parameters
        ----------
        path : Path
            The file.
        name : str
            What a flag calls it.

        Raises
        ------
        InputError
            If it is damaged, no JSON or no FHIR.
        """
        with refuse_damage(path):
            if json_suffix(path) == ".json":
                self.take(read_document(path), path)
            else:
                self.read_lines(path, name)

    def read_lines(self, path: Path, name: str) -> None:
        """A bulk export. A line that is no resource is a refused row; the others stand.

        Parameters
        ----------
        path : Path
            The file.
        name : str
            What a flag calls it.
        """
        types: set[str] = set()
        lost: list[tuple[int, str, str]] = []  # number, type that the line seems to have, why
        for number, line in numbered_lines(path):
            try:
                found, why = parse_json(line), "not a resource"
            except NotJson:
                found, why = None, "not JSON"
            if isinstance(found, dict) and isinstance(found.get("resourceType"), str):
                self.take(found, path)
                types.add(found["resourceType"])
            else:
                named = re.search(rb'"resourceType"\s*:\s*"([A-Za-z]+)"', line)
                lost.append((number, named[1].decode() if named else "", why))
        events = types & RESOURCE_TYPES.keys()
        of_all = events.pop() if len(events) == 1 else "Resource"
        numbers: dict[str, list[int]] = {}
        for number, named_type, why in lost:
            numbers.setdefault(why, []).append(number)
            other = "Resource" if named_type else of_all
            self.events.refuse(named_type if named_type in RESOURCE_TYPES else other, why)
        for why, found_at in numbers.items():
            listed = ", ".join(map(str, found_at[:5])) + ", ..." * (len(found_at) > 5)
            self.notes.flags.append(f"{one_line(name)}: {len(found_at)} line(s) {why}: {listed}")

    def take(
        self, resource: Element, path: Path, bundle_urls: Mapping[str, str] | None = None, id: str = ""
    ) -> None:
        """One resource, or all of a Bundle.

        Parameters
        ----------
        resource : dict
            One resource, as JSON gives it.
        path : Path
            Its file, for the message.
        bundle_urls : mapping of str to str, optional
            The resources of its Bundle: Type/id by full URL.
        id : str
            For a resource that has none of its own.
        """
        kind = resource.get("resourceType")
        bundle_urls, id = bundle_urls or {}, as_text(resource.get("id")) or id
        if kind in RESOURCE_TYPES:
            self.events.add(kind, resource, bundle_urls, id)
        elif kind == "Bundle":
            self._bundle(resource, path)
        elif kind == "Patient":
            self.patients.add(resource, id, path)
        elif kind == "Medication":
            code = self.concepts.of(resource.get("code"), RXNORM)
            if id and self.concepts.medicines.setdefault(id, code) != code:
                self.concepts.medicines[id] = None
        else:
            known = isinstance(kind, str) and re.fullmatch(r"[A-Za-z]{1,64}", kind)
            self.unread[str(kind) if known else "unknown"] += 1

    def _bundle(self, bundle: Element, path: Path) -> None:
        entries = [(e, as_dict(e.get("resource"))) for e in as_dicts(bundle.get("entry"))]
        bundle_urls: dict[str, str] = {}
        for entry, resource in entries:
            if not resource:
                self.notes.count["deletion(s) in bundles not applied"] += (
                    as_dict(entry.get("request")).get("method") == "DELETE"
                )
            elif url := as_text(entry.get("fullUrl")):
                name = f"{resource.get('resourceType')}/{as_text(resource.get('id')) or last_step(url)}"
                _add_address(bundle_urls, url, name)
                if resource.get("resourceType") == "Patient":
                    _add_address(self.patients.addresses, url, name)
        for entry, resource in entries:
            if resource:
                self.take(resource, path, bundle_urls, last_step(as_text(entry.get("fullUrl")) or ""))


def _add_address(table: dict[str, str], url: str, name: str) -> None:
    """An address leads to one resource; to two means to none."""
    if table.setdefault(url, name) != name:
        table[url] = NOWHERE
