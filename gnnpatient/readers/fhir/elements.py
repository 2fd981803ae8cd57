"""Pieces of a resource; anything may be of the wrong shape and is then not there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

REFERENCE = re.compile(r"(?:(.*)/)?([A-Z][A-Za-z]+)/([^/?#|]+)(?:/_history/[^/]*)?")
NOWHERE = "?"  # a reference that leads to no resource, or to two

Element = dict[str, Any]


def as_dict(given: object) -> Element:
    return given if isinstance(given, dict) else {}


def as_dicts(given: object) -> list[Element]:
    return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []


def as_text(given: object) -> str | None:
    return given.strip() or None if isinstance(given, str) else None


def first(given: object) -> object:
    """An element that may stand once or in a list."""
    return given[0] if isinstance(given, list) and given else given


def moment_text(resource: Element, fields: Iterable[str], end: str) -> str | None:
    """The first time that is given; of a Period its `end`."""
    for name in fields:
        given = resource.get(name)
        if given is not None and (word := as_text(given.get(end) if isinstance(given, dict) else given)):
            return word
    return None


def as_number(given: object) -> float | None:
    """A finite number, or None."""
    if isinstance(given, int | float) and not isinstance(given, bool) and abs(given) < 1e300:
        return float(given)
    return None


def code_of(concept: object) -> str | None:
    """The code of a Coding or of the first of a CodeableConcept, or a code as it stands."""
    if isinstance(concept, str):
        return as_text(concept)
    concept = as_dict(concept)
    return as_text(concept.get("code")) or next(
        (word for coding in as_dicts(concept.get("coding")) if (word := as_text(coding.get("code")))), None
    )


def lower_code(concept: object) -> str | None:
    """The same of a code of FHIR's own, which is in small letters however it is written."""
    word = code_of(concept)
    return None if word is None else word.lower()


def label(concept: object) -> str | None:
    """What a CodeableConcept is called, for people to read."""
    concept = as_dict(concept)
    displays = (as_text(coding.get("display")) for coding in as_dicts(concept.get("coding")))
    return next(filter(None, displays), None) or as_text(concept.get("text")) or code_of(concept)


def reference(given: object, near: Mapping[str, str]) -> str | None:
    """A Reference as Type/id where the Bundle knows it, else as it stands; None = there is none."""
    raw = as_text(as_dict(given).get("reference"))
    return None if raw is None else near.get(raw, raw)


def last_step(url: str) -> str:
    """The id at the end of an address: `1` of `https://server/Patient/1`, the uuid of `urn:uuid:...`."""
    return re.split(r"[/:]", url.partition("/_history/")[0])[-1]


def one_line(text: str) -> str:
    """On one line, without characters that a terminal would obey."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
